"""Overlays pixel by pixel, and label maps as PNGs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.colours import default_palette
from lightning_seg.data.labels.colours import colourise
from lightning_seg.predictions import overlay, write_mask
from lightning_seg.structures import DatasetInfo

INFO = DatasetInfo(("a", "b"), 255, ((90, 20, 30), (200, 100, 0)))


def test_overlay_is_the_mean_of_image_and_colours() -> None:
    image = np.full((1, 2, 3), 100, np.uint8)
    assert overlay(image, np.array([[0, 1]]), INFO, opacity=0.5).tolist() == [[[95, 60, 65], [150, 100, 50]]]


@pytest.mark.parametrize("num_classes", [2, 256, 300])
def test_saved_labels_are_class_ids(tmp_path: Path, num_classes: int) -> None:
    info = DatasetInfo(tuple(map(str, range(num_classes))), -1, default_palette(num_classes))
    labels = np.array([[0, num_classes - 1, 1]])
    with (tmp_path / "m.png").open("wb") as file:
        write_mask(file, labels, info)
    image = Image.open(tmp_path / "m.png")
    assert np.asarray(image).tolist() == labels.tolist()
    assert image.mode == ("P" if num_classes <= 256 else "I;16")
    if num_classes <= 256:
        assert np.asarray(image.convert("RGB")).tolist() == colourise(labels, info).tolist()
