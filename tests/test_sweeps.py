"""Every sweep runs: with the command line that W&B's agent makes of it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from lightning_seg.cli import main
from tests.conftest import REPOSITORY, train_py
from tests.loggers.offline import offline_runs

SWEEPS = sorted((REPOSITORY / "configs" / "sweeps").glob("*.yaml"))


def arguments(sweep: dict[str, Any]) -> list[str]:
    """What the agent would start, with the first or lowest value of each parameter; without interpreter and program."""
    chosen = {
        name: {"value": spec["values"][0] if "values" in spec else spec.get("value", spec.get("min"))}
        for name, spec in sweep["parameters"].items()
    }
    command: list[str] = []
    for part in create_sweep_command(list(sweep["command"])):
        if part == "${args}":
            command += create_sweep_command_args({"args": chosen})["args"]
        elif part == "${program}":
            command.append(sweep["program"])
        elif part != "${env}":
            command.append(part)
    assert command[:2] == ["python", "train.py"]
    return command[2:]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_command_line_of_the_agent(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPOSITORY)
    sweep = yaml.safe_load(path.read_text())
    assert path.read_text().startswith("# ")
    with pytest.raises(SystemExit) as caught:
        main([*arguments(sweep), "--print_config"])
    assert caught.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    for name, spec in sweep["parameters"].items():
        group, _, key = name.partition(".overrides.")
        found = printed[group]["overrides"][key] if key else printed
        for part in () if key else name.split("."):
            found = found[part]
        assert found == (spec["values"][0] if "values" in spec else spec["min"])
    logger = printed["trainer"]["logger"]
    assert logger["class_path"].endswith("WandbLogger")
    assert not logger["init_args"]["offline"]


@pytest.mark.runs
def test_a_trial_runs_under_the_id_that_the_agent_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    monkeypatch.setenv("WANDB_RUN_ID", "trial7")
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep7")
    sweep = yaml.safe_load((REPOSITORY / "configs/sweeps/learning_rate.yaml").read_text())
    done = train_py(
        *arguments(sweep), "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1",
        "--trainer.max_epochs=1", "--trainer.log_every_n_steps=1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = offline_runs(tmp_path / "runs")
    assert run.run_id == "trial7"
    assert run.rows("val/mIoU")
    assert len(run.rows("train/loss")) == 2
