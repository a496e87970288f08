"""TensorBoard's events are found by the name of their run."""

from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.loggers import TensorBoardLogger

from lightning_seg.loggers import prepared


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"save_dir": "."}, "runs/tiny/version_3/tensorboard"),
        ({"save_dir": "runs"}, "runs/tiny/version_3/tensorboard"),
        ({"save_dir": "tb"}, "tb/tiny/version_3"),
        ({"save_dir": "tb", "name": "mine"}, "tb/mine/version_0"),
        ({"save_dir": "tb", "version": 7}, "tb/lightning_logs/version_7"),
    ],
)
def test_events_are_named_after_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    logger = TensorBoardLogger(**given)
    prepared([logger], folder=Path("runs/tiny/version_3"), name="tiny/version_3", run_id=None, evaluated_step=None)
    assert Path(logger.log_dir) == Path(expected)
