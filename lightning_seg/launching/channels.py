"""Compares the channels of the data with the pixel mean of the network, before the first image is read."""

from collections.abc import Sequence
from typing import Any

from lightning_seg.models.recipe import Recipe
from lightning_seg.models.segmentor import Segmentor
from lightning_seg.structures import DatasetInfo

_BYTES = (103.53, 116.28, 123.675)
"""ImageNet's mean of blue, green and red, in bytes: Detectron2's default."""


def channels_problem(
    info: DatasetInfo, segmentor: Segmentor, recipe: Recipe, configs: Sequence[Any] = ()
) -> str | None:
    """Why a network is not for images of this data: it has a mean for another number of channels; None if it is.

    Args:
        info: of the data.
        segmentor: the network.
        recipe: that it was built from.
        configs: files of the run's settings, for the command that computes the right numbers.
    """
    keys, given = recipe.keys, segmentor.channels
    if given == info.channels:
        return None
    command = f"python -m lightning_seg.audit {' '.join(f'--config {file}' for file in configs) or '--config …'}"
    if info.channels == 3:
        return (
            f"{keys.pixel_mean} has {given} values, but the network gets every image with 3 channels, also a grey one: "
            f"give one value for each, or name the bands to read in data.bands ({command} then prints their means)"
        )
    return (
        f"the network gets every image with {info.channels} channels (data.bands), but {keys.pixel_mean} has {given} "
        f"values: `{command}` prints the lines of {keys.pixel_mean} and {keys.pixel_std} for model.overrides"
    )


def units_notice(info: DatasetInfo, segmentor: Segmentor, recipe: Recipe) -> str | None:
    """A warning that pixels of more than 8 bits would be normalised with the mean of bytes; None if they would not."""
    mean = sorted(segmentor.network.pixel_mean.flatten().tolist())
    is_of_bytes = len(mean) == 3 and all(abs(one - other) < 0.01 for one, other in zip(mean, _BYTES, strict=True))
    if info.dtype == "uint8" or not is_of_bytes:
        return None
    keys = recipe.keys
    return (
        f"the images hold {info.dtype}, but {keys.pixel_mean} is that of ImageNet's bytes, 0 to 255: if their values "
        f"are others, give {keys.pixel_mean} and {keys.pixel_std} in their units "
        "(python -m lightning_seg.audit --config … prints the lines)"
    )
