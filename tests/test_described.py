"""Chosen objects are described in plain values, and made again of these."""

from typing import Any

import pytest

from lightning_seg.described import describe, restore
from lightning_seg.errors import CheckpointError
from lightning_seg.losses import Criterion, CrossEntropy, Dice, WeightedSum

DICE, BASE = "lightning_seg.losses.criteria.Dice", "lightning_seg.losses.Criterion"


class Scaled(CrossEntropy):
    """Takes the settings of its base by name, as users' losses often do."""

    def __init__(self, scale: float = 1.0, **settings: Any) -> None:
        super().__init__(**settings)
        self.scale = scale


def test_settings_that_a_subclass_passes_on_come_back_by_their_names() -> None:
    made = WeightedSum([Scaled(2.0, label_smoothing=0.1), Scaled(), Dice()], weights=[1, 2, 3])
    again = restore(describe(made) or {}, Criterion, "criterion")
    assert describe(again) == describe(made)
    first, second, _ = again.criteria  # type: ignore[misc]
    assert (first.scale, first.label_smoothing, second.init_args) == (2.0, 0.1, {})


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"class_path": DICE, "init_args": {"smoothed": 1}}, r"Dice is not made of smoothed any more \(.*smoothed"),
        ({"class_path": BASE, "init_args": {}}, "Criterion is not made of nothing any more"),
        ({"class_path": DICE, "init_args": None}, "Dice was not made of plain values alone"),
        ({"class_path": DICE}, "Dice was not made of plain values alone"),
    ],
)
def test_what_cannot_be_made_again_is_asked_for(description: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=rf"{message}.*load_from_checkpoint\(path, criterion=…\)"):
        restore(description, Criterion, "criterion")
