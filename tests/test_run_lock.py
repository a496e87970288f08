"""A run folder that another process trains in is left alone, and free again as soon as that process is gone."""

import errno
import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from pytorch_lightning.utilities import rank_zero_only

from lightning_seg.checkpoints import choosing, lock
from lightning_seg.checkpoints.choosing import RunChoice
from lightning_seg.checkpoints.lock import LOCK_NAME, claim_folder, refuse_busy, release_folders
from lightning_seg.checkpoints.runs import RunFolder, newest_training
from lightning_seg.cli import main
from lightning_seg.errors import BusyError
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.runs

Experiment = Callable[..., Path]

HOLD = (
    "import sys, pathlib; from lightning_seg.checkpoints.lock import claim_folder; "
    "claim_folder(pathlib.Path(sys.argv[1])); "
)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(lock, "_PATIENCE", 0.2)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    yield
    release_folders()


@contextmanager
def other_process(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD + "print('held', flush=True); input()", str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **(environment or {})},
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def contents(folder: Path) -> dict[str, tuple[float, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in (folder, *folder.rglob("*"))}


def test_the_second_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    with other_process(tmp_path, {"SLURM_JOB_ID": "77"}) as other:
        before = contents(tmp_path)
        for claim in (claim_folder, refuse_busy):
            with pytest.raises(BusyError) as refused:
                claim(tmp_path)
            message = str(refused.value)
            assert re.search(
                rf"is being trained by process {other.pid} on \S+, Slurm job 77, since \d{{4}}-\d\d-\d\d \d\d:", message
            )
            assert "scancel 77" in message
            assert "--name NAME" in message
        assert contents(tmp_path) == before
        other.kill()  # SIGKILL: it can give nothing back itself
        other.wait()
        refuse_busy(tmp_path)
        claim_folder(tmp_path)
    with pytest.raises(subprocess.CalledProcessError), other_claims(tmp_path):
        pass
    claim_folder(tmp_path)  # it is this process's already
    refuse_busy(tmp_path)
    with pytest.raises(subprocess.CalledProcessError), other_claims(tmp_path):
        pass
    release_folders()
    with other_claims(tmp_path):
        pass


@contextmanager
def other_claims(folder: Path) -> Iterator[None]:
    subprocess.run([sys.executable, "-c", HOLD, str(folder)], check=True, stderr=subprocess.DEVNULL, cwd=REPOSITORY)
    yield


def test_a_child_neither_has_the_lock_nor_loses_it(tmp_path: Path) -> None:
    """Loading processes may outlive the training, and end before it."""
    claim_folder(tmp_path)
    if (child := os.fork()) == 0:
        release_folders()
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(subprocess.CalledProcessError), other_claims(tmp_path):
        pass


def test_a_requeued_job_waits_for_no_server_to_find_its_machine_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    with other_process(tmp_path, {"SLURM_JOB_ID": "77"}):  # stands for what the server still believes in
        with pytest.raises(BusyError):
            claim_folder(tmp_path)  # another step of the same start
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
        refuse_busy(tmp_path)
        claim_folder(tmp_path)
        with pytest.raises(subprocess.CalledProcessError), other_claims(tmp_path):
            pass


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lockf(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with pytest.warns(UserWarning, match="file system without locks .No locks available.: nothing keeps a second job"):
        claim_folder(tmp_path)


def test_a_torn_text_still_refuses(tmp_path: Path) -> None:
    with other_process(tmp_path):
        (tmp_path / LOCK_NAME).write_text('{"host": "a')
        with pytest.raises(BusyError, match="is being trained by another process: wait for its end"):
            claim_folder(tmp_path)


def test_the_command_line_refuses_before_it_writes(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fit(*arguments: str) -> None:
        main([
            "fit", "--config", str(config), "--ckpt_path", "last", "--trainer.max_steps", "1",
            "--trainer.limit_val_batches", "0", *arguments,
        ])  # fmt: skip

    config = experiment()
    run = tmp_path / "runs/tiny/version_0"
    (run / "checkpoints").mkdir(parents=True)  # a training that has not come to its first checkpoint
    assert newest_training(tmp_path / "runs", "tiny") is not None
    with other_process(run) as other:
        before = contents(run)
        for arguments in ((), ("--dry_run",)):
            with pytest.raises(SystemExit) as refused:
                fit(*arguments)
            assert refused.value.code == 1
            assert f"error: runs/tiny/version_0 is being trained by process {other.pid} on" in capsys.readouterr().err
            assert contents(run) == before
            assert list(run.parent.iterdir()) == [run]
        fit("--name", "another")
    (run / "checkpoints").rmdir()
    fit()
    fit("--trainer.max_steps", "2")  # goes on at once, in a folder whose lock file has stayed
    assert [path.name for path in run.parent.iterdir()] == ["version_0", "version_1"]
    assert sorted(path.name for path in (run.parent / "version_1").iterdir() if path.suffix == ".lock") == [LOCK_NAME]
    with other_claims(run.parent / "version_1"):
        pass


def test_of_two_that_start_at_once_the_second_is_refused(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other begins while this one still reads its data."""
    monkeypatch.setattr(choosing, "new_run", begun_by_another := BegunByAnother(choosing.new_run))
    with begun_by_another, pytest.raises(SystemExit):
        main(["fit", "--config", str(experiment()), "--ckpt_path", "last"])
    assert "error: runs/tiny/version_0 is being trained by process" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "runs/tiny").iterdir()] == ["version_0"]


class BegunByAnother:
    def __init__(self, new_run: Callable[..., object]) -> None:
        self.new_run = new_run

    def __call__(self, root: Path, name: str) -> object:
        (root / name / "version_0").mkdir(parents=True)
        self.other = other_process(root / name / "version_0")
        self.other.__enter__()
        return self.new_run(root, name)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        self.other.__exit__(None, None, None)


def test_only_the_first_process_of_a_run_claims_it(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others find their own run's lock."""
    choice = RunChoice(tmp_path, "n", trains=True)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    (tmp_path / "n/version_0/checkpoints").mkdir(parents=True)
    with other_process(tmp_path / "n/version_0"):
        assert choice.choose("last", rehearses=False, dry=False) is None
        choice.claim(RunFolder(tmp_path, "n", "version_0"))
