"""Images that ``predict`` reads by windows, and GeoTIFFs: which they are, and what is written of them."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from lightning_seg.data.reading import USUAL, ReadingRules
from lightning_seg.data.reading.headers import header_of
from lightning_seg.data.reading.storage import named, open_file
from lightning_seg.data.reading.tiff import is_georeferenced
from lightning_seg.errors import DataError, UnfitImageError
from lightning_seg.files import inside, replacing
from lightning_seg.predictions.formats import save
from lightning_seg.predictions.pictures import overlay
from lightning_seg.predictions.prediction import Prediction
from lightning_seg.sources import AnyFile
from lightning_seg.structures import DatasetInfo

if TYPE_CHECKING:  # of an extra
    from lightning_seg.geo.windows import WindowedImage

SUFFIXES = {"masks": ".tif", "overlays": ".jpg", "polygons": ".gpkg"}
"""Of the formats that a label map of any size is written in."""

PLACED = ("masks", "polygons")
"""Those that say where an image lies."""

_TIFF = (".tif", ".tiff")

_LARGE = 2**26
"""Pixels of a plain TIFF from which it is read by windows."""

_BYTES_OF_A_PIXEL = 64
"""What evaluating an image as a whole takes at the least: a quarter of what a ResNet-18 with FPN does."""

_PREVIEW = 2048
"""Longest side of an overlay of an image that was read by windows."""


class RasterRules:
    """Which images are read by windows, and which cannot be evaluated at all; can be pickled.

    Args:
        rules: what may be read.
        by_windows: whether the network sees windows of images as they are stored.
        memory: bytes that evaluating may take; None: it is not known.
    """

    def __init__(self, rules: ReadingRules = USUAL, by_windows: bool = False, memory: int | None = None) -> None:
        self.rules = rules
        self.by_windows = by_windows
        self.memory = memory

    def __call__(self, file: AnyFile) -> "WindowedImage | None":
        """Open an image that is to be read by windows: a GeoTIFF, or a TIFF of more than 67 megapixels.

        Returns:
            None where the image is to be read as a whole.

        Raises:
            UnreadableError: if it is missing or no image.
            UnfitImageError: if it does not fit into memory, or cannot be read by windows.
        """
        with named(file, "image"), open_file(file) as opened:
            header = header_of(opened)
            is_geotiff = is_georeferenced(opened)
        height, width = header.stored
        if not self.by_windows:
            self._check_memory(file, height, width)
        elif header.format == "TIFF" and isinstance(file, Path) and (is_geotiff or height * width > _LARGE):
            if has_libraries():
                from lightning_seg.geo.windows import WindowedImage

                return WindowedImage(file, self.rules)
            if height * width > _LARGE:
                raise UnfitImageError(
                    f"image {file} is {width}×{height} pixels, and reading it by windows needs rasterio: "
                    "pip install 'lightning_seg[geo]'"
                )
        return None

    def place(self, file: Path) -> "WindowedImage | None":
        """Open a GeoTIFF that was read as a whole, for its place; None: it is none, or its place cannot be kept."""
        if file.suffix.lower() not in _TIFF or not file.is_file():  # a frame of a video, a member of an archive
            return None
        with open_file(file) as opened:
            if not is_georeferenced(opened):
                return None
        if not has_libraries():
            warnings.warn(
                "The label maps of GeoTIFFs are written as PNGs, which do not say where they lie: "
                "pip install 'lightning_seg[geo]'",
                stacklevel=2,
            )
            return None
        from lightning_seg.geo.windows import WindowedImage

        try:
            return WindowedImage(file, self.rules)
        except UnfitImageError as error:
            warnings.warn(f"A label map is written as a PNG, which does not say where it lies: {error}", stacklevel=2)
            return None

    def _check_memory(self, file: AnyFile, height: int, width: int) -> None:
        least = height * width * _BYTES_OF_A_PIXEL
        if self.memory is not None and least > self.memory:
            raise UnfitImageError(
                f"image {file} is {width}×{height} pixels: evaluating it as a whole takes {least / 2**30:.1f} GiB at "
                f"the least, and {self.memory / 2**30:.1f} GiB are free. Evaluate windows of it: "
                "--model.inference SlidingWindow"
            )


def has_libraries() -> bool:
    """Whether those of the extra ``geo`` are installed."""
    return all(find_spec(name) is not None for name in ("rasterio", "pyogrio", "shapely"))


def files_of(folder: Path, form: str, name: str) -> list[Path]:
    """Where a raster's prediction lies, if it has the format."""
    return [folder / form / (name + SUFFIXES[form])] if form in SUFFIXES else []


