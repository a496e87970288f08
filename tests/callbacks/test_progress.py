"""The figures that are shown while a validation runs are those of its end."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_seg.callbacks import ProgressBar, drawing, pictures
from lightning_seg.cli import main
from lightning_seg.metrics.functional import mean_iou
from tests.conftest import CLASSES

ABSENT = [f"never seen {index}" for index in range(12)]


def test_live_miou_follows_the_rule_of_the_module(
    experiment: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With classes that are predicted and never there, rules differ."""
    shown: list[float] = []
    update = ProgressBar._update_metrics

    def record(self: ProgressBar, *arguments: Any) -> None:
        if self._running_miou is not None:
            shown.append(self._running_miou)
        update(self, *arguments)

    monkeypatch.setattr(ProgressBar, "_update_metrics", record)
    titles: list[float] = []

    def draw(examples: Sequence[drawing.Example], *_: Any) -> None:
        titles.extend(example.mean_iou for example in examples)

    monkeypatch.setattr(pictures, "draw_grid", draw)
    bars: list[Any] = []
    get_metrics = ProgressBar.get_metrics
    monkeypatch.setattr(
        ProgressBar, "get_metrics", lambda *call: bars.append(get_metrics(*call).get("val/mIoU")) or get_metrics(*call)
    )
    main(
        ["fit", "--config", str(experiment(classes=CLASSES + ABSENT, ignore_index=255)),
         "--model.absent_classes", "mmseg", "--trainer.max_steps", "1", "--trainer.val_check_interval", "1"]
    )  # fmt: skip
    metrics = json.loads((tmp_path / "runs/tiny/version_0/metrics.json").read_text())
    assert len(shown) == 3
    assert shown[-1] == metrics["mIoU"]
    assert mean_iou(torch.tensor(metrics["confusion_matrix"]), "detectron2") != metrics["mIoU"]
    assert sum(titles) / 3 == pytest.approx(metrics["mIoU_per_image"])
    averaged = metrics["num_averaged_classes"]
    assert 6 <= averaged == sum(value is not None for value in metrics["IoU"].values()) < 18
    expected = f"over {averaged} of 18 classes"
    assert f"  val  mIoU {metrics['mIoU']:.4f} {expected}  mAcc " in capsys.readouterr().out
    assert f"{metrics['mIoU']:.3f} {expected}" in bars


def test_predict_counts_images(
    experiment: Callable[..., Path], scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["fit", "--config", str(experiment(eval_batch_size=2)), "--trainer.max_steps", "1", "--data.val", "null"])
    capsys.readouterr()
    given = ["predict", "--ckpt_path", "runs/tiny/version_0", "--data.predict", str(scenes / "train/images")]
    main(given)
    shown = capsys.readouterr().out
    assert "6/6" in shown  # of three batches
    assert "images/s" in shown
    next(Path("runs/tiny/version_1/predictions/masks").iterdir()).unlink()
    main(given)
    assert "1/1" in capsys.readouterr().out
