"""Evaluation: what of a validation is not the network's forward pass, and the way from the head's output to counts."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from evaluation import IGNORE, STRIDE, detectron2_evaluator
from torch.nn import functional as F

from lightning_seg.data import Folder, SegmentationDataModule
from lightning_seg.inference.whole import label_maps
from lightning_seg.metrics.functional import count_pairs
from lightning_seg.module import SegmentationModule
from lightning_seg.structures import DenseScores
from sections.images import SIZE, write_scenes
from sections.loop import quiet
from sections.steps import FPN
from sections.table import Row, Settings, peak_gib, seconds, synchronise

WARM_UP = 4


class _Clock(pl.Callback):
    """Seconds of a validation after its first images."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.start = self.seconds = 0.0

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == WARM_UP:
            synchronise(self.device)
            self.start = time.perf_counter()

    def on_validation_epoch_end(self, *_: Any) -> None:
        synchronise(self.device)
        self.seconds = time.perf_counter() - self.start


def run(settings: Settings) -> Iterator[Row]:
    """For few and for many classes."""
    size = (64, 128) if settings.tiny else SIZE
    images = WARM_UP + (2 if settings.tiny else 40)
    folder = settings.folder / "evaluating"
    write_scenes(folder, 2 if settings.tiny else 16, names=images, size=size)
    for classes in (19, 150):
        data = SegmentationDataModule(
            classes=[f"class{index}" for index in range(classes)],
            val=Folder(images=str(folder / "images"), masks=str(folder / "masks")),
        )
        module = _with_classes(classes)
        epoch = _validation_seconds(module, data, settings.device) / (images - WARM_UP)
        forward = _forward_seconds(module, size, settings.device, 2 if settings.tiny else 20)
        yield Row(
            f"{FPN.name}, {classes} classes: not the forward pass", 1000 * epoch, 1000 * forward,
            (epoch - forward) / epoch, 0.05, at_most=True, unit="ms/image",
        )  # fmt: skip
        yield _counts_row(classes, size, settings)


def _with_classes(classes: int) -> SegmentationModule:
    module = replace(FPN, classes=classes).build(channels_last=True)
    module._has_weights = True  # random ones will do here
    return module


def _validation_seconds(module: SegmentationModule, data: SegmentationDataModule, device: str) -> float:
    clock = _Clock(device)
    with quiet():
        pl.Trainer(
            accelerator="gpu" if device == "cuda" else "cpu", devices=1, precision="bf16-mixed", logger=False,
            enable_checkpointing=False, enable_progress_bar=False, callbacks=[clock], benchmark=True,
        ).validate(module, data, verbose=False)  # fmt: skip
    return clock.seconds


def _forward_seconds(module: SegmentationModule, size: tuple[int, int], device: str, repetitions: int) -> float:
    """Of backbone and head for one image that is on the device already."""
    segmentor = module.to(device).eval().segmentor
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8, device=device)
    inputs = segmentor.inputs([{"image": image}])

    def forward() -> None:
        with torch.no_grad(), torch.autocast(device, torch.bfloat16):
            segmentor.head.evaluate(segmentor.network.backbone(inputs), size)

    for _ in range(2):
        forward()
    return seconds(forward, device, repetitions)


def _counts_row(classes: int, size: tuple[int, int], settings: Settings) -> Row:
    """From the head's output on the device to counts, here and in Detectron2's evaluator."""
    from detectron2.modeling.postprocessing import sem_seg_postprocess

    device = settings.device
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, classes, *(side // STRIDE for side in size), generator=generator).to(device)
    truth = torch.randint(0, classes, size, generator=generator).to(torch.uint8)
    truth[:50] = IGNORE
    evaluator = detectron2_evaluator(truth.numpy(), classes)
    on_device = truth.to(device)
    counts: list[torch.Tensor] = []

    def ours() -> None:
        prediction = label_maps(DenseScores.of(logits, STRIDE), [size], [size])[0]
        counts[:] = [count_pairs(prediction, on_device, classes, IGNORE)[0]]

    def theirs() -> None:
        evaluator.reset()
        full = F.interpolate(logits, scale_factor=STRIDE, mode="bilinear", align_corners=False)
        evaluator.process(
            [{"file_name": "image"}], [{"sem_seg": sem_seg_postprocess(full[0], torch.Size(size), *size)}]
        )

    ours()
    theirs()
    differing = int(np.abs(counts[0].cpu().numpy() - evaluator._conf_matrix.T[:-1, :-1]).sum()) // 2
    repetitions = 1 if settings.tiny else 10
    own, other = (1000 * seconds(side, device, repetitions) for side in (ours, theirs))
    memory = [peak_gib(side, device) for side in (ours, theirs)]
    note = f"{differing} pixels counted otherwise"
    if memory[0] is not None and memory[1] is not None:
        note += f"; peak memory {memory[0]:.3f} against {memory[1]:.3f} GiB"
    return Row(
        f"{classes} classes: head output to counts", own, other, other / own, unit="ms",
        failed=differing > 1e-4 * truth.numel(), note=note,
    )  # fmt: skip
