"""This project: ``SegmentationModule`` under Lightning's Trainer with what watches every run, and ``load``."""

import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from sections.loop import Batch, quiet
from sections.training import ours
from torch.nn import functional as F

import lightning_seg
from lightning_seg.module import SegmentationModule
from sides.counting import CLASSES, facts, images_per_second
from sides.pairs import ALWAYS, Pair


def build(pair: Pair) -> SegmentationModule:
    """With random weights."""
    names = [f"class{index}" for index in range(CLASSES)]
    return SegmentationModule(pair.config, names, weights="", overrides={**ALWAYS, **pair.overrides})


def save(module: SegmentationModule, path: Path) -> None:
    """Write a checkpoint, as a training does."""
    with quiet():
        trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, default_root_dir=path.parent)
        trainer.strategy.connect(module)
        trainer.save_checkpoint(path)


def save_new(pair: Pair, path: Path) -> None:
    """Write one of random weights."""
    save(build(pair), path)


def check(pair: Pair, batch: Batch) -> dict[str, Any]:
    """Parameters, FLOPs, shapes and loss."""
    module = build(pair)
    truth = torch.stack([sample["sem_seg"] for sample in batch]).long()
    with tempfile.TemporaryDirectory() as folder:
        save(module, path := Path(folder) / "model.ckpt")
        labels = lightning_seg.load(path, device="cpu")(batch[0]["image"]).mask
    module.eval()

    def forward() -> torch.Tensor:
        scores = module.segmentor.scores(batch)
        logits = torch.stack([of_image.maps for of_image in scores])
        return F.interpolate(logits, scale_factor=scores[0].stride, mode="bilinear", align_corners=False)

    with torch.no_grad():
        loss = torch.stack(list(module.segmentor.losses(batch).values())).sum()
    return facts(module, forward, pair.beside_here, torch.as_tensor(labels), loss, truth)


def train(pair: Pair, batch: Batch, steps: int, warm_up: int) -> float:
    """Images per second of training steps."""
    return ours(build(pair), batch, steps, "cpu", batch_size=len(batch), warm_up=warm_up).images_per_s


def infer(pair: Pair, batch: Batch, steps: int, warm_up: int) -> float:
    """Images per second, one at a time, from pixels to class ids."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.ckpt"
        with ProcessPoolExecutor(1, get_context("spawn")) as other:  # this process loads a network, and trained none
            other.submit(save_new, pair, path).result()
        predictor = lightning_seg.load(path, device="cpu")
    images = [sample["image"].permute(1, 2, 0).numpy() for sample in batch]
    return images_per_second(lambda: [predictor(image).mask for image in images], len(images), warm_up, steps)
