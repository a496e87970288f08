"""One run of W&B for one run folder, read back from the files that W&B writes."""

import csv
import os
import pickle
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from pytorch_lightning.loggers import WandbLogger

from lightning_seg.cli import main
from lightning_seg.loggers import guarded, usable
from tests.conftest import REPOSITORY, train_py
from tests.helpers.python import python
from tests.loggers.offline import LOGGER, OfflineRun, offline_runs

Experiment = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_RUN_ID", "WANDB_DATA_DIR", "LIGHTNING_SEG_WANDB_DATA_DIR", "WANDB_DIR", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def logged(run: Path, name: str) -> list[tuple[int, float]]:
    with (run / "metrics.csv").open() as file:
        return [(int(row["step"]), float(row[name])) for row in csv.DictReader(file) if row.get(name)]


def test_scalars_and_their_axes(experiment: Experiment, tmp_path: Path) -> None:
    main(["fit", "--config", str(experiment()), *LOGGER])
    folder = tmp_path / "runs/tiny/version_0"
    (run,) = offline_runs(folder / "wandb")
    assert (run.project, run.name) == ("p", "tiny/version_0")
    for name in (
        "train/loss",
        "train/grad_norm",
        "lr/0",
        "perf/images_per_s",
        "perf/data_wait",
        "val/mIoU",
        "val/loss",
    ):
        assert run.rows(name) == logged(folder, name), name
        assert run.rows(name)
    assert {step for step, _ in run.rows("train/loss")} == set(range(6))
    assert all(norm > 0 for _, norm in run.rows("train/grad_norm"))
    assert all(0 <= share <= 1 for _, share in run.rows("perf/data_wait"))
    assert {row["epoch"] for row in run.history if "train/loss" in row} == {0, 1}
    metrics = run.metrics
    assert metrics["val/mIoU"].summary.max
    assert metrics["val/loss"].summary.min
    assert metrics["val/mIoU"].step_metric == metrics["val/loss"].step_metric == "trainer/global_step"
    assert metrics["*"].step_metric == "trainer/global_step"
    assert "epoch" in metrics
    assert run.config["model"]["overrides"]["MODEL.RESNETS.DEPTH"] == 18
    assert run.config["data"] == yaml.safe_load((folder / "config.yaml").read_text())["data"]


