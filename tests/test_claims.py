"""``make bench`` fails where a claim does not hold, and each of its claims stands in a document."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY

DOCUMENTS = "\n".join((REPOSITORY / name).read_text() for name in ("README.md", "benchmarks/README.md"))


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module("claims")


def script(folder: Path, name: str, text: str) -> str:
    """A command that does ``text`` with the path that ``--output`` gives it."""
    path = folder / name
    path.write_text(f"import json, pathlib, sys, time\noutput = pathlib.Path(sys.argv[-1])\n{text}\n")
    return str(path)


def verdicts(output: Path) -> dict[str, str]:
    return {result["claim"]: result["verdict"] for result in json.loads(output.read_text())["claims"]}


def test_the_bound_follows_from_what_is_said(claims: Any) -> None:
    speed, memory = claims.Claim("a", "a", "3.75"), claims.Claim("b", "b", "0.12", "size", at_most=True)
    exact = claims.Claim("c", "c", "0", "exact", at_most=True)
    assert (speed.bound, memory.bound, exact.bound) == pytest.approx((3.0, 0.132, 0.0))
    assert [speed.holds(found) for found in (2.99, 3.0, 9.0)] == [False, True, True]
    assert [memory.holds(found) for found in (0.13, 0.133)] == [True, False]
    assert [exact.holds(found) for found in (0, 1)] == [True, False]


def test_claims_that_do_not_hold_are_named(claims: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside one that holds: a figure that is too low, one that is not there, and one that cannot be had here."""
    command = script(tmp_path, "a.py", "output.write_text(json.dumps({'fast': 2.5, 'slow': 1.0}))")
    output = tmp_path / "new/claims.json"
    given = claims.Measurement((command,), (
        claims.Claim("it is fast", "fast", "3.0"),
        claims.Claim("it is slow", "slow", "2.0"),
        claims.Claim("it is small", "small", "2.0"),
        claims.Claim("it flies", "flight", "2.0", unless=lambda: "it has no wings"),
    ))  # fmt: skip
    assert claims.bear_out([given], 60, output) == 1
    assert verdicts(output) == {
        "it is fast": "holds", "it is slow": "FAILS", "it is small": "FAILS", "it flies": "skipped",
    }  # fmt: skip
    said = capsys.readouterr().out
    assert "Does not hold: it is slow" in said
    assert "Not shown: it is small" in said
    assert "there is no figure 'small' in what it wrote" in said
    assert "it has no wings" in said
    assert "1 of 4 claims hold, 1 are skipped" in said
    assert claims.bear_out([claims.Measurement((command,), given.claims[:1])], 60, output) == 0


def test_a_command_that_fails_bears_nothing_out(
    claims: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever it had written; one that hangs is stopped, and for what comes after it there is no time."""
    fast = (claims.Claim("it is fast", "fast", "3.0"),)
    broken = script(tmp_path, "broken.py", "output.write_text('{\"fast\": 9}'); sys.exit('the wheel came off')")
    output = tmp_path / "claims.json"
    assert claims.bear_out([claims.Measurement((broken,), fast)], 60, output) == 1
    assert "it ended with status 1: the wheel came off" in capsys.readouterr().out
    hangs = script(tmp_path, "hangs.py", "time.sleep(600)")
    after = claims.Measurement((hangs,), (claims.Claim("it is last", "last", "1"),))
    assert claims.bear_out([claims.Measurement((hangs,), fast), after], 1, output) == 1
    said = capsys.readouterr().out
    assert "it was stopped after 1 s, when all time was over" in said
    assert "no time was left for it: give more --minutes" in said
    assert verdicts(output) == {"it is fast": "FAILS", "it is last": "FAILS"}


def test_a_command_that_cannot_run_here_is_skipped(claims: Any, tmp_path: Path) -> None:
    missing = claims.lacks("geo", "json", "no_such_module")
    given = claims.Measurement(("there_is_no_such_file.py",), (claims.Claim("a", "a", "1"),), missing)
    output = tmp_path / "claims.json"
    assert claims.bear_out([given], 60, output) == 0
    (result,) = json.loads(output.read_text())["claims"]
    assert result["verdict"] == "skipped"
    assert result["why"] == "no_such_module is missing: pip install 'lightning_seg[geo]'"
    assert claims.lacks("geo", "json")() == ""


def test_claims_are_those_of_the_documents(claims: Any) -> None:
    """Each figure stands in one, and each command takes ``--output``."""
    for measurement in claims.MEASUREMENTS:
        text = (REPOSITORY / "benchmarks" / measurement.command[0]).read_text()
        assert "add_output(parser)" in text
        for claim in measurement.claims:
            if claim.kind != "exact":
                assert re.search(rf"(?<![\d.]){re.escape(claim.said)}(?![\d.]*\d)", DOCUMENTS), claim.words
    names = [claim.words for measurement in claims.MEASUREMENTS for claim in measurement.claims]
    assert len(set(names)) == len(names)


@pytest.mark.runs
@pytest.mark.parametrize(
    ("file", "arguments"),
    [("random_scale_crop.py", ["--draws", "1"]), ("fuzz_reading.py", ["--files", "30"])],
    ids=["random_scale_crop", "fuzz_reading"],
)
def test_commands_write_the_figures_of_their_claims(
    claims: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str, arguments: list[str]
) -> None:
    """Two that are quick; figures of so small runs mean nothing."""
    output = tmp_path / "figures.json"
    monkeypatch.setattr("sys.argv", [file, *arguments, "--output", str(output)])
    importlib.import_module(file.removesuffix(".py")).main()
    figures = json.loads(output.read_text())
    expected = next(one for one in claims.MEASUREMENTS if one.command[0] == file).claims
    assert {claim.figure for claim in expected} <= set(figures)
