"""Data sets of other pixels than RGB go through every command: trained, audited, validated, predicted, gone on with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.transform import from_origin

from lightning_seg import audit
from lightning_seg.callbacks.stop_signals import StopSignals
from lightning_seg.cli import main
from tests.conftest import folder, train_py

pytestmark = pytest.mark.runs

NODATA = {"uint16": 0, "float32": -9999.0}


def write_scenes(root: Path, bands: int, dtype: str, count: int) -> None:
    """GeoTIFFs of 64×80 pixels in tiles, with masks on the same grid; a corner holds nothing."""
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for index in range(count):
        rng = np.random.default_rng([count, index])
        mask = np.kron(rng.integers(0, 3, (4, 5)), np.ones((16, 16), int)).astype(np.uint8)
        spectra = np.random.default_rng(7).uniform(500, 4000, (3, bands))
        pixels = spectra[mask] + rng.normal(0, 60, (64, 80, bands))
        pixels = (pixels / 10_000 if dtype == "float32" else pixels).astype(dtype)
        pixels[:6, :9] = NODATA[dtype]
        if dtype == "float32":
            pixels[20, 20:24, 3] = np.nan
        grid: dict[str, Any] = {"crs": "EPSG:32632", "transform": from_origin(500_000 + 800 * index, 5_400_000, 10, 10)}
        size = {"driver": "GTiff", "height": 64, "width": 80}
        tiles: dict[str, Any] = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate"}
        with rasterio.open(
            root / f"images/{index}.tif", "w", count=bands, dtype=dtype, nodata=NODATA[dtype], **size, **grid, **tiles
        ) as file:
            file.write(pixels.transpose(2, 0, 1))
        with rasterio.open(root / f"masks/{index}.tif", "w", count=1, dtype="uint8", **size, **grid) as file:
            file.write(mask, 1)


def reader(part: str) -> dict[str, Any]:
    found = folder(part)
    return {**found, "init_args": {**found["init_args"], "mask_name": "{stem}.tif"}}


def options_of(write: Callable[..., Path], root: Path, bands: int, dtype: str) -> list[str]:
    for part, count in (("train", 6), ("val", 3)):
        write_scenes(root / part, bands, dtype, count)
    crop = {"class_path": "lightning_seg.data.RandomScaleCrop", "init_args": {"height": 48, "width": 64}}
    chain = [crop, *({"class_path": f"albumentations.{name}"} for name in ("RandomRotate90", "GaussianBlur"))]
    chain += [{"class_path": "albumentations.RandomCrop", "init_args": {"height": 48, "width": 48}}]
    config = write(
        root=str(root), classes=["water", "field", "wood"], train=reader("train"), val=reader("val"), test=None,
        bands=list(range(1, bands + 1)), display_bands=[4, 3, 2], train_transforms=chain,
    )  # fmt: skip
    unit = 1e-4 if dtype == "float32" else 1
    return [
        "--config", str(config),
        *(
            f"--model.overrides.MODEL.PIXEL_{key}={json.dumps([value * unit] * bands)}"
            for key, value in (("MEAN", 2000), ("STD", 1000))
        ),
    ]  # fmt: skip


def weights(run: str) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(Path(run) / "checkpoints/last.ckpt", weights_only=True)
    return checkpoint["state_dict"]


@pytest.mark.parametrize(("bands", "dtype"), [(4, "uint16"), (12, "float32")])
def test_every_command(
    experiment: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    one_thread: None,
    bands: int,
    dtype: str,
) -> None:
    options = options_of(experiment, tmp_path / "data", bands, dtype)
    assert audit.main([*options, "--name", "audited"]) == 0
    main(["fit", *options, "--name", "alone"])
    run = "runs/alone/version_0"

    monkeypatch.setattr(StopSignals, "agreed", lambda _, trainer: 75 * (trainer.training and trainer.global_step == 2))
    with pytest.raises(SystemExit) as stopped:
        main(["fit", *options, "--name", "stopped", "--data.num_workers=2"])
    assert stopped.value.code == 75
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    main(["fit", *options, "--name", "stopped", "--ckpt_path", "last"])
    gone_on, expected = weights("runs/stopped/version_0"), weights(run)
    assert all(torch.equal(gone_on[key], value) for key, value in expected.items())
    assert all(torch.isfinite(value).all() for value in expected.values())

    def figures(name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(Path(f"runs/{name}/version_0/metrics.json").read_text())
        return found

    main(["validate", *options, "--name", "one", "--ckpt_path", run])
    done = train_py("validate", *options, "--name", "two", "--ckpt_path", run, "--trainer.devices=2")
    assert done.returncode == 0, done.stderr
    assert figures("one")["confusion_matrix"] == figures("two")["confusion_matrix"]
    counted = np.array(figures("one")["confusion_matrix"]).sum()
    assert counted == 3 * (64 * 80 - 6 * 9 - (4 if dtype == "float32" else 0))  # not where the file holds nothing

    images = tmp_path / "data/val/images"
    main(["predict", *options, "--ckpt_path", run, "--data.predict", str(images), "--output", "out"])
    for index in range(3):
        with rasterio.open(f"out/masks/{index}.tif") as mask, rasterio.open(images / f"{index}.tif") as image:
            assert mask.shape == image.shape
            assert mask.transform == image.transform
            labels = mask.read(1)
        assert (labels[:6, :9] == 255).all()
        assert (labels < 3).sum() == counted / 3  # and no class where the file holds nothing
        with Image.open(f"out/overlays/{index}.jpg") as overlay:
            assert overlay.size == (80, 64)


def test_a_transform_for_rgb_ends_the_run_by_name(
    experiment: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = options_of(experiment, tmp_path / "data", 4, "uint16")
    added = json.dumps([{"class_path": "albumentations.HueSaturationValue"}])
    for dry in ([], ["--dry_run"]):
        with pytest.raises(SystemExit):
            main(["fit", *options, f"--data.train_transforms={added}", *dry])
        said = capsys.readouterr()
        named = "data.train_transforms: HueSaturationValue fails on 4 bands of uint16 with values from"
        assert (said.out + said.err).count(named) == 1
    assert not list(tmp_path.glob("runs/*/*/checkpoints"))
