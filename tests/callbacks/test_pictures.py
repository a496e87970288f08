"""Colours, overlays and error maps, pixel by pixel."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from PIL import Image
from pytorch_lightning.trainer.states import RunningStage
from torch.utils.data import DataLoader

from lightning_seg.callbacks import ResultGrid, drawing
from lightning_seg.callbacks.access import stored_image
from lightning_seg.callbacks.drawing import RIGHT, WRONG, at_stored_size, error_map
from lightning_seg.callbacks.prediction_files import PredictionFiles
from lightning_seg.colours import IGNORE_COLOURS, Colour, default_palette
from lightning_seg.data import VOC, SegmentationDataModule
from lightning_seg.data.labels.colours import colourise
from lightning_seg.data.reading import read_image
from lightning_seg.errors import ConfigError, DiskFullError
from lightning_seg.predictions import overlay
from lightning_seg.structures import DatasetInfo, Item, Placement
from tests.conftest import CLASSES
from tests.training import NAMES, fit, make

INFO = DatasetInfo(("a", "b"), 255, ((90, 20, 30), (200, 100, 0)))


def test_overlays_of_deep_images_show_what_the_network_saw(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 2000, np.uint16)).save(tmp_path / "a.png")
    data = SegmentationDataModule(["a", "b"], predict=str(tmp_path / "a.png"), value_range=[0, 4000], num_workers=0)
    data.setup("predict")
    [batch] = data.predict_dataloader()
    trainer = SimpleNamespace(global_rank=0, datamodule=data, state=SimpleNamespace(stage=RunningStage.PREDICTING))
    files = PredictionFiles(tmp_path, DatasetInfo(("dark",), 255, ((0, 0, 0),)))
    files.on_predict_batch_end(trainer, None, [torch.zeros(8, 8, dtype=torch.uint8)], batch, 0)  # type: ignore[arg-type]
    shown = np.asarray(Image.open(tmp_path / "predictions/overlays/a.jpg"))
    assert np.abs(shown.astype(int) - 0.45 * 128).max() < 3


def test_a_picture_shows_the_file_and_not_what_transforms_made_of_it(scenes: Path) -> None:
    """The sample of another data set at the same place gets its own image, also where a data module is left over."""
    settings = {"root": str(scenes), "num_workers": 0, "eval_transforms": [A.Resize(24, 32), A.HorizontalFlip(p=1)]}
    data = SegmentationDataModule(CLASSES, predict="val/images", **settings)
    other = SegmentationDataModule(CLASSES, predict="train/images", **settings)
    trainer: Any = SimpleNamespace(datamodule=data, state=SimpleNamespace(stage=RunningStage.PREDICTING))
    data.setup("predict")
    other.setup("predict")
    sample = data.datasets["predict"][1]
    assert sample["image"].shape == (3, 24, 32)
    assert np.array_equal(stored_image(trainer, sample, (48, 64)), read_image(Path(sample["file_name"])))
    foreign = other.datasets["predict"][1]
    scaled = cv2.resize(np.asarray(foreign["image"].permute(1, 2, 0))[:, ::-1], (64, 48))
    assert np.array_equal(stored_image(trainer, foreign, (48, 64)), scaled)


def test_loaders_without_a_data_module(tmp_path: Path) -> None:
    """Predictions are drawn on the batch's own images; a callback that needs the data module says so."""
    image, mask = torch.full((3, 20, 30), 90, dtype=torch.uint8), torch.zeros(20, 30, dtype=torch.uint8)
    module, info = make(), DatasetInfo(tuple(NAMES), 255, default_palette(5))
    fit(module, [[{"image": image, "sem_seg": mask}] * 4], tmp_path)
    settings: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    trainer = pl.Trainer(callbacks=[PredictionFiles(tmp_path, info)], **settings)
    batch: list[Item] = [{"name": "a", "image": image, "height": 40, "width": 60}]
    [[labels]] = trainer.predict(module, DataLoader([batch], batch_size=None))  # type: ignore
    shown = np.asarray(Image.open(tmp_path / "predictions/overlays/a.jpg")).astype(int)
    expected = overlay(np.full((40, 60, 3), 90, np.uint8), labels.numpy(), info)
    assert np.abs(shown - expected).mean() < 12  # as JPEG blurs colours
    assert np.array_equal(np.asarray(Image.open(tmp_path / "predictions/masks/a.png")), labels)
    trainer = pl.Trainer(callbacks=[ResultGrid(tmp_path)], **settings)
    evaluated = [{"name": "a", "image": image, "sem_seg": mask, "truth": mask, "height": 20, "width": 30}]
    with pytest.raises(ConfigError, match=r"give the trainer a lightning_seg\.SegmentationDataModule in place of"):
        trainer.validate(module, DataLoader([evaluated], batch_size=None), verbose=False)  # type: ignore


@pytest.mark.parametrize("upside_down", [False, True])
@pytest.mark.parametrize("mirrored", [False, True])
def test_an_image_is_brought_back_to_where_it_is_stored(upside_down: bool, mirrored: bool) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    shown = np.zeros((10, 12, 3), np.uint8)
    shown[1:7, 2:11] = stored[:: -1 if upside_down else 1, :: -1 if mirrored else 1]
    placement = Placement(1, 2, 6, 9, upside_down, mirrored)
    assert np.array_equal(at_stored_size(shown, (6, 9), placement), stored)
    assert np.array_equal(at_stored_size(shown, (10, 12), None), shown)
    assert at_stored_size(shown, (12, 18), placement).shape == (12, 18, 3)


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


def test_the_legend_names_classes_and_ignored_pixels_by_different_colours() -> None:
    info = DatasetInfo(tuple(f"class {index}" for index in range(60)), 255, ((0, 0, 0), *default_palette(59)))
    image = np.zeros((8, 8, 3), np.uint8)
    truth = np.full((8, 8), 255, np.uint8)
    [legend] = drawing.grid_of([drawing.Example("a", image, truth, truth, 0.5)], info).legends
    named = {
        text.get_text(): patch.get_facecolor() for text, patch in zip(legend.texts, legend.get_patches(), strict=True)
    }
    assert list(named)[-2:] == ["wrong", "ignored"]
    assert named["ignored"] != named["class 0"] == (0, 0, 0, 1)


def test_error_map_tells_right_wrong_and_ignored() -> None:
    found = error_map(np.array([[0, 1, 1]]), np.array([[0, 0, 255]]), INFO)
    assert found.tolist() == [[list(RIGHT), list(WRONG), [0, 0, 0]]]


def test_a_grid_of_tall_images_fits_into_a_file(tmp_path: Path) -> None:
    image, truth = np.zeros((4000, 40, 3), np.uint8), np.zeros((4000, 40), np.uint8)
    drawing.draw_grid([drawing.Example("a", image, truth, truth, 0.5)] * 4, INFO, tmp_path / "p.png")
    assert max(Image.open(tmp_path / "p.png").size) < 2**13


def test_a_grid_shows_names_as_they_are_and_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matplotlib would read what stands between two dollars as a formula, and fail at one that is none."""
    info = DatasetInfo((r"$\road$", "b"), 255, INFO.palette)
    image, truth = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)
    path = tmp_path / "p.png"
    names = (r"scan $\left$ 1", os.fsdecode(b"\xff"))  # the other is that of no text
    drawing.draw_grid([drawing.Example(name, image, truth, truth, 0.5) for name in names], info, path)
    assert Image.open(path).size[0] > 100
    before = path.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(DiskFullError, match=r"p.png cannot be written"):
        drawing.draw_grid([drawing.Example("a", image, truth, truth, 0.5)], info, path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [before]
