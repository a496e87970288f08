"""The library's face: what ``import lightning_seg`` gives, and what a module does without a command."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

import lightning_seg
from lightning_seg import training
from lightning_seg.checkpoints.runs import RunFolder
from lightning_seg.data import Folder
from lightning_seg.errors import ConfigError, LightningSegError
from tests.conftest import TINY_OVERRIDES
from tests.runs import save
from tests.training import make


def test_the_import_is_light_and_lists_the_public_names() -> None:
    code = "import sys, lightning_seg; print([n for n in ('torch', 'pytorch_lightning', 'cv2') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    for name in lightning_seg.__all__:
        assert name in dir(lightning_seg)
        assert getattr(lightning_seg, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'lightning_seg' has no attribute 'Segmentor'"):
        _ = lightning_seg.Segmentor


def test_fit_is_the_commands_own_run(experiment: Callable[..., Path]) -> None:
    run = lightning_seg.fit(experiment(), {"trainer.max_epochs": 2, "trainer.logger": True, "name": "from_python"})
    assert run.path == Path("runs/from_python/version_0")
    assert (run.path / "config.yaml").is_file()
    assert run.checkpoint == run.path / "checkpoints/best.ckpt"
    assert torch.load(run.checkpoint, weights_only=True)["epoch"] in (0, 1)
    assert run.report is not None
    assert run.report.averages["mIoU"] == json.loads((run.path / "metrics.json").read_text())["mIoU"]


def test_the_best_checkpoint_is_that_of_any_callback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path, "n", "version_0")
    folder.checkpoints.mkdir(parents=True)
    command = SimpleNamespace(run=folder, model=SimpleNamespace(report=None))
    monkeypatch.setattr(training, "SegmentationCLI", lambda arguments: command)
    assert lightning_seg.fit("a.yaml").checkpoint is None
    last = save(folder.checkpoints / "last.ckpt", 9, 0)
    assert lightning_seg.fit("a.yaml").checkpoint == last
    best = folder.checkpoints / "epoch-3.ckpt"
    state = {"best_k_models": {str(best): 0.5}, "monitor": "val/mIoU"}
    torch.save({"state_dict": {}, "global_step": 5, "callbacks": {"ModelCheckpoint{'mode': 'max'}": state}}, best)
    assert lightning_seg.fit("a.yaml").checkpoint == best


def test_a_mistake_is_an_exception_with_the_commands_message(experiment: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(LightningSegError, match=r"trainer\.max_steps is 0"):
        lightning_seg.fit(experiment(), {"trainer.max_steps": 0})
    with pytest.raises(ConfigError, match="batch_sise"):
        lightning_seg.fit(experiment(), {"data.batch_sise": 2})
    assert not (tmp_path / "runs").exists()


def test_a_module_takes_a_batch_of_images() -> None:
    module = make().eval()
    images = torch.randint(0, 256, (2, 3, 50, 71), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = module(images)
        samples = module.predict_step([{"image": image} for image in images], 0)
        stored = module.predict_step([{"image": images[0], "height": 100, "width": 142}], 0)
    assert labels.shape == (2, 50, 71)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels, torch.stack(samples))
    assert stored[0].shape == (100, 142)
    with pytest.raises(ValueError, match=r"uint8 \(N, 3, H, W\)"):
        module(images.float())


def test_modules_built_by_hand_train_under_a_plain_trainer(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    for kind, shape in (("images", (48, 64, 3)), ("masks", (48, 64))):
        (tmp_path / kind).mkdir()
        for index in range(4):
            pixels = torch.randint(0, 3, shape, generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(tmp_path / kind / f"{index}.png")
    reader = Folder(images=str(tmp_path / "images"), masks=str(tmp_path / "masks"))
    data = lightning_seg.SegmentationDataModule(
        classes=["a", "b", "c"], train=reader, val=reader, batch_size=2, num_workers=0
    )
    overrides: dict[str, Any] = TINY_OVERRIDES
    module = lightning_seg.SegmentationModule(
        "Misc/semantic_R_50_FPN_1x.yaml", data.class_names, weights="", overrides=overrides
    )
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(module, data)
    assert trainer.global_step > 0
    assert module.report is not None
    assert len(module.report.images) == 4
