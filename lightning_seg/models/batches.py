"""Prepares the images and masks of a batch for a network: checks their shapes, and stacks them."""

import torch
from torch import Tensor

from lightning_seg.errors import ConfigError, DataError
from lightning_seg.structures import Item


def stack(tensors: list[Tensor]) -> list[Tensor]:
    """One stack if all have one size, so that a GPU gets one operation for all; else a stack for each."""
    if len({tensor.shape for tensor in tensors}) == 1:
        return [torch.stack(tensors)]
    return [tensor[None] for tensor in tensors]


def refuse_misshapen(sample: Item) -> None:
    """Raise a DataError unless the image has three channels, and the mask, if there is one, the size of the image."""
    image, mask, name = sample["image"], sample.get("sem_seg"), sample.get("file_name", "of the batch")
    if image.ndim != 3 or len(image) != 3:
        raise DataError(
            f"image {name} is a tensor of shape {tuple(image.shape)}, but (3, height, width) is needed: leave out the "
            "transform that changes its channels"
        )
    if mask is not None and mask.shape != image.shape[1:]:
        raise DataError(
            f"the mask of image {name} has shape {tuple(mask.shape)}, but the image {tuple(image.shape[1:])}: leave "
            "out the transform that changes only one of them"
        )


def refuse_grey(pixel_mean: Tensor) -> None:
    """Raise a ConfigError if a config is for images that do not have three channels."""
    if len(pixel_mean) != 3:
        raise ConfigError(
            f"MODEL.PIXEL_MEAN has {len(pixel_mean)} values, but the network gets every image with 3 channels, also "
            "a grey one: give one value for each"
        )
