"""What a network needs of the images and masks of a batch: their shapes, and few large tensors."""

import torch
from torch import Tensor

from lightning_seg.errors import ConfigError, DataError
from lightning_seg.structures import Item


def stack(tensors: list[Tensor]) -> list[Tensor]:
    """One stack where all are of one size, so that a GPU gets one operation for all; else each alone."""
    if len({tensor.shape for tensor in tensors}) == 1:
        return [torch.stack(tensors)]
    return [tensor[None] for tensor in tensors]


def refuse_misshapen(sample: Item) -> None:
    """Raise a DataError unless the image has three channels, and the mask, where there is one, its size."""
    image, mask, name = sample["image"], sample.get("sem_seg"), sample.get("file_name", "of the batch")
    if image.ndim != 3 or len(image) != 3:
        raise DataError(
            f"image {name} is a tensor of shape {tuple(image.shape)}, but (3, height, width) is needed: leave out the "
            "transform that changes its channels"
        )
    if mask is not None and mask.shape != image.shape[1:]:
        raise DataError(
            f"the mask of image {name} has shape {tuple(mask.shape)}, but the image {tuple(image.shape[1:])}: leave "
            "out the transform that changes one of them alone"
        )


def refuse_grey(pixel_mean: Tensor) -> None:
    """Raise a ConfigError where a config is for images of another number of channels than three."""
    if len(pixel_mean) != 3:
        raise ConfigError(
            f"MODEL.PIXEL_MEAN has {len(pixel_mean)} values, but every image is given to the network with 3 channels, "
            "grey ones too: give one value for each"
        )
