"""Crops at random, so that more than one class shows, as Detectron2's DeepLab and PointRend recipes do."""

from typing import Annotated

from albumentations.core.transforms_interface import BaseTransformInitSchema
from pydantic import Field

from lightning_seg.data.transforms.random_scale_crop import RandomScaleCrop


class CategoryLimitedCrop(RandomScaleCrop):
    """Takes a random crop of an image as it is, preferably one in which no class covers too much.

    The rule is Detectron2's (``RandomCrop_CategoryAreaConstraint``, ``INPUT.CROP.SINGLE_CATEGORY_MAX_AREA``): of up to
    ten crops the first is taken that shows several classes, none on ``max_fraction`` of the labelled pixels or more;
    or the last one. Images that are smaller than the crop are padded evenly on all sides. To scale the image as well,
    give :class:`RandomScaleCrop` a ``max_fraction``.

    Args:
        height: of the crop.
        width: of the crop.
        max_fraction: largest part of the crop's labelled pixels that one class may cover. 1: any crop will do.
        attempts: how many crops are drawn at most.
        fill: value, or one a channel, of the image's padding.
        fill_mask: value of the mask's padding, and of pixels that do not count;
            :func:`~lightning_seg.data.transforms.build_pipeline` sets it to the ignore index.
        p: probability that the transform is applied.
    """

    class InitSchema(BaseTransformInitSchema):  # type: ignore[misc]  # albumentations is untyped
        height: Annotated[int, Field(ge=1)]
        width: Annotated[int, Field(ge=1)]
        max_fraction: Annotated[float, Field(gt=0, le=1)]
        attempts: Annotated[int, Field(ge=1)]
        fill: float | tuple[float, ...]
        fill_mask: float

    def __init__(
        self,
        height: int,
        width: int,
        max_fraction: float = 0.75,
        attempts: int = 10,
        fill: float | tuple[float, ...] = 0.0,
        fill_mask: float = 255.0,
        p: float = 1.0,
    ) -> None:
        super().__init__(
            height=height, width=width, scale_limits=(1.0, 1.0), max_fraction=max_fraction, attempts=attempts,
            fill=fill, fill_mask=fill_mask, p=p,
        )  # fmt: skip
