"""albumentations pipelines that pad masks with the ignore index and draw from a stream of their own."""

import importlib.util
import os
import random
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TypeAlias

import numpy as np

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # asks a server for a newer version at every import otherwise

import albumentations as A

Transform: TypeAlias = A.BasicTransform | A.BaseCompose


def build_pipeline(transforms: Sequence[Transform], ignore_index: int) -> A.Compose:
    """Chain transforms, with every ``fill_mask`` in them set to the ignore index.

    A transform that pads or warps would fill the mask with class 0 otherwise, its default, and teach the model
    that the padding is a class.
    """
    _warn_of_other_licence()
    for transform in _leaves(transforms):
        if hasattr(transform, "fill_mask"):
            if transform.fill_mask not in (None, 0, 0.0, ignore_index):
                warnings.warn(
                    f"{type(transform).__name__}(fill_mask={transform.fill_mask}) is replaced by the ignore index "
                    f"{ignore_index}: padding is no class",
                    stacklevel=2,
                )
            transform.fill_mask = float(ignore_index)
    return A.Compose(list(transforms))


def reseed(pipeline: A.Compose, seed: int, epoch: int, position: int) -> None:
    """Make the next draw of a pipeline depend on (seed, epoch, position in the epoch) alone.

    Not on the worker or rank that happens to draw, so that a run with other numbers of either sees the same data.
    """
    entropy = np.random.SeedSequence([seed, epoch, position])
    seed_of_python = int(entropy.generate_state(1, np.uint64)[0])
    pipeline.set_random_state(np.random.default_rng(entropy), random.Random(seed_of_python))


def _leaves(transforms: Sequence[Transform]) -> Iterator[A.BasicTransform]:
    for transform in transforms:
        if isinstance(transform, A.BaseCompose):
            yield from _leaves(transform.transforms)
        else:
            yield transform


def _warn_of_other_licence() -> None:
    """Albumentationsx has the import name of albumentations, but is AGPL where albumentations is MIT."""
    if importlib.util.find_spec("albumentations") is None:
        return
    try:
        found = version("albumentationsx")
    except PackageNotFoundError:
        return
    warnings.warn(
        f"albumentationsx {found} (AGPL) takes the place of albumentations (MIT): "
        "pip uninstall albumentationsx, then pip install --force-reinstall albumentations",
        stacklevel=3,
    )
