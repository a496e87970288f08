"""Colours, overlays and error maps, pixel by pixel."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from lightning_seg.callbacks import drawing
from lightning_seg.callbacks.drawing import RIGHT, WRONG, error_map
from lightning_seg.callbacks.prediction_files import PredictionFiles
from lightning_seg.data import VOC
from lightning_seg.data.labels.colours import colourise
from lightning_seg.data.reading import ReadingRules
from lightning_seg.structures import IGNORE_COLOURS, Colour, DatasetInfo, default_palette

INFO = DatasetInfo(("a", "b"), 255, ((90, 20, 30), (200, 100, 0)))


def test_overlays_of_deep_images_show_what_the_network_saw(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 2000, np.uint16)).save(tmp_path / "a.png")
    info = DatasetInfo(("dark",), 255, ((0, 0, 0),))
    trainer = SimpleNamespace(datamodule=SimpleNamespace(rules=ReadingRules(((0, 4000),))))
    batch = [{"name": "a", "file_name": str(tmp_path / "a.png")}]
    files = PredictionFiles(tmp_path, info)
    files.on_predict_batch_end(trainer, None, [torch.zeros(8, 8, dtype=torch.uint8)], batch, 0)  # type: ignore[arg-type]
    shown = np.asarray(Image.open(tmp_path / "predictions/overlays/a.jpg"))
    assert np.abs(shown.astype(int) - 0.45 * 128).max() < 3


def test_colours_follow_the_palette() -> None:
    labels = np.array([[0, 1], [255, 7]])
    assert colourise(labels, INFO).tolist() == [[[90, 20, 30], [200, 100, 0]], [[0, 0, 0]] * 2]


@pytest.mark.parametrize("black", [(0, 0, 0), (20, 0, 40)])
def test_ignored_pixels_are_not_black_where_a_class_is(black: Colour) -> None:
    info = DatasetInfo(("background", "a"), 255, (black, (200, 100, 0)))
    assert info.ignore_colour == (0, 255, 255)
    assert colourise(np.array([[0, 255]]), info).tolist() == [[list(black), [0, 255, 255]]]
    assert error_map(np.array([[0]]), np.array([[255]]), info).tolist() == [[[0, 255, 255]]]


def test_the_ignore_colour_is_far_from_every_class() -> None:
    """VOC has a black background and half-bright greys."""
    classes = (*VOC("VOCdevkit/VOC2012", "train").labels(None).palette.values(),)
    assert DatasetInfo(tuple(map(str, classes)), 255, classes).ignore_colour == (0, 255, 255)
    every = tuple((r, g, b) for r in range(0, 256, 51) for g in range(0, 256, 51) for b in range(0, 256, 51))
    assert DatasetInfo(tuple(map(str, every)), 255, every).ignore_colour in IGNORE_COLOURS


def test_the_legend_names_classes_and_ignored_pixels_by_different_colours(tmp_path: Path) -> None:
    info = DatasetInfo(tuple(f"class {index}" for index in range(60)), 255, ((0, 0, 0), *default_palette(59)))
    image = np.zeros((8, 8, 3), np.uint8)
    truth = np.full((8, 8), 255, np.uint8)
    drawn: list[Figure] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda figure, path: drawn.append(figure))
        drawing.draw_grid([drawing.Example("a", image, truth, truth, 0.5)], info, tmp_path / "p.png")
    [legend] = drawn[0].legends
    named = {
        text.get_text(): patch.get_facecolor() for text, patch in zip(legend.texts, legend.get_patches(), strict=True)
    }
    assert list(named)[-2:] == ["wrong", "ignored"]
    assert named["ignored"] != named["class 0"] == (0, 0, 0, 1)


def test_error_map_tells_right_wrong_and_ignored() -> None:
    found = error_map(np.array([[0, 1, 1]]), np.array([[0, 0, 255]]), INFO)
    assert found.tolist() == [[list(RIGHT), list(WRONG), [0, 0, 0]]]
