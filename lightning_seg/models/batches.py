"""Prepares the images and masks of a batch for a network: checks their shapes, stacks and normalises them."""

from typing import Any

import torch
from torch import Tensor

from lightning_seg.errors import ConfigError, DataError
from lightning_seg.models.image_layers import image_layers
from lightning_seg.models.weights.keys import ConfigKeys
from lightning_seg.structures import Item


def stack(tensors: list[Tensor]) -> list[Tensor]:
    """One stack if all have one size, so that a GPU gets one operation for all; else a stack for each."""
    if len({tensor.shape for tensor in tensors}) == 1:
        return [torch.stack(tensors)]
    return [tensor[None] for tensor in tensors]


def as_computed(image: Tensor) -> Tensor:
    """An image in a type that a network computes with: bytes and floats as they are, other integers as float32.

    torch has few operations for uint16, and none of them on some devices.
    """
    return image if image.dtype == torch.uint8 or image.is_floating_point() else image.float()


def normalise(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """What a network sees of pixels (N, C, H, W) that :func:`as_computed` gave, in the type of ``mean`` (C, 1, 1)."""
    return ((pixels - mean) / std).to(mean.dtype)


def refuse_misshapen(sample: Item, channels: int) -> None:
    """Raise a DataError unless the image has so many channels, and the mask, if there is one, the size of the image."""
    image, mask, name = sample["image"], sample.get("sem_seg"), sample.get("file_name", "of the batch")
    if image.ndim != 3 or len(image) != channels:
        raise DataError(
            f"image {name} is a tensor of shape {tuple(image.shape)}, but ({channels}, height, width) is needed: leave "
            "out the transform that changes its channels, or give the network a pixel mean for each channel"
        )
    if mask is not None and mask.shape != image.shape[1:]:
        raise DataError(
            f"the mask of image {name} has shape {tuple(mask.shape)}, but the image {tuple(image.shape[1:])}: leave "
            "out the transform that changes only one of them"
        )


def refuse_unusable_pixels(mean: Tensor, std: Tensor, keys: ConfigKeys) -> None:
    """Raise a ConfigError unless each channel has one mean, and one standard deviation above 0.

    Args:
        mean: (C, 1, 1).
        std: (C', 1, 1).
        keys: of the config that they come from.
    """
    if len(mean) == 0 or len(mean) != len(std):
        raise ConfigError(
            f"{keys.pixel_mean} has {len(mean)} values and {keys.pixel_std} {len(std)}, but each channel needs one of "
            "both: set both in model.overrides; python -m lightning_seg.audit --config … prints the lines"
        )
    values = std.flatten().tolist()
    if not (mean.isfinite().all() and all(0 < value < float("inf") for value in values)):
        raise ConfigError(
            f"{keys.pixel_mean} is {mean.flatten().tolist()} and {keys.pixel_std} {values}, but finite numbers, and "
            "standard deviations above 0, are needed"
        )


def refuse_other_input(network: Any, channels: int, keys: ConfigKeys) -> None:
    """Raise a ConfigError if a layer was made for images of another number of channels than the pixel mean has."""
    modules = dict(network.named_modules())
    for name in image_layers(network, channels):
        if (takes := modules[name].in_channels) != channels:
            raise ConfigError(
                f"{keys.pixel_mean} has {channels} values, but {name} was built for images of {takes} channels: give "
                f"{takes} values, or build it for {channels}; in a LazyConfig by a transformer's in_chans or a stem's "
                f"in_channels, such as --model.overrides.model.backbone.bottom_up.stem.in_channels {channels}"
            )
