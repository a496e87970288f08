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
