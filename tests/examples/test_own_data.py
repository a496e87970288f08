"""Own data end to end: every command of examples/own_data/run.sh, and what it leaves."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.conftest import REPOSITORY
from tests.examples.shell import commands, run

pytestmark = [pytest.mark.runs, pytest.mark.usefixtures("one_thread")]


def test_every_command(repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = commands((REPOSITORY / "examples/own_data/run.sh").read_text())
    assert len(lines) == 8
    for line in lines:
        run(line, monkeypatch)
    audit = json.loads(Path("runs/street/version_0/audit.json").read_text())
    assert {defect["kind"] for defect in audit["defects"]} == {"exif_rotation"}
    trained = json.loads(Path("runs/street/version_1/metrics.json").read_text())
    assert list(trained["IoU"]) == ["ground", "road", "car"]
    assert "<img" in Path("runs/street/version_1/plots/report.html").read_text()
    certificate = json.loads(Path("street.onnx.parity.json").read_text())
    assert certificate["passed"]
    assert sum(trial["name"].startswith("IMG_") for trial in certificate["trials"]) == 11  # all of val
    photos = sorted(Path("data/street/new").iterdir())
    assert len(photos) == 4
    for photo in photos:
        upright = ImageOps.exif_transpose(Image.open(photo))
        found, of_file = (
            np.asarray(Image.open(Path(folder, "masks", f"{photo.stem}.png")))
            for folder in ("predictions", "predictions_onnx")
        )
        assert found.shape == (upright.height, upright.width)
        assert np.mean(found != of_file) < 1e-3
    turned = [photo.stem for photo in photos if Image.open(photo).getexif().get(0x0112, 1) != 1]
    assert turned == ["IMG_0057"]  # so that it is seen that it was turned back
