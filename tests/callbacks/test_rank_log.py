"""What a process other than the first prints is in its own file, and its error on the console as well."""

import contextlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lightning_seg.callbacks import RankLog


def _trainer(folder: Path, rank: int) -> Any:
    strategy = SimpleNamespace(broadcast=lambda value: value, root_device="cpu")
    return SimpleNamespace(
        strategy=strategy, default_root_dir=str(folder), is_global_zero=rank == 0, global_rank=rank, world_size=2
    )


def test_output_below_python_goes_to_the_file_until_the_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log, trainer, module = RankLog(), _trainer(tmp_path, 1), SimpleNamespace()
    for number in range(2):  # as fit and then test: the second run goes on in the file
        log.setup(trainer, module, "fit")  # type: ignore[arg-type]
        os.write(1, b"from a library %d\n" % number)
        os.write(2, b"a warning\n")
        log.teardown(trainer, module, "fit")  # type: ignore[arg-type]
    print("on the console")
    assert capfd.readouterr().out == "on the console\n"
    said = (tmp_path / "logs" / "rank_1.log").read_text()
    assert [said.count(part) for part in ("rank 1 of 2: fit on ", "from a library", "a warning")] == [2, 2, 2]


def test_an_error_is_in_the_file_with_its_trace(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log, trainer, module = RankLog(), _trainer(tmp_path, 1), SimpleNamespace()
    log.setup(trainer, module, "fit")  # type: ignore[arg-type]
    with contextlib.suppress(ValueError):
        try:
            raise ValueError("bad sample")
        except ValueError as error:
            log.on_exception(trainer, module, error)  # type: ignore[arg-type]
            raise
    print("error: bad sample")
    assert capfd.readouterr().out == "error: bad sample\n"
    assert "Traceback" in (tmp_path / "logs" / "rank_1.log").read_text()
    assert "ValueError: bad sample" in (tmp_path / "logs" / "rank_1.log").read_text()


def test_the_first_process_keeps_the_console(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log, trainer, module = RankLog(), _trainer(tmp_path, 0), SimpleNamespace()
    log.setup(trainer, module, "fit")  # type: ignore[arg-type]
    print("on the console")
    assert capfd.readouterr().out == "on the console\n"
    assert not (tmp_path / "logs").exists()
