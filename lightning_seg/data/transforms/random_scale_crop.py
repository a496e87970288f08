"""Scales, pads and crops at random in one step, at the cost of the crop instead of that of the scaled image."""

from collections.abc import Sequence
from typing import Annotated, Any

import albumentations as A
import cv2
import numpy as np
from albumentations.core.transforms_interface import BaseTransformInitSchema
from albumentations.core.type_definitions import Targets
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from lightning_seg.data.transforms.window import Array, Span, Window


def _check_limits(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 < limits[0] <= limits[1]:
        raise ValueError(f"scale_limits {limits} must be two factors above 0, the smaller one first: (0.5, 2.0)")
    return limits


class RandomScaleCrop(A.DualTransform):  # type: ignore[misc]  # albumentations is untyped
    """Scales an image and its mask by one random factor, and takes a random crop of a fixed size.

    The result is the same as scaling the whole image (``cv2.resize`` to the rounded size), padding it evenly on all
    sides where it is smaller than the crop, and cropping it at a random place. Only the window that the crop shows is
    computed. Masks take the value of the nearest pixel, measured between centres.

    Like albumentations and mmsegmentation, and unlike Detectron2 (which resizes with Pillow), ``cv2.INTER_LINEAR``
    does not average pixels when it shrinks an image; ``cv2.INTER_AREA`` does.

    The image is uint8, uint16, int16 or float32, of any number of channels, without NaN.

    The image may be smaller than its mask: a JPEG that was decoded at ½, ¼ or ⅛ of its size, rounded up, whose pixels
    then stand for exactly 2, 4 or 8 of the mask's along each axis.

    Args:
        height: of the crop.
        width: of the crop.
        scale_limits: smallest and largest factor; all between are equally likely.
        max_fraction: largest part of the crop's labelled pixels that one class may cover, as
            ``INPUT.CROP.SINGLE_CATEGORY_MAX_AREA`` of Detectron2 and ``cat_max_ratio`` of mmsegmentation; a crop beyond
            it is drawn again, at the same scale. 1: any crop will do.
        attempts: how often a crop is drawn at most for ``max_fraction``; the last one is taken.
        interpolation: of the image, an OpenCV flag: 0 nearest, 1 bilinear, 2 bicubic, 3 area. Others than bilinear
            scale the whole image.
        fill: value, or one a channel, of the image's padding.
        fill_mask: value of the mask's padding, and of pixels that do not count for ``max_fraction``;
            :func:`~lightning_seg.data.transforms.build_pipeline` sets it to the ignore index.
        p: probability that the transform is applied.
    """

    _targets = (Targets.IMAGE, Targets.MASK)

    class InitSchema(BaseTransformInitSchema):  # type: ignore[misc]
        height: Annotated[int, Field(ge=1)]
        width: Annotated[int, Field(ge=1)]
        scale_limits: Annotated[tuple[float, float], AfterValidator(_check_limits)]
        max_fraction: Annotated[float, Field(gt=0, le=1)]
        attempts: Annotated[int, Field(ge=1)]
        interpolation: Annotated[int, Field(ge=0, le=6)]
        fill: float | tuple[float, ...]
        fill_mask: float

    def __init__(
        self,
        height: int,
        width: int,
        scale_limits: tuple[float, float] = (0.5, 2.0),
        max_fraction: float = 1.0,
        attempts: int = 10,
        interpolation: int = cv2.INTER_LINEAR,
        fill: float | tuple[float, ...] = 0.0,
        fill_mask: float = 255.0,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        self.height = height
        self.width = width
        self.scale_limits = scale_limits
        self.max_fraction = max_fraction
        self.attempts = attempts
        self.interpolation = interpolation
        self.fill = fill
        self.fill_mask = fill_mask

    def peek(self, mask: Array) -> Window | None:
        """The part of an image with this mask that the next call will show, if nothing draws before it.

        No more of the image need be decoded. None: the next call will leave the transform out.
        """
        state = self.py_random.getstate()
        try:
            if not self.should_apply():
                return None
            window: Window = self.get_params_dependent_on_data({}, {"mask": mask})["window"]
            return window
        finally:
            self.py_random.setstate(state)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        scale = float(self.py_random.uniform(*self.scale_limits))
        mask = data.get("mask")
        height, width = (params["shape"] if mask is None else mask.shape)[:2]
        scaled = max(1, round(height * scale)), max(1, round(width * scale))
        for _ in range(self.attempts):
            window = Window(
                Span.draw(scaled[0], self.height, self.py_random.random),
                Span.draw(scaled[1], self.width, self.py_random.random),
                (height, width),
            )
            if mask is None or self.max_fraction >= 1:
                break
            if within_limit(window.of_mask(mask), self.max_fraction, self.fill_mask):
                break
        return {"scale": scale, "window": window}

    def apply(self, img: Array, *args: Any, window: Window, **params: Any) -> Array:
        channels = 1 if img.ndim == 2 else img.shape[2]
        if isinstance(self.fill, Sequence) and len(self.fill) != channels:
            raise ValueError(f"fill has {len(self.fill)} values, but the image has {channels} channels")
        return window.pad(window.of_image(img, self.interpolation), self.fill)

    def apply_to_mask(self, mask: Array, *args: Any, window: Window, **params: Any) -> Array:
        return window.pad(window.of_mask(mask), self.fill_mask)


def within_limit(labels: NDArray[np.integer[Any]], max_fraction: float, ignored: float) -> bool:
    """Whether there are several classes, each on less than ``max_fraction`` of the pixels.

    Detectron2's rule (``RandomCrop_CategoryAreaConstraint``).

    Args:
        labels: (H, W) class ids.
        max_fraction: part of the pixels that are not ignored.
        ignored: value of pixels that do not count.

    Examples:
        >>> within_limit(np.array([[0, 1, 1, 255]]), 0.75, 255)
        True
        >>> within_limit(np.array([[0, 1, 1, 1]]), 0.75, 255), within_limit(np.array([[1, 255]]), 0.75, 255)
        (False, False)
    """
    counts = np.bincount(labels[labels != ignored])
    return bool(np.count_nonzero(counts) > 1 and counts.max() < counts.sum() * max_fraction)
