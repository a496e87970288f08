"""Checks what pip cannot guarantee, and says what to do if it fails: ``python -m lightning_seg.installation``."""

import importlib
import sys
import warnings

from lightning_seg.errors import DependencyError
from lightning_seg.models.config import require_detectron2

_REMEDIES = {
    "torch": "run `make clean install`; on an unusual platform, first install torch as pytorch.org says",
    "torchvision": (
        "torch and torchvision must be of one kind and of releases that belong together (a CPU-only torch does not go "
        "with torchvision from PyPI): uninstall both, then run `make install`"
    ),
    "detectron2": "install again: pip uninstall sal-detectron2 detectron2, then run `make install`",
}


def main() -> None:
    """Import torch, torchvision and Detectron2 and print their versions.

    Raises:
        SystemExit: with status 1 and a remedy, if one cannot be imported.
    """
    versions = []
    for name, remedy in _REMEDIES.items():
        try:
            if name == "detectron2":
                require_detectron2()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                module = importlib.import_module(name)
        except DependencyError as error:
            sys.exit(f"error: {error}")
        except Exception as error:  # a broken binary may raise anything
            sys.exit(f"error: import {name} failed ({type(error).__name__}: {error}): {remedy}")
        versions.append(f"{name} {module.__version__}")
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"lightning_seg is ready: {', '.join(versions)}, on {device}")


if __name__ == "__main__":
    main()
