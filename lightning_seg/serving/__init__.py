"""A trained model behind HTTP.

``app`` has the routes, ``service`` turns bytes into results, ``batching`` computes them, ``server`` runs it all.
This room is imported only where it is used, since the libraries of the extra ``serve`` need not be installed.
"""

from importlib import import_module

from lightning_seg.errors import DependencyError

for _library in ("fastapi", "uvicorn"):
    try:
        import_module(_library)
    except ImportError as error:
        raise DependencyError(
            f"{_library} is not installed ({error}), and serving needs it: pip install 'lightning_seg[serve]'"
        ) from None
