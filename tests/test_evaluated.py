"""What an evaluation takes from a run folder, and what its ``metrics.json`` says of the weights."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lightning_seg.callbacks.metrics_file import digest_of
from lightning_seg.checkpoints.evaluated import checkpoint_in, config_of_checkpoint
from lightning_seg.cli import main
from lightning_seg.errors import CheckpointError
from tests.runs import save

Experiment = Callable[..., Path]

PART = "{data: {eval_batch_size: 3}, model: {absent_classes: mmseg}}"
"""A configuration that chooses no model."""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder of empty files."""
    folder = tmp_path / "runs/n/version_0"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "checkpoints/last.ckpt"):
        (folder / name).touch()
    return folder


def test_a_checkpoint_names_the_configuration_of_its_run(run: Path) -> None:
    last = run / "checkpoints/last.ckpt"
    for path in (run, last):
        for given in (
            ["--ckpt_path", str(path)],
            [f"--ckpt_path={path}"],
            ["--ckpt_path", "x", "--ckpt_path", str(path)],
        ):
            for command in ("validate", "test", "predict"):
                assert config_of_checkpoint([command, "--trainer.devices", "1", *given]) == run / "config.yaml"
    beside = run.parent / "shared/a.ckpt"
    beside.parent.mkdir()
    beside.touch()
    (beside.parent / "config.yaml").touch()
    assert config_of_checkpoint(["test", "--ckpt_path", str(beside)]) == beside.parent / "config.yaml"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["validate"],
        ["fit", "--ckpt_path", "PATH"],
        ["validate", "--config", "c.yaml", "--ckpt_path", "PATH"],
        ["validate", "--ckpt_path", "PATH", "--config=c.yaml"],
        ["validate", "-c", "c.yaml", "--ckpt_path", "PATH"],
        ["validate", "--model.config", "d.yaml", "--ckpt_path", "PATH"],
        ["validate", "--ckpt_path", "PATH", "--ckpt_path", "last"],
        ["validate", "--ckpt_path", "best"],
        ["validate", "--ckpt_path", "wandb://a/b/model-c:best"],
        ["validate", "--model", "part.yaml", "--ckpt_path", "MOVED"],
        ["validate", "--config", "PART", "--model", "part.yaml", "--ckpt_path", "PATH"],
        ["validate", "--config", "PART", "-cWHOLE", "--ckpt_path", "PATH"],
        ["validate", "--config", "PART", "--config=WHOLE", "--ckpt_path", "PATH"],
        ["validate", "-c", "LINKED", "--ckpt_path", "PATH"],
        ["validate", "-c", "TORN", "--ckpt_path", "PATH"],
        ["validate", "-c", "EMPTY", "--ckpt_path", "PATH"],
    ],
)
def test_what_names_a_configuration_itself_is_left_as_it_is(run: Path, arguments: list[str]) -> None:
    root = run.parents[2]
    paths = {"PATH": str(run), "MOVED": str(root / "moved.ckpt")}
    (root / "moved.ckpt").touch()
    for name, text in {
        "PART": PART, "WHOLE": "model: {config: x}", "LINKED": "model: x.yaml", "TORN": "data: {", "EMPTY": "",
    }.items():  # fmt: skip
        (root / name).write_text(text)
        paths |= {f"{before}{name}": f"{before}{root / name}" for before in ("", "-c", "--config=")}
    assert config_of_checkpoint([paths.get(argument, argument) for argument in arguments]) is None


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gone.ckpt", "checkpoint .*gone.ckpt does not exist"),
        ("runs", "runs is no run folder: give runs/<name>/version_<n>, or a checkpoint file"),
        ("runs/n", "n is no run folder: give .*, such as .*runs/n/version_0, or"),
        ("runs/n/version_0/checkpoints", "checkpoints is no run folder: give .*, such as .*runs/n/version_0, or"),
        ("a/b/moved.ckpt", r"moved.ckpt lies in no run folder \(.*a/config.yaml or .*a/b/config.yaml is not there\)"),
        ("torn", r"torn lies in no run folder \(.*torn/config.yaml is not there\): give the config.yaml of the run"),
    ],
)
def test_a_path_without_a_configuration_is_refused(run: Path, path: str, message: str) -> None:
    root = run.parents[2]
    for file in ("a/b/moved.ckpt", "torn/checkpoints/last.ckpt"):
        (root / file).parent.mkdir(parents=True)
        (root / file).touch()
    with pytest.raises(CheckpointError, match=message):
        config_of_checkpoint(["predict", "--ckpt_path", str(root / path)])


def test_the_best_checkpoint_of_a_run_folder_else_the_last(run: Path) -> None:
    with (
        pytest.raises(CheckpointError, match=r"run folder .*version_0 holds no checkpoint that can be read"),
        pytest.warns(UserWarning, match="last.ckpt cannot be read: it is empty; it is passed over"),
    ):
        checkpoint_in(run)
    last = save(run / "checkpoints/last.ckpt", 9, 0)
    assert checkpoint_in(run) == last
    best = run / "checkpoints/epoch-3.ckpt"
    state = {"best_k_models": {"/elsewhere/epoch-3.ckpt": 0.5}, "monitor": "val/mIoU"}
    torch.save({"state_dict": {}, "global_step": 5, "callbacks": {"ModelCheckpoint{'mode': 'max'}": state}}, best)
    assert checkpoint_in(run) == best
    with pytest.raises(CheckpointError, match="no run folder"):
        checkpoint_in(run.parent)


