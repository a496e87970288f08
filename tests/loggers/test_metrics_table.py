"""A resumed run keeps its rows, but for those after its checkpoint."""

import csv
from pathlib import Path

import pytest

from lightning_seg.errors import ConfigError
from lightning_seg.loggers.metrics_table import MetricsTable


def steps(path: Path) -> list[tuple[int, str, str]]:
    with path.open() as file:
        return [(int(row["step"]), row["train/loss"], row.get("val/mIoU", "")) for row in csv.DictReader(file)]


def test_rows_after_the_checkpoint_are_cut(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    logger = MetricsTable(tmp_path, "n", "version_0")
    for step in range(5):
        logger.log_metrics({"train/loss": step / 2}, step)
    logger.finalize("success")
    (tmp_path / "n" / "version_0" / "config.yaml").touch()

    table = tmp_path / "n" / "version_0" / "metrics.csv"
    with table.open("a") as file:
        file.write("1")  # of step 10, torn by a kill

    assert MetricsTable(tmp_path, "n", "version_0", resumed_step=3).experiment
    assert steps(table) == [(0, "0.0", ""), (1, "0.5", ""), (2, "1.0", "")]  # also if it is killed right here
    resumed = MetricsTable(tmp_path, "n", "version_0", resumed_step=3)
    resumed.log_metrics({"train/loss": 9.0, "val/mIoU": 0.5}, 3)
    resumed.finalize("success")
    expected = [(0, "0.0", ""), (1, "0.5", ""), (2, "1.0", ""), (3, "9.0", "0.5")]
    assert steps(tmp_path / "n" / "version_0" / "metrics.csv") == expected
    assert not [warning for warning in recwarn if "exists and is not empty" in str(warning.message)]


def test_a_validation_that_is_repeated_is_there_once(tmp_path: Path) -> None:
    """The checkpoint is of the end of step 1, before its validation, after which the run was killed."""
    first = MetricsTable(tmp_path, "n", "version_0")
    for metrics, step in (({"train/loss": 0.5}, 0), ({"train/loss": 0.25}, 1), ({"val/mIoU": 0.5, "epoch": 0}, 1)):
        first.log_metrics(metrics, step)
    first.finalize("success")
    resumed = MetricsTable(tmp_path, "n", "version_0", resumed_step=2)
    for metrics, step in (({"val/mIoU": 0.5, "epoch": 0}, 1), ({"train/loss": 0.125}, 2)):
        resumed.log_metrics(metrics, step)
    resumed.finalize("success")
    table = tmp_path / "n" / "version_0" / "metrics.csv"
    assert steps(table) == [(0, "0.5", ""), (1, "0.25", ""), (1, "", "0.5"), (2, "0.125", "")]


def test_a_kill_while_a_column_is_added_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = MetricsTable(tmp_path, "n", "version_0")
    logger.log_metrics({"train/loss": 0.5}, 0)
    logger.save()

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(csv.DictWriter, "writerows", kill)
    logger.log_metrics({"train/loss": 0.25, "val/mIoU": 1.0}, 1)
    with pytest.raises(KeyboardInterrupt):
        logger.save()
    assert steps(tmp_path / "n" / "version_0" / "metrics.csv") == [(0, "0.5", "")]


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"epoch,step\n0\n", b"epoch,step\n0,x\n", b"\xff\xfe\n\x00\n"])
def test_a_damaged_table_is_named_before_the_run_goes_on(tmp_path: Path, content: bytes) -> None:
    table = tmp_path / "n/version_0/metrics.csv"
    table.parent.mkdir(parents=True)
    table.write_bytes(content)
    with pytest.raises(ConfigError, match=r"metrics.csv is damaged \(.*move it away to begin a new one"):
        assert MetricsTable(tmp_path, "n", "version_0", resumed_step=3).experiment
    assert table.read_bytes() == content


@pytest.mark.parametrize("content", ["", "epoch,st"])
def test_a_table_without_rows_is_begun_anew(tmp_path: Path, content: str) -> None:
    table = tmp_path / "n/version_0/metrics.csv"
    table.parent.mkdir(parents=True)
    table.write_text(content)
    resumed = MetricsTable(tmp_path, "n", "version_0", resumed_step=3)
    resumed.log_metrics({"train/loss": 9.0}, 3)
    resumed.finalize("success")
    assert steps(table) == [(3, "9.0", "")]
