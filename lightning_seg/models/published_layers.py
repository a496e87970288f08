"""Imports the layers of published models from transformers, an extra."""

from importlib import import_module
from typing import Any

from lightning_seg.errors import DependencyError


def layers_of(model: str, whose: str) -> Any:
    """The module of transformers that has a model's layers and its config class.

    Args:
        model: transformers' name, such as ``mask2former``.
        whose: what is built of them here, for the error.

    Raises:
        DependencyError: if transformers is missing, or cannot be imported.
    """
    try:
        return import_module(f"transformers.models.{model}.modeling_{model}")
    except ImportError as error:
        raise DependencyError(
            f"{whose} is built of transformers' layers, which cannot be imported ({error}): "
            "pip install 'lightning_seg[transformers]'"
        ) from error