def test_a_replaced_checkpoint_has_no_digest(tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    torch.save({"global_step": 5, "epoch": 1}, file)
    assert digest_of(file, {"global_step": 5, "epoch": 1}) == hashlib.sha256(file.read_bytes()).hexdigest()
    torch.save({"global_step": 9, "epoch": 1}, file)
    with pytest.warns(UserWarning, match="last.ckpt was replaced after it was loaded"):
        assert digest_of(file, {"global_step": 5, "epoch": 1}) is None
    file.unlink()
    with pytest.warns(UserWarning, match="last.ckpt was replaced"):
        assert digest_of(file, {"global_step": 5, "epoch": 1}) is None


@pytest.mark.parametrize(
    ("variable", "seed"), [(None, 5), ("PL_VALIDATE__CONFIG", 3), ("PL_CONFIG", 3), ("PL_TEST__CONFIG", 3)]
)
def test_a_config_named_by_a_variable_is_one(
    experiment: Experiment, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    variable: str | None, seed: int,
) -> None:  # fmt: skip
    config = experiment()
    settings = yaml.safe_load(config.read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**settings, "seed_everything": 5}))
    command = "test" if variable == "PL_TEST__CONFIG" else "validate"
    if variable is not None:
        text = {command: settings} if variable == "PL_CONFIG" else settings
        config.write_text(yaml.safe_dump(text))
        monkeypatch.setenv(variable, str(config))
    with pytest.raises(SystemExit):
        main([command, "--ckpt_path", str(run), "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["seed_everything"] == seed


@pytest.mark.parametrize(
    "given", [["--config", "part.yaml"], ["--config=part.yaml"], ["-c", "part.yaml"], ["-cpart.yaml"]]
)
def test_a_config_without_a_model_is_laid_over_that_of_the_run(
    experiment: Experiment, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str]
) -> None:
    settings = yaml.safe_load(experiment().read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**settings, "seed_everything": 5}))
    (tmp_path / "part.yaml").write_text(PART)
    with pytest.raises(SystemExit):
        main(["validate", *given, "--ckpt_path", str(run), "--print_config"])
    found = yaml.safe_load(capsys.readouterr().out)
    assert (found["seed_everything"], found["model"]["config"]) == (5, settings["model"]["config"])
    assert (found["data"]["eval_batch_size"], found["model"]["absent_classes"]) == (3, "mmseg")
    assert found["data"]["root"] == settings["data"]["root"]


def test_commands_on_a_run_folder(
    experiment: Experiment, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each uses the best checkpoint and the run's own overrides, with flags over them, and says which it was."""
    config = str(experiment())
    main(["fit", "--config", config, "--model.overrides.MODEL.FPN.OUT_CHANNELS", "8", "--trainer.max_epochs", "1"])
    run = tmp_path / "runs/tiny/version_0"
    (tmp_path / "tiny.yaml").unlink()

    def weights(version: int) -> Any:
        return json.loads((tmp_path / f"runs/tiny/version_{version}/metrics.json").read_text())["weights"]

    assert weights(0) == {"source": "training", "global_step": 3, "epoch": 0}
    best = run / "checkpoints/best.ckpt"
    expected = {
        "source": "checkpoint", "path": str(best), "global_step": 3, "epoch": 0,
        "sha256": hashlib.sha256(best.read_bytes()).hexdigest(),
    }  # fmt: skip
    main(["validate", "--ckpt_path", "runs/tiny/version_0", "--model.absent_classes", "mmseg"])
    assert weights(1) == expected
    saved = yaml.safe_load((tmp_path / "runs/tiny/version_1/config.yaml").read_text())["model"]
    assert (saved["absent_classes"], saved["overrides"]["MODEL.FPN.OUT_CHANNELS"]) == ("mmseg", 8)
    saved_config = str(run / "config.yaml")
    main(["test", "--config", saved_config, "--ckpt_path", str(run)])
    assert weights(2) == expected
    last = best.with_name("last.ckpt")
    main(["predict", f"--ckpt_path={last}", "--data.predict", str(scenes / "val/images")])
    assert len(list((tmp_path / "runs/tiny/version_3/predictions/masks").iterdir())) == 3
    main(["validate", "--config", saved_config, "--model.weights", str(best)])
    assert weights(4) == {"source": "model.weights", "path": str(best)}

    capsys.readouterr()
    for command, message in (
        (["fit", "--config", saved_config, "--ckpt_path", str(run)], "is a folder, but a training goes on from a file"),
        (["validate", "--ckpt_path", "runs/tiny/version_1"], "version_1 holds no checkpoint that can be read"),
        (["validate", "--ckpt_path", "runs"], "error: runs is no run folder"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(command)
        assert caught.value.code == 1
        assert message in capsys.readouterr().err
