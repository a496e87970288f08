"""A training step without data: images/s and peak memory, against Detectron2's trainers on the same network."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from lightning_seg.losses import CrossEntropy, HardPixelMining
from lightning_seg.module import SegmentationModule
from sections.loop import Batch, make_batch
from sections.table import Row, Settings
from sections.training import Measured, disagreement, ours, theirs

CONFIGS = Path(__file__).parents[2] / "configs/detectron2"
ZOO = "Misc/semantic_R_50_FPN_1x.yaml"
SWIN = {
    "MODEL.BACKBONE.NAME": "build_timm_backbone",
    "MODEL.TIMM.NAME": "swin_tiny_patch4_window7_224",
    "MODEL.SEM_SEG_HEAD.NAME": "UPerNetHead",
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["stage1", "stage2", "stage3", "stage4"],
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 512,
    "MODEL.SEM_SEG_HEAD.NORM": "BN",
}


@dataclass(frozen=True)
class Network:
    """A network as a recipe trains it, with its crop and batch."""

    name: str
    config: str
    size: tuple[int, int]
    batch: int
    classes: int = 19
    criterion: type[CrossEntropy] | type[HardPixelMining] = CrossEntropy
    overrides: dict[str, Any] = field(default_factory=dict)

    def build(self, **settings: Any) -> SegmentationModule:
        """With random weights, the same at each call."""
        pl.seed_everything(0, verbose=False)
        return SegmentationModule(
            self.config, [f"class{index}" for index in range(self.classes)], weights="", overrides=self.overrides,
            criterion=self.criterion(low_memory=True), **settings,
        )  # fmt: skip


FPN = Network(
    "Semantic FPN R-50", ZOO, (512, 1024), 8,
    overrides={"MODEL.RESNETS.NORM": "BN", "MODEL.BACKBONE.FREEZE_AT": 0, "SOLVER.BASE_LR": 0.001},
)  # fmt: skip
NETWORKS = [
    FPN,
    Network(
        "DeepLabV3+ R-50", str(CONFIGS / "deeplab_v3_plus_R_50.yaml"), (512, 1024), 8, criterion=HardPixelMining,
        overrides={"SOLVER.BASE_LR": 0.001},
    ),
    Network(
        "DeepLabV3 R-103", str(CONFIGS / "deeplab_v3_R_103.yaml"), (512, 1024), 4, criterion=HardPixelMining,
        overrides={"SOLVER.BASE_LR": 0.001},
    ),
    Network("UPerNet Swin-T", ZOO, (512, 512), 8, 150, overrides={**SWIN, "SOLVER.BASE_LR": 0.001}),
]  # fmt: skip
SHIPPED: dict[str, Any] = {"precision": "bf16-mixed", "benchmark": True}
"""What the recipes have, beside channels_last."""


def run(settings: Settings) -> Iterator[Row]:
    """The recipes' settings first, then what each of them gives, other batches, and compiling."""
    torch.set_float32_matmul_precision("high")
    section = _Section(settings)
    for network in NETWORKS:
        yield from section.compare(network, "bf16, channels-last", amp=True, goal=1.5, channels_last=True, **SHIPPED)
    for network in [FPN] if settings.tiny else NETWORKS:
        yield from section.compare(network, "float32, TF32", amp=False, precision="32-true")
        yield from section.compare(network, "bf16", amp=True, precision="bf16-mixed")
        yield from section.compare(
            network, "bf16, channels-last, compiled", amp=True, channels_last=True, compile=True, **SHIPPED
        )
    for batch in () if settings.tiny else (4, 16):
        yield from section.compare(FPN, "bf16, channels-last", amp=True, batch=batch, channels_last=True, **SHIPPED)


class _Section:
    """Measures both sides; Detectron2's once for all settings that are compared with it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.steps = 1 if settings.tiny else 15
        self._theirs: dict[tuple[str, bool, int], Measured] = {}

    def compare(
        self, network: Network, name: str, *, amp: bool, goal: float | None = None, batch: int | None = None,
        channels_last: bool = False, compile: bool = False, **trainer: Any,
    ) -> Iterator[Row]:  # fmt: skip
        tiny, device = self.settings.tiny, self.settings.device
        batch = 2 if tiny else batch or network.batch
        what = f"{network.name}, batch {batch}, {name}"
        if self.settings.left < 5 + (60 if compile and not tiny else 0):
            yield Row(what, no_time=True)
            return
        if compile and tiny:
            yield Row(what, note="left out: compiling takes a minute on a CPU")
            return
        data = make_batch(batch, *((64, 64) if tiny else network.size), network.classes)
        try:
            peer = self._peer(network, data, amp)
            module = network.build(channels_last=channels_last, compile=compile)
            found = ours(module, data, self.steps, device, batch_size=batch, **trainer)
        except Exception as error:  # the other rows are worth as much
            yield Row(what, failed=True, note=f"{type(error).__name__}: {error}"[:900])
            return
        wrong = disagreement(found, peer, amp=amp)
        memory = "" if found.memory is None else f"peak memory {found.memory:.1f} against {peer.memory:.1f} GiB"
        yield Row(
            what, found.images_per_s, peer.images_per_s, found.images_per_s / peer.images_per_s, goal,
            unit="images/s", failed=bool(wrong), note="\n".join(filter(None, (wrong, memory))),
        )  # fmt: skip

    def _peer(self, network: Network, data: Batch, amp: bool) -> Measured:
        amp = amp and self.settings.device == "cuda"  # Detectron2's AMP wants CUDA
        key = (network.name, amp, len(data))
        if key not in self._theirs:
            self._theirs[key] = theirs(network.build(), data, self.steps, self.settings.device, amp=amp)
        return self._theirs[key]
