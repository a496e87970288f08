"""A calibrated checkpoint and the files that are made of it are equally sure, and give the label maps of before."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import lightning_seg
from lightning_seg.checkpoints.calibrated import keep_temperature
from lightning_seg.cli import main
from lightning_seg.exporting import exporter
from lightning_seg.exporting.loading import load_trained
from lightning_seg.exporting.running import ExportedNetwork, read_metadata
from lightning_seg.exporting.wish import Wish
from lightning_seg.inference.temperature import tempered
from tests.exporting.files import module_of, save

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.runs]  # exports networks: some seconds each

TEMPERATURE = 1.7


@pytest.mark.parametrize("suffix", [".pt2", pytest.param(".onnx", marks=pytest.mark.slow)])
def test_a_file_is_as_sure_as_its_checkpoint(
    suffix: str, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = save(module_of(), tmp_path / "m.ckpt")
    plain = load_trained(str(checkpoint)).module.eval()
    keep_temperature(checkpoint, TEMPERATURE)
    trained, file = load_trained(str(checkpoint)), tmp_path / f"a{suffix}"
    wish = Wish(file, probabilities=True)
    exporter._write(trained, wish, file, exporter._metadata(trained, wish, None), None)
    assert read_metadata(file).temperature == trained.module.temperature == TEMPERATURE

    names = sorted((scenes / "val/images").iterdir())
    images = [torch.from_numpy(np.array(Image.open(name))).permute(2, 0, 1) for name in names]
    samples: Any = [{"image": image} for image in images]
    maps, at_one = plain.predict_step(samples, 0), plain.probabilities(samples)
    results = {kind: lightning_seg.load(kind, device="cpu")(names) for kind in (checkpoint, file)}
    given = ["--data.predict", str(scenes / "val/images"), "--data.num_workers", "0", "--trainer.accelerator", "cpu"]
    main(["predict", "--ckpt_path", str(file), *given, "--save", "masks", "confidence", "--output", "out"])
    network = ExportedNetwork(file)
    for place, (image, labels, probabilities) in enumerate(zip(images, maps, at_one, strict=True)):
        expected, name = tempered(probabilities, TEMPERATURE).numpy(), names[place].stem
        assert np.abs(expected.max(0) - probabilities.numpy().max(0)).max() > 0.02  # it makes a difference
        found = network(image[None])
        assert torch.equal(found.mask[0], labels)
        assert found.probabilities is not None
        assert np.abs(found.probabilities[0].numpy() - expected).max() < 1e-4
        for result in (results[checkpoint][place], results[file][place]):
            assert np.array_equal(result.mask, labels.numpy())
            assert np.abs(result.probabilities - expected).max() < 1e-4
            assert np.abs(result.confidence - expected.max(0)).max() < 1e-4
        assert np.array_equal(np.asarray(Image.open(f"out/masks/{name}.png")), labels.numpy())
        pixels = np.asarray(Image.open(f"out/confidence/{name}.png"))
        assert np.abs(pixels - 255 * results[checkpoint][place].confidence).max() <= 0.53
