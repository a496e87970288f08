"""Chooses the transforms of each split."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import albumentations as A
import numpy as np

from lightning_seg.data.transforms.contract import check_transforms
from lightning_seg.data.transforms.pipeline import Transform, build_pipeline
from lightning_seg.data.transforms.pixels import Pixels
from lightning_seg.data.transforms.placing import Placements


class SplitTransforms(NamedTuple):
    """The transforms of one split.

    Attributes:
        pipeline: of images and masks.
        placements: where they put an image in evaluation; None in training.
        setting: what they are called in the configuration.
        ignore_index: id of pixels that do not count.
    """

    pipeline: A.Compose
    placements: Placements | None
    setting: str
    ignore_index: int

    def check(self, dtype: np.dtype[Any], pixels: Pixels) -> None:
        """Try them out on label maps of this type, and on images that hold such pixels.

        Raises:
            ConfigError: if one does what a transform must not.
        """
        check_transforms(self.pipeline, self.ignore_index, dtype, self.setting, pixels)


def transforms_of(
    split: str, training: Sequence[Transform], evaluation: Sequence[Transform], ignore_index: int
) -> SplitTransforms:
    """The transforms of a split: ``train`` has its own, the others share those of evaluation."""
    if split == "train":
        return SplitTransforms(build_pipeline(training, ignore_index), None, "data.train_transforms", ignore_index)
    pipeline = build_pipeline(evaluation, ignore_index)
    return SplitTransforms(pipeline, Placements(pipeline.transforms), "data.eval_transforms", ignore_index)
