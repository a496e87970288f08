"""What a newcomer writes first: a Detectron2 model from one YAML, a head of one's own, data of one's own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import yaml
from detectron2.modeling import SemanticSegmentor
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from lightning_seg.cli import main
from lightning_seg.models.adapters import Plain
from lightning_seg.module import SegmentationModule
from tests.conftest import CLASSES, TINY_OVERRIDES

Experiment = Callable[..., Path]

HEAD = """
import torch.nn as nn
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY


@SEM_SEG_HEADS_REGISTRY.register()
class TutorialHead(nn.Module):
    def __init__(self, cfg, input_shape):
        super().__init__()
        self.conv1 = nn.Conv2d(input_shape["p2"].channels, 32, kernel_size=3, padding=1)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(32, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, kernel_size=1)

    def forward(self, features):
        x = self.conv1(features["p2"])
        x = self.relu(x)
        return self.conv2(x)
"""
"""As a tutorial has it; of the level p2 in place of a tensor."""


def test_a_detectron2_model_and_a_head_from_one_config(experiment: Experiment, scenes: Path, tmp_path: Path) -> None:
    """Trained by ``fit --config X.yaml``, then evaluated and used by the run's folder alone."""
    transforms = [
        {"class_path": "albumentations.RandomCrop", "init_args": {"height": 32, "width": 48}},
        {"class_path": "albumentations.RandomBrightnessContrast"},
    ]
    config = experiment(train_transforms=transforms)
    settings = yaml.safe_load(config.read_text())
    settings["model"] |= {"imports": ["head.py"]}
    settings["model"]["overrides"]["MODEL.SEM_SEG_HEAD.NAME"] = "TutorialHead"
    settings["trainer"]["max_epochs"] = 1
    config.write_text(yaml.safe_dump(settings))
    (tmp_path / "head.py").write_text(HEAD)
    main(["fit", "--config", "tiny.yaml"])  # what train.py calls
    run = tmp_path / "runs/tiny/version_0"
    trained = json.loads((run / "metrics.json").read_text())

    main(["validate", "--ckpt_path", str(run)])
    found = json.loads((tmp_path / "runs/tiny/version_1/metrics.json").read_text())
    assert found["confusion_matrix"] == trained["confusion_matrix"]
    main(["predict", "--ckpt_path", str(run), "--data.predict", str(scenes / "val/images")])
    matrix = np.zeros((6, 6), int)
    for path in (tmp_path / "runs/tiny/version_2/predictions/masks").glob("*.png"):
        truth, predicted = (np.asarray(Image.open(file)) for file in (scenes / "val/masks" / path.name, path))
        np.add.at(matrix, (truth[truth != 255], predicted[truth != 255]), 1)
    assert matrix.tolist() == trained["confusion_matrix"]

    module = SegmentationModule.load_from_checkpoint(run / "checkpoints/best.ckpt", weights_only=True)
    assert type(module.segmentor.network) is SemanticSegmentor
    assert type(module.segmentor.head) is Plain
    states = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["optimizer_states"][0]["state"].values()
    momenta = {tuple(state["momentum_buffer"].shape): state["momentum_buffer"] for state in states}
    assert momenta[32, 16, 3, 3].abs().sum() > 0
    assert momenta[6, 32, 1, 1].abs().sum() > 0


class _Pairs(Dataset[dict[str, Any]]):
    """Images and masks of one folder through one pipeline of albumentations, as Detectron2's format wants them."""

    def __init__(self, folder: Path, pipeline: A.Compose) -> None:
        self.images = sorted((folder / "images").iterdir())
        self.pipeline = pipeline

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        file = self.images[index]
        image = np.array(Image.open(file).convert("RGB"))
        truth = np.array(Image.open(file.parent.parent / "masks" / f"{file.stem}.png"))
        pair = self.pipeline(image=image.copy(), mask=truth.copy())
        return {
            "image": torch.as_tensor(pair["image"]).permute(2, 0, 1),
            "sem_seg": torch.as_tensor(pair["mask"]),
            "truth": torch.as_tensor(truth),
            "height": truth.shape[0],
            "width": truth.shape[1],
            "name": file.stem,
        }


class _OwnData(pl.LightningDataModule):
    """A data module of one's own."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def train_dataloader(self) -> Any:
        pairs = _Pairs(self.root / "train", A.Compose([A.Resize(32, 48), A.HorizontalFlip()], seed=1))
        return DataLoader(pairs, batch_size=2, shuffle=True, collate_fn=list)

    def val_dataloader(self) -> Any:
        return DataLoader(_Pairs(self.root / "val", A.Compose([])), batch_size=2, collate_fn=list)


def test_own_data_under_a_trainer_of_ones_own(scenes: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = SegmentationModule("Misc/semantic_R_50_FPN_1x.yaml", CLASSES, overrides=TINY_OVERRIDES, weights="")
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, default_root_dir=tmp_path, num_sanity_val_steps=0,
    )  # fmt: skip
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    trainer.fit(module, datamodule=_OwnData(scenes))
    assert trainer.global_step == 3
    assert np.isfinite(float(trainer.callback_metrics["train/loss"]))
    assert any(not torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    report = module.report
    assert report is not None
    masks = [np.asarray(Image.open(file)) for file in (scenes / "val/masks").iterdir()]
    counts = sum(np.bincount(mask[mask != 255], minlength=6) for mask in masks)
    assert report.matrix.sum(1).tolist() == counts.tolist()  # each pixel once, at the stored size
    assert float(trainer.callback_metrics["val/mIoU"]) == pytest.approx(report.averages["mIoU"])
