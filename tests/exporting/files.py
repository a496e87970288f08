"""Exported files and checkpoints of small networks."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from lightning_seg.exporting.exporter import EXACT
from lightning_seg.exporting.graph import Graph
from lightning_seg.exporting.images import Kind, odd_sizes
from lightning_seg.exporting.metadata import Metadata
from lightning_seg.exporting.parity import Certificate, Run, certify
from lightning_seg.exporting.running import ExportedNetwork
from lightning_seg.exporting.tracing import free_copy, trace
from lightning_seg.exporting.writing import write_onnx, write_pt2
from lightning_seg.models.segmentor import Segmentor
from lightning_seg.module import SegmentationModule
from tests.conftest import CLASSES
from tests.models.networks import SMALLEST

ZOO = "Misc/semantic_R_50_FPN_1x.yaml"


def shaken(segmentor: Segmentor) -> Segmentor:
    """In evaluation mode, with running statistics as a training leaves them and logits that are far apart."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, buffer in segmentor.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return segmentor.eval()


def metadata_of(*outputs: str) -> Metadata:
    names = tuple(f"class {index}" for index in range(5))
    return Metadata(
        class_names=names,
        palette=((1, 2, 3),) * len(names),
        ignore_index=255,
        channels=("red", "green", "blue"),
        outputs=("mask", *outputs),
        precision="float32",
        config=ZOO,
        overrides={},
        checkpoint="a.ckpt",
        step=7,
    )


def files_of(segmentor: Segmentor, folder: Path) -> dict[str, Path]:
    """The same network as ``a.onnx`` and ``a.pt2``."""
    program = trace(Graph(free_copy(segmentor)))
    written = {}
    for suffix, write in ((".onnx", write_onnx), (".pt2", write_pt2)):
        written[suffix] = folder / f"a{suffix}"
        write(program, written[suffix], metadata_of())
    return written


def running(file: Path) -> Run:
    network = ExportedNetwork(file)
    return lambda image: network(image).mask


RGB = Kind(torch.uint8, torch.zeros(3, 1, 1), torch.ones(3, 1, 1))


def certificate_of(segmentor: Segmentor, run: Run, kind: Kind = RGB) -> Certificate:
    """Of all odd sizes, with noise."""
    return certify(segmentor, run, odd_sizes([], kind), EXACT)


def module_of(overrides: dict[str, Any] | None = None, classes: list[str] | None = None) -> SegmentationModule:
    torch.manual_seed(0)
    module = SegmentationModule(ZOO, classes or CLASSES, overrides={**SMALLEST, **(overrides or {})}, weights="")
    shaken(module.segmentor)
    return module


def save(module: SegmentationModule, path: Path) -> Path:
    """A checkpoint as a Trainer writes it."""
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, barebones=False
    )
    trainer.strategy.connect(module)
    path.parent.mkdir(parents=True, exist_ok=True)
    trainer.save_checkpoint(path, weights_only=True)
    return path
