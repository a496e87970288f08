"""What the command line makes of configs, flags and variables, before anything is built."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_seg.cli import main

FILES = {
    "a.yaml": "model: {config: a, overrides: {A.B: 1, A.C: 2}}\ndata: {batch_size: 3}",
    "later.yaml": "model: {overrides: {A.C: 3, A.D: 4}}",
    "part.yaml": "{weights: null, overrides: {A.C: 3, A.D: 4}}",
    "names_part.yaml": "model: part.yaml",
    "empties.yaml": "model: {overrides: null}",
    "main.yaml": "fit: {model: {config: a, overrides: {A.B: 1, A.C: 2}}}",
    "main_later.yaml": "fit: {model: {overrides: {A.C: 3, A.D: 4}}}",
}
ALL = {"A.B": 1, "A.C": 3, "A.D": 4}


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)


def overrides(capsys: pytest.CaptureFixture[str], arguments: str) -> Any:
    with pytest.raises(SystemExit) as caught:
        main([*arguments.split("|"), "--print_config"])
    printed = capsys.readouterr()
    assert caught.value.code == 0, printed.err
    assert yaml.safe_load(printed.out)["model"]["config"] == "a"
    return yaml.safe_load(printed.out)["model"]["overrides"]


@pytest.mark.parametrize(
    ("arguments", "variables", "expected"),
    [
        ("fit|-c|a.yaml|-c|later.yaml", {}, ALL),
        ("fit|-c|a.yaml|--model.overrides|{A.C: 3, A.D: 4}", {}, ALL),
        ("fit|-c|a.yaml|--model.overrides={A.C: 3, A.D: 4}", {}, ALL),
        ("fit|-c|a.yaml|--model.overrides.A.D|4|--model.overrides|{A.C: 3}", {}, ALL),
        ("fit|-c|a.yaml|--model|part.yaml", {}, ALL),
        ("fit|-c|a.yaml|-c|names_part.yaml", {}, ALL),
        ("fit|--model.overrides.A.D|4|--model.overrides.A.C|9|--model|part.yaml|-c|a.yaml", {}, {**ALL, "A.C": 2}),
        ("fit|-c|a.yaml", {"PL_FIT__MODEL__OVERRIDES": "{A.C: 3, A.D: 4}"}, {**ALL, "A.C": 2}),
        ("fit", {"PL_FIT__CONFIG": "a.yaml", "PL_FIT__MODEL__OVERRIDES": "{A.C: 3, A.D: 4}"}, ALL),
        ("fit", {"PL_FIT__CONFIG": "a.yaml", "PL_FIT__MODEL": "part.yaml"}, ALL),
        ("fit|--model.overrides.A.C|3", {"PL_FIT__CONFIG": "a.yaml", "PL_FIT__MODEL__OVERRIDES": "{A.D: 4}"}, ALL),
        ("-c|main.yaml|-c|main_later.yaml|fit", {}, ALL),
        ("-c|main.yaml|fit|-c|later.yaml", {"PL_FIT__MODEL__OVERRIDES": "{A.E: 5}"}, {**ALL, "A.E": 5}),
        ("fit|-c|a.yaml|--model.overrides|null", {}, None),
        ("fit|-c|a.yaml|-c|empties.yaml", {}, None),
    ],
)
def test_all_ways_of_giving_overrides_add_up(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    variables: dict[str, str],
    expected: dict[str, int] | None,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert overrides(capsys, arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "--model.criterion|CrossEntropyy",
            "CrossEntropyy is no known class: give its class_path; did you mean Cross",
        ),
        (
            "--model.optimizer|AdamWW",
            "AdamWW is no known class: give its class_path; did you mean AdamW",
        ),
        ("--model.optimizer|torch.optim.AdamWW", "'torch.optim' has no attribute 'AdamWW'; did you mean AdamW"),
        ("--data.train|Foldr", "data.train: Foldr is no known class: give its class_path; did you mean Folder?"),
        (
            "--trainer.callbacks+|EarlyStoping",
            "EarlyStoping is no known class: give its class_path; did you mean Early",
        ),
        ("--trainer.precision|bf17", "trainer.precision is bf17, but one of 64, 32, 16, "),
    ],
)
def test_a_misspelt_class_is_one_line_with_the_nearest(
    capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["fit", "--config", "a.yaml", *arguments.split("|")])
    said = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2
    assert len(said) == 1
    assert message in said[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: fit.model.config, which the file of --config names"),
        (["street.yaml"], "unrecognized arguments: street.yaml: give --config street.yaml"),
        (
            ["-c", "a.yaml", "--lr", "1"],
            "; the learning rate is SOLVER.BASE_LR of model.overrides, or lr of model.optimizer",
        ),
    ],
)
def test_what_a_newcomer_types_is_answered_by_what_was_meant(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit):
        main(["fit", *arguments])
    assert capsys.readouterr().err.splitlines()[-1].endswith(message)


def test_defaults_that_are_no_texts_can_be_written_and_read(capsys: pytest.CaptureFixture[str]) -> None:
    callbacks = (
        "--trainer.callbacks+|Timer|--trainer.callbacks+|StochasticWeightAveraging|--trainer.callbacks.swa_lrs|0.1"
    )
    for arguments in (f"fit|-c|a.yaml|{callbacks}", "fit|-c|saved.yaml"):
        with pytest.raises(SystemExit):
            main([*arguments.split("|"), "--print_config"])
        printed = capsys.readouterr().out
        timer, average = yaml.safe_load(printed)["trainer"]["callbacks"]
        assert timer["init_args"]["interval"] == "step"
        assert average["init_args"]["device"] == "cpu"
        Path("saved.yaml").write_text(printed)


def test_a_message_names_no_file_of_an_earlier_command(capsys: pytest.CaptureFixture[str]) -> None:
    Path("torn.yaml").write_text("trainer: {")
    with pytest.raises(SystemExit):
        main(["fit", "--config", "torn.yaml"])
    assert capsys.readouterr().err.startswith("error: torn.yaml: ")
    with pytest.raises(SystemExit):
        main(["fit", "--config", "a.yaml", "--trainer.max_epoch", "3"])
    message = capsys.readouterr().err
    assert "did you mean trainer.max_epochs" in message
    assert "torn.yaml" not in message
