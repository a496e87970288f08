"""Images larger than memory: TIFFs are read by windows, label maps become tiled GeoTIFFs and polygons.

``predicting`` goes from an image to its label map: ``windows`` reads, ``journal`` keeps the rows that are done, ``cog``
makes a Cloud-Optimised GeoTIFF of them. ``tracing`` goes from a label map to polygons: ``polygons`` traces regions,
``joining`` joins those of neighbouring bands, ``vectors`` writes them. This room is imported only where it is used,
since the libraries of the extra ``geo`` need not be installed.
"""

from importlib import import_module

from lightning_seg.errors import DependencyError

for _library in ("rasterio", "pyogrio", "shapely"):
    try:
        import_module(_library)
    except ImportError as error:
        raise DependencyError(
            f"{_library} is not installed ({error}), and GeoTIFFs, polygons and images larger than memory need it: "
            "pip install 'lightning_seg[geo]'"
        ) from None