def save_raster(
    image: "WindowedImage",
    label_bands: Callable[[int], Iterator[tuple[int, Tensor]]],
    name: str,
    info: DatasetInfo,
    folder: Path,
    formats: Sequence[str],
    made_with: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = True,
) -> None:
    """Write ``masks/<name>.tif`` with the image's place, and of it ``polygons/<name>.gpkg`` and a small overlay.

    Args:
        image: in its file.
        label_bands: see :func:`lightning_seg.geo.predicting.predict_label_map`.
        name: the files' relative path without suffix.
        info: class names and palette.
        folder: in which each format has a folder.
        formats: names of :data:`SUFFIXES`; where there is one, the label map is written too: the others are made of it.
        made_with: what decides the labels, beside the image.
        overwrite: forget rows of a label map that a process left that was killed.

    Raises:
        DataError: if a format is none of a raster's, or the image is damaged.
        DiskFullError: if there is no room.
    """
    from lightning_seg.geo.predicting import predict_label_map
    from lightning_seg.geo.tracing import polygons_of

    if others := [form for form in formats if form not in SUFFIXES]:
        raise DataError(
            f"image {image.path} is read by windows, of which --save writes {', '.join(SUFFIXES)}, but not "
            f"{', '.join(others)}: leave it out, or evaluate whole images (--model.inference null)"
        )
    if not formats:
        return
    labels = inside(folder / "masks", name + SUFFIXES["masks"])
    predict_label_map(image, label_bands, labels, info, made_with or {}, overwrite)
    if "polygons" in formats:
        polygons_of(labels, inside(folder / "polygons", name + SUFFIXES["polygons"]))
    if "overlays" in formats:
        _save_overlay(image, labels, inside(folder / "overlays", name + SUFFIXES["overlays"]), info)


def save_whole(
    prediction: Prediction, folder: Path, formats: Sequence[str], place: "WindowedImage | None" = None
) -> None:
    """Write a prediction in some formats, in those of :data:`PLACED` as a raster where the image has a place.

    Args:
        prediction: of one image.
        folder: in which each format has a folder.
        formats: names of :data:`~lightning_seg.predictions.FORMATS`.
        place: the image in its file, which is closed; None: it does not say where it lies.

    Raises:
        DataError, DiskFullError: as :func:`~lightning_seg.predictions.save`.
    """
    if place is not None:
        bands = [(0, torch.from_numpy(prediction.labels))]
        with place:
            placed = [form for form in formats if form in PLACED]
            save_raster(place, lambda start: iter(bands), prediction.name, prediction.info, folder, placed)
        formats = [form for form in formats if form not in PLACED]
    save(prediction, folder, formats)


def _save_overlay(image: "WindowedImage", labels: Path, path: Path, info: DatasetInfo) -> None:
    import rasterio

    from lightning_seg.data.reading.gdal import gdal

    small = image.preview(_PREVIEW)
    with gdal(), rasterio.open(labels) as file:
        ids = file.read(1, out_shape=small.shape[:2])
    with replacing(path) as out:
        Image.fromarray(overlay(small, ids, info)).save(out, "JPEG", quality=90)