def test_one_run_over_resuming_and_evaluating(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ["--config", str(experiment()), *LOGGER]
    first = tmp_path / "runs/tiny/version_0"
    main(["fit", *config, "--trainer.max_epochs", "1"])
    run_id = (first / "wandb_id").read_text().strip()
    time.sleep(1)  # W&B names its folders to the second
    main(["fit", *config, "--ckpt_path", "last"])
    before, after = offline_runs(first / "wandb")
    assert before.run_id == after.run_id == run_id
    assert [step for step, _ in before.rows("train/loss") + after.rows("train/loss")] == list(range(6))

    main(["validate", *config, "--ckpt_path", "last"])
    (evaluated,) = offline_runs(tmp_path / "runs/tiny/version_1")
    assert evaluated.run_id == run_id
    assert evaluated.rows("val/mIoU") == [(5, after.rows("val/mIoU")[-1][1])]
    assert not any("epoch" in row for row in evaluated.history)
    assert evaluated.name == ""  # keeps that of the training

    monkeypatch.setenv("WANDB_RUN_ID", "sweep1")
    main(["test", *config, "--ckpt_path", str(first / "checkpoints/last.ckpt")])
    (other,) = offline_runs(tmp_path / "runs/tiny/version_2")
    assert other.run_id == "sweep1"
    assert other.rows("test/mIoU")[0][0] == 5

    monkeypatch.delenv("WANDB_RUN_ID")
    main(["fit", *config, "--trainer.max_steps", "1"])
    assert (tmp_path / "runs/tiny/version_3/wandb_id").read_text().strip() != run_id


def test_a_kill_loses_at_most_a_second(experiment: Experiment, tmp_path: Path) -> None:
    arguments = ["fit", "--config", str(experiment()), *LOGGER, "--trainer.max_epochs", "1000"]
    process = subprocess.Popen(
        [sys.executable, str(REPOSITORY / "train.py"), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    table = tmp_path / "runs/tiny/version_0/metrics.csv"
    try:
        while not (table.is_file() and logged(table.parent, "val/mIoU")):
            assert process.poll() is None
            time.sleep(0.2)
        known = len(logged(table.parent, "train/loss"))
        time.sleep(2)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    (run,) = offline_runs(table.parent / "wandb", ended=False)
    assert len(run.rows("train/loss")) >= known


def test_two_processes_write_one_run(experiment: Experiment, tmp_path: Path) -> None:
    arguments = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.batch_size", "1"]
    done = train_py("fit", "--config", str(experiment()), *LOGGER, *arguments)
    assert done.returncode == 0, done.stderr
    (run,) = offline_runs(tmp_path)
    assert run.rows("train/loss") == logged(tmp_path / "runs/tiny/version_0", "train/loss")
    assert (done.stdout + done.stderr).count("wandb sync") == 1


def test_without_key_or_network_it_says_so_and_never_asks(experiment: Experiment, tmp_path: Path) -> None:
    """On a terminal, where W&B would ask for a key, with a server that nobody is."""
    arguments = ["fit", "--config", str(experiment()), *LOGGER, "--trainer.max_steps", "1"]
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}
    for extra, reason in (
        ({"WANDB_BASE_URL": "http://127.0.0.1:9"}, "does not answer"),
        ({"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "a" * 40}, "does not answer"),
    ):
        main_side, process_side = pty.openpty()
        started = time.monotonic()
        process = subprocess.Popen(
            [python(), str(REPOSITORY / "train.py"), *arguments],
            stdin=process_side, stdout=process_side, stderr=process_side,
            env={**environment, "HOME": str(tmp_path), "COLUMNS": "500", **extra},
        )  # fmt: skip
        os.close(process_side)
        said = b""
        while True:
            try:
                said += os.read(main_side, 65536)
            except OSError:
                break
        assert process.wait(timeout=60) == 0, said.decode()
        assert time.monotonic() - started < 90
        assert said.count(b"wandb sync") == 1
        assert reason.encode() in said
        assert b"wandb: " not in said, said.decode()
    assert len(offline_runs(tmp_path)) == 2


def test_a_server_without_a_key(experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.delenv("WANDB_MODE")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        done = train_py("fit", "--config", str(experiment()), *LOGGER, "--trainer.max_steps", "1")
    assert done.returncode == 0, done.stderr
    assert "no API key" in done.stderr
    assert not re.search(r"wandb(\x1b\[0m)?: ", done.stdout + done.stderr)  # W&B's own lines, coloured or not
    assert len(offline_runs(tmp_path)) == 1


class Refuses(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b'{"errors": ["no such key"]}')

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("shared", [False, True], ids=["own service", "service of the parent process"])
def test_a_server_that_refuses_the_key(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    import wandb

    if shared:
        wandb.teardown()  # a service of an earlier test would not be announced again
        wandb.init(mode="offline", dir=tmp_path).finish()
        assert "WANDB_SERVICE" in os.environ
    else:
        monkeypatch.delenv("WANDB_SERVICE", raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.delenv("WANDB_MODE")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        done = train_py("fit", "--config", str(experiment()), *LOGGER, "--trainer.max_steps", "2")
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("W&B is offline (the server does not take the run") == 1
    assert "credentials" not in done.stdout + done.stderr
    assert "relogin" not in done.stdout + done.stderr
    (run,) = [run for run in offline_runs(tmp_path / "runs", ended=False) if "offline-run" in str(run.file)]
    assert len(run.rows("train/loss")) == 2


def test_wandb_that_does_not_load(experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "wandb.py").write_text("raise ImportError('broken installation')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'broken'}:{REPOSITORY}")
    done = train_py("fit", "--config", str(experiment()), *LOGGER, "--trainer.max_steps", "2")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("W&B does not load") == 1
    assert len(logged(tmp_path / "runs/tiny/version_0", "train/loss")) == 2


def test_wandb_that_cannot_start(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    import wandb

    def fail(**_: Any) -> None:
        raise RuntimeError("no service")

    monkeypatch.setattr(wandb, "init", fail)
    main(["fit", "--config", str(experiment()), *LOGGER, "--trainer.max_epochs", "1"])
    assert len([warning for warning in recwarn if "goes on without it" in str(warning.message)]) == 1
    main(["test", "--config", str(experiment()), *LOGGER, "--ckpt_path", "last"])
    assert len([warning for warning in recwarn if "goes on without it" in str(warning.message)]) == 2
    assert len(logged(tmp_path / "runs/tiny/version_0", "train/loss")) == 3


BROKEN = """
from pytorch_lightning.loggers import CSVLogger

class Broken(CSVLogger):
    def log_metrics(self, metrics, step=None):
        raise OSError("disk is full")
    def finalize(self, status):
        raise OSError("disk is still full")
"""


def test_any_logger_may_fail(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "broken_logger.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    arguments = ["--trainer.logger", "broken_logger.Broken", "--trainer.logger.save_dir", "elsewhere"]
    main(["fit", "--config", str(experiment()), *arguments])
    assert len([warning for warning in recwarn if "disk is full" in str(warning.message)]) == 1
    assert len(logged(tmp_path / "runs/tiny/version_0", "train/loss")) == 6


def test_a_guarded_logger_is_still_its_own_and_can_be_sent(tmp_path: Path) -> None:
    from pytorch_lightning.loggers import CSVLogger

    own = CSVLogger(tmp_path)
    logger = guarded(own)
    assert isinstance(logger, CSVLogger)
    assert not isinstance(logger, WandbLogger)
    assert type(own) is CSVLogger
    logger.marked = True  # type: ignore[attr-defined]  # a callback may write what it likes
    assert vars(own)["marked"]
    again = pickle.loads(pickle.dumps(logger))
    assert isinstance(again, CSVLogger)
    assert again.save_dir == own.save_dir
    assert usable([logger, again], CSVLogger) == [logger, again]


def test_every_method_of_a_logger_may_fail(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Also those that the logger calls itself, and those that Lightning does not know."""
    space: dict[str, Any] = {"__name__": "own_experiment"}
    exec(OWN_EXPERIMENT, space)
    logger = guarded(space["Closed"]())
    logger.finalize("success")
    assert (logger.opened, len(recwarn)) == (0, 0), "the end of a run opens no logger"
    logger.watch()
    logger.log_metrics({"a": 1})
    assert (logger.opened, logger.called) == (1, [])
    assert "logging with Closed failed, and the run goes on without it: OSError: no server" in str(recwarn[0].message)
    assert usable([logger], space["Closed"]) == []
    failing = guarded(space["Plain"]())
    assert failing.watch() is None
    assert "logging with Plain failed" in str(recwarn[1].message)
    assert usable([failing], space["Plain"]) == [failing]


OWN_EXPERIMENT = """
from pytorch_lightning.loggers import CSVLogger, Logger

class Plain(Logger):
    name, version = "plain", "0"
    def __init__(self):
        super().__init__()
        self.experiment = []
    def log_hyperparams(self, *_, **__): pass
    def log_metrics(self, metrics, step=None):
        self.experiment = [*self.experiment, metrics]
    def watch(self):
        raise OSError("no room")

class Lazy(Plain):
    _list = None
    @property
    def experiment(self):
        return self._list
    @experiment.setter
    def experiment(self, value):
        self._list = value

class Closed(Plain):
    opened, called = 0, []
    def __init__(self):
        Logger.__init__(self)
    @property
    def experiment(self):
        self.opened += 1
        raise OSError("no server")
    def log_metrics(self, metrics, step=None):
        self.called.append(metrics)
    def watch(self):
        self.called.append("watch")
"""


@pytest.mark.parametrize("name", ["Plain", "Lazy"])
def test_a_logger_keeps_its_own_experiment(name: str) -> None:
    """Lightning's base class has no such attribute, so that a subclass may use the name as it likes."""
    space: dict[str, Any] = {"__name__": "own_experiment"}
    exec(OWN_EXPERIMENT, space)
    logger = guarded(space[name]())
    logger.log_metrics({"a": 1})
    logger.log_metrics({"a": 2})
    assert logger.experiment == [{"a": 1}, {"a": 2}]
    assert not logger.forgiving.failed


def test_predict_opens_no_run(experiment: Experiment, scenes: Path, tmp_path: Path) -> None:
    config = ["--config", str(experiment())]
    main(["fit", *config, "--trainer.max_steps", "1"])
    main(["predict", *config, *LOGGER, "--ckpt_path", "last", "--data.predict", str(scenes / "val/images")])
    assert offline_runs(tmp_path) == []
    shutil.rmtree(tmp_path / "runs")


def test_checkpoints_as_artifacts(experiment: Experiment, tmp_path: Path) -> None:
    main(["fit", "--config", str(experiment()), *LOGGER, "--trainer.logger.log_model", "true"])
    folder = tmp_path / "runs/tiny/version_0"
    (run,) = offline_runs(folder / "wandb")
    run_id = (folder / "wandb_id").read_text().strip()
    models = [artifact for artifact in run.artifacts if artifact.type == "model"]
    assert {artifact.name for artifact in models} == {f"model-{run_id}"}
    aliases = sorted(alias for artifact in models for alias in artifact.aliases)
    assert aliases == ["best", "last", "latest", "latest"]
    main(["fit", "--config", str(experiment()), *LOGGER])
    (plain,) = offline_runs(tmp_path / "runs/tiny/version_1")
    assert not [artifact for artifact in plain.artifacts if artifact.type == "model"]
    assert isinstance(plain, OfflineRun)


def test_the_last_checkpoint_as_artifact_where_nothing_is_validated(experiment: Experiment, tmp_path: Path) -> None:
    """There is no best one then, and no ModelCheckpoint."""
    config = ["--config", str(experiment(val=None)), *LOGGER, "--trainer.max_steps", "2"]
    main(["fit", *config, "--trainer.logger.log_model", "true"])
    (run,) = offline_runs(tmp_path)
    (model,) = [artifact for artifact in run.artifacts if artifact.type == "model"]
    assert sorted(model.aliases) == ["last", "latest"]
    assert model.manifest.contents[0].size == (tmp_path / "runs/tiny/version_0/checkpoints/last.ckpt").stat().st_size
