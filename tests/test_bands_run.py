"""A run on bands from the command line: adapted weights, training, figures, resuming, predictions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import lightning_seg
from lightning_seg.cli import main
from tests.banded import BANDS, NAMES, data_set, overrides_of
from tests.conftest import folder
from tests.models.networks import SMALLEST, build_segmentor
from tests.models.weight_files import backbone, save_pth

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.runs]


def config_of(place: Path, dtype: str, **model: Any) -> Path:
    data_set(place / "data/train", dtype)
    data_set(place / "data/val", dtype, count=2, size=(48, 56))
    config = {
        "seed_everything": 3,
        "model": {
            "config": "Misc/semantic_R_50_FPN_1x.yaml",
            "weights": "",
            "overrides": {**overrides_of(dtype), "INPUT.FORMAT": "RGB"},
            **model,
        },
        "data": {
            "root": str(place / "data"),
            "classes": NAMES,
            "bands": BANDS,
            "train": folder("train"),
            "val": folder("val"),
            "train_transforms": [{"class_path": "albumentations.HorizontalFlip"}],
            "batch_size": 2,
            "num_workers": 0,
        },
        "trainer": {"accelerator": "cpu", "devices": 1, "max_epochs": 1, "num_sanity_val_steps": 0},
    }
    (place / "sat.yaml").write_text(yaml.safe_dump(config))
    return place / "sat.yaml"


@pytest.mark.parametrize("dtype", ["uint16", pytest.param("float32", marks=pytest.mark.slow)])
def test_bands_go_through_every_command(
    dtype: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    rgb = build_segmentor(SMALLEST).network.state_dict()
    weights = save_pth(backbone(dict(rgb), "backbone.network."), tmp_path / "rgb")
    config = str(config_of(tmp_path, dtype, weights=weights))
    main(["fit", "--config", config])
    assert "conv1.0.weight: from 3 channels to 4: the weights of red, green and blue, in turn" in caplog.text
    run = tmp_path / "runs/sat/version_0"
    record = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["evaluation"]["rules"]
    assert (tuple(record["bands"]), record["dtype"]) == (tuple(BANDS), dtype)
    assert record["fill"] == pytest.approx(overrides_of(dtype)["MODEL.PIXEL_MEAN"])
    main(["validate", "--ckpt_path", str(run)])
    main(["predict", "--ckpt_path", str(run), "--data.predict", "data/val/images", "--output", "out"])
    predictor = lightning_seg.load(run, "cpu")
    for name in ("0", "1"):
        written = np.asarray(Image.open(tmp_path / f"out/masks/{name}.tif"))
        assert np.array_equal(written, predictor(tmp_path / f"data/val/images/{name}.tif").mask)
    capsys.readouterr()
    three = [f"--model.overrides.MODEL.PIXEL_{name}=[1.0,2.0,3.0]" for name in ("MEAN", "STD")]
    with pytest.raises(SystemExit):
        main(["fit", "--config", config, *three])
    error = capsys.readouterr().err
    assert "gets every image with 4 channels (data.bands), but MODEL.PIXEL_MEAN has 3 values" in error
    assert f"`python -m lightning_seg.audit --config {config}` prints the lines" in error
    others = ["--data.bands=[4,3,2]", *three, "--model.weights=", "--ckpt_path", str(run / "checkpoints/last.ckpt")]
    with pytest.raises(SystemExit):
        main(["fit", "--config", config, *others])
    assert "trained on images of 4 channels, and the pixel mean here has 3" in capsys.readouterr().err
