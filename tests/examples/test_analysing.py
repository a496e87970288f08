"""A trained model analysed: every command of docs/analysing.md, and what it answers."""

import json
import re
from pathlib import Path

import pytest
import torch

from lightning_seg.checkpoints.calibrated import temperature_in
from tests.conftest import REPOSITORY
from tests.examples.shell import commands, run

pytestmark = [pytest.mark.runs, pytest.mark.usefixtures("one_thread")]

PAGE = (REPOSITORY / "docs/analysing.md").read_text()


def test_every_command(repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in commands(block)]
    fit, whole, views, plot, calibrate, review = lines
    run(fit, monkeypatch)
    for line in (whole, views):
        run(line, monkeypatch)
        assert "of mIoU, " in capsys.readouterr().out
    one, other = (json.loads(Path(f"runs/quickstart/version_{number}/metrics.json").read_text()) for number in (1, 2))
    assert one["weights"]["sha256"] == other["weights"]["sha256"]
    assert one["confusion_matrix"] != other["confusion_matrix"]
    assert one["errors"]["boundary"] > 0

    run(plot, monkeypatch)
    said = capsys.readouterr().out
    [pair] = json.loads(Path("plots/comparison.json").read_text())["comparisons"]
    assert pair["sentence"] in said

    assert temperature_in(torch.load("runs/quickstart/version_0/checkpoints/best.ckpt", weights_only=True)) == 1
    run(calibrate, monkeypatch)
    assert temperature_in(torch.load("runs/quickstart/version_0/checkpoints/best.ckpt", weights_only=True)) != 1

    run(review, monkeypatch)
    assert (
        f"{json.loads(Path('runs/quickstart/version_0/review_val/suspects.json').read_text())['found']} suspects"
        in (capsys.readouterr().out)
    )
