"""Builds albumentations pipelines that pad masks with the ignore index and draw from a stream of their own."""

import random
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias

import albumentations as A
import numpy as np
from albumentations.augmentations.crops.transforms import CropSizeError
from numpy.typing import NDArray

from lightning_seg.data.transforms.counterparts import describe_foreign
from lightning_seg.data.transforms.random_scale_crop import RandomScaleCrop
from lightning_seg.errors import ConfigError, DataError
from lightning_seg.sources import AnyFile

Transform: TypeAlias = A.BasicTransform | A.BaseCompose

_DEFAULT_FILLS = (0.0, 255.0)
"""Values of ``fill_mask`` that nobody chose: the defaults of albumentations' transforms and of this project's."""


@dataclass(frozen=True, slots=True)
class ComingPixels:
    """The part of an image that a pipeline will use.

    Attributes:
        rows: of the image.
        columns: of the image.
        scale: factor by which the image will be scaled.
    """

    rows: slice
    columns: slice
    scale: float


def build_pipeline(transforms: Sequence[Transform], ignore_index: int) -> A.Compose:
    """Chain transforms, with every ``fill_mask`` in them set to the ignore index.

    By default, a transform that pads or warps fills the mask with class 0, so that the model would learn the padding as
    a class. A ``fill_mask`` of None stays: pixels under holes in the image (``CoarseDropout``) keep their labels. Image
    and mask may differ in size where the first transform allows it.

    Raises:
        ConfigError: if one is not of albumentations.
    """
    _warn_of_other_licence()
    for transform in transforms:
        if not isinstance(transform, Transform):
            kind = type(transform)
            raise ConfigError(describe_foreign(f"{kind.__module__}.{kind.__qualname__}"))
    for transform in leaves(transforms):
        fill_mask = getattr(transform, "fill_mask", None)
        if fill_mask is None:
            continue
        if fill_mask not in (*_DEFAULT_FILLS, ignore_index):
            warnings.warn(
                f"{type(transform).__name__}(fill_mask={fill_mask}) is replaced by the ignore index {ignore_index}: "
                "padding is no class",
                stacklevel=2,
            )
        transform.fill_mask = float(ignore_index)
    return A.Compose(list(transforms), is_check_shapes=False)


def reseed(pipeline: A.Compose, seed: int, epoch: int, position: int) -> None:
    """Make the next draw of a pipeline depend on (seed, epoch, position in the epoch) alone.

    It does not depend on worker or rank, so that a run sees the same data with any number of either.
    """
    entropy = np.random.SeedSequence([seed, epoch, position])
    seed_of_python = int(entropy.generate_state(1, np.uint64)[0])
    pipeline.set_random_state(np.random.default_rng(entropy), random.Random(seed_of_python))


def leading_crop(pipeline: A.Compose) -> RandomScaleCrop | None:
    """The first transform, if it tells beforehand what it will use."""
    first = next(iter(pipeline.transforms), None)
    return first if isinstance(first, RandomScaleCrop) else None


def coming_pixels(pipeline: A.Compose, mask: NDArray[Any]) -> ComingPixels | None:
    """The part of an image that the next call will use; None if that is all of it, or cannot be known.

    Asking changes nothing of what is drawn. The answer holds for a call ``pipeline(image=…, mask=…)`` right after it.

    Args:
        pipeline: without a :func:`leading_crop`, nothing is known of it.
        mask: (H, W) class ids.
    """
    if (first := leading_crop(pipeline)) is None:
        return None
    state = pipeline.py_random.getstate()
    pipeline.py_random.random()  # Compose tosses a coin first, although it is called at p = 1
    window = first.peek(mask)
    pipeline.py_random.setstate(state)
    if window is None:
        return None
    rows, columns = window.used((mask.shape[0], mask.shape[1]), first.interpolation)
    return ComingPixels(rows, columns, window.rows.scaled / mask.shape[0])


def leaves(transforms: Sequence[Transform]) -> Iterator[A.BasicTransform]:
    """The transforms themselves, in order, without the containers that choose between them or chain them."""
    for transform in transforms:
        if isinstance(transform, A.BaseCompose):
            yield from leaves(transform.transforms)
        else:
            yield transform


def apply(pipeline: A.Compose, setting: str, path: AnyFile, **arrays: NDArray[Any]) -> dict[str, Any]:
    """Call a pipeline.

    Args:
        pipeline: from :func:`build_pipeline`.
        setting: name of the transforms in the configuration, for the error.
        path: of the image, for the error.
        **arrays: ``image`` and perhaps ``mask``.

    Raises:
        DataError: naming the transform that fails, on what, and what to do.
    """
    try:
        found: dict[str, Any] = pipeline(**arrays)
    except Exception as error:  # also of a user's own transform
        height, width = arrays["mask" if "mask" in arrays else "image"].shape[:2]
        raise DataError(explain(error, setting, f"image {path} ({width}×{height} pixels)")) from error
    return found


def explain(error: Exception, setting: str, subject: str) -> str:
    """Say which transform raised an error on what, and what to do.

    Args:
        error: as it was caught.
        setting: name of the transforms in the configuration.
        subject: what they were applied to.
    """
    at_fault = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        candidate = frame.f_locals.get("self")
        at_fault = candidate if isinstance(candidate, A.BasicTransform) else at_fault
    reason = (str(error).splitlines() or [""])[0]
    remedy = "change its arguments or leave it out"
    if isinstance(error, CropSizeError):
        pads = getattr(at_fault, "pad_if_needed", None) is False
        remedy = ("set its pad_if_needed to true" if pads else "put albumentations.PadIfNeeded before it") + (
            ", choose a smaller crop, or leave the image out"
        )
    name = "a transform" if at_fault is None else type(at_fault).__name__
    return f"{setting}: {name} fails on {subject} ({type(error).__name__}: {reason}): {remedy}"


def _warn_of_other_licence() -> None:
    """Albumentationsx has the import name of albumentations, but is AGPL where albumentations is MIT."""
    try:
        found = version("albumentationsx")
    except PackageNotFoundError:
        return
    warnings.warn(
        f"albumentationsx {found} (AGPL) takes the place of albumentations (MIT): "
        "pip uninstall albumentationsx, then pip install --force-reinstall albumentations",
        stacklevel=3,
    )
