"""Networks that classify masks: a training step against transformers' own model, and label maps by bands."""

import gc
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.inference.whole import label_maps
from lightning_seg.models.recipe import load_recipe
from lightning_seg.models.segmentor import Segmentor
from lightning_seg.structures import MaskScores
from sections.loop import Batch, make_batch
from sections.mask_peers import Peer
from sections.table import Row, Settings, peak_gib, seconds

CONFIGS = Path(__file__).parents[2] / "configs/detectron2"
KINDS = {"Mask2Former R-50": "mask2former_R_50.yaml", "EoMT-S": "eomt_small.yaml", "EoMT-B": "eomt_base.yaml"}
CLASSES, IGNORE = 150, 255
_POINTS = {"MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 1024}
_SMALL_VIT = {**_POINTS, "MODEL.EOMT.IMAGE_SIZE": 64, "MODEL.EOMT.NUM_HIDDEN_LAYERS": 5}
TINY: dict[str, dict[str, Any]] = {
    "Mask2Former R-50": _POINTS,
    "EoMT-S": _SMALL_VIT,
    "EoMT-B": {**_SMALL_VIT, "MODEL.EOMT.HIDDEN_SIZE": 192},
}


def run(settings: Settings) -> Iterator[Row]:
    """Steps in the recipes' precision, scores of masks, and steps in float32."""
    kinds = KINDS if find_spec("transformers") else {}
    if not kinds:
        why = "left out: transformers is not installed: pip install 'lightning_seg[transformers]'"
        yield Row(", ".join(KINDS), note=why)
    for name in kinds:
        yield steps_row(name, torch.bfloat16, settings)
    yield _bands_row(settings)
    for name in kinds:
        yield steps_row(name, None, settings)


def steps_row(name: str, precision: torch.dtype | None, settings: Settings) -> Row:
    """A network's step, in float32 or by autocast, against transformers'."""
    what = f"{name}, {'float32' if precision is None else 'bf16'}"
    if settings.left < 12:
        return Row(what, no_time=True)
    try:
        return _compared(name, what, precision, settings)
    except Exception as error:  # the other rows are worth as much
        return Row(what, failed=True, note=f"{type(error).__name__}: {error}"[:900])


def _compared(name: str, what: str, precision: torch.dtype | None, settings: Settings) -> Row:
    size, side = (2, 64) if settings.tiny else (8, 512)
    segmentor, batch = network_and_batch(name, size, side, tiny=settings.tiny, device=settings.device)
    peer = Peer(segmentor, batch)
    apart = peer.difference(segmentor)
    own, other = (
        _measured(network, losses, precision, size, settings)
        for network, losses in (
            (segmentor, lambda: list(segmentor.losses(batch).values())),
            (peer.model, peer),
        )
    )
    differ = abs(own.loss / other.loss - 1)
    note = f"logits differ by {apart:.0e}; sums of the first losses {own.loss:.3f} and {other.loss:.3f}"
    if own.peak is not None and other.peak is not None:
        note += f"; peak of a step {own.peak:.2f} against {other.peak:.2f} GiB"
    return Row(
        what, own.rate, other.rate, own.rate / other.rate, unit="images/s", note=note,
        failed=not apart < 1e-2 or not differ < (0.02 if precision is None else 0.1),
    )  # fmt: skip


def network_and_batch(name: str, size: int, side: int, *, tiny: bool, device: str) -> tuple[Segmentor, Batch]:
    """A network with random weights, in training, and a batch of so many squares for it."""
    pl.seed_everything(0, verbose=False)
    recipe = load_recipe(str(CONFIGS / KINDS[name]), TINY[name] if tiny else {})
    segmentor = Segmentor(recipe, num_classes=CLASSES, ignore_index=IGNORE).to(device).train()
    return segmentor, _blocks(make_batch(size, side, side, 20), device)


class _Measured(NamedTuple):
    """Images per second, the sum of the first step's losses, and the peak of a GPU's memory in a step, in GiB."""

    rate: float
    loss: float
    peak: float | None


def _measured(
    network: nn.Module, losses: Callable[[], list[Tensor]], precision: torch.dtype | None, size: int, settings: Settings
) -> _Measured:
    step = _step(network, losses, settings.device, precision)
    gc.collect()
    torch.manual_seed(1)
    first = float(step())  # its weights are those of the other side
    for _ in range(0 if settings.tiny else 3):
        step()
    peak = peak_gib(step, settings.device)
    return _Measured(size / seconds(step, settings.device, 1 if settings.tiny else 8), first, peak)


def _blocks(batch: Batch, device: str) -> Batch:
    """Masks of some size, on the device: classes of 8 × 8 blocks of the image."""
    for sample in batch:
        side = sample["height"] // 8
        labels = sample["sem_seg"][::side, ::side]
        sample["sem_seg"] = labels.repeat_interleave(side, 0).repeat_interleave(side, 1).to(device)
        sample["image"] = sample["image"].to(device)
    return batch


def _step(
    network: nn.Module, losses: Callable[[], list[Tensor]], device: str, precision: torch.dtype | None
) -> Callable[[], Tensor]:
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-6)

    def step() -> Tensor:
        with torch.autocast(device, precision or torch.bfloat16, enabled=precision is not None):
            total = torch.stack(losses()).sum()
        optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return total.detach()

    return step


def _bands_row(settings: Settings) -> Row:
    """100 queries, 150 classes, 1024×2048."""
    device = settings.device
    queries, classes, (height, width) = (10, 19, (64, 128)) if settings.tiny else (100, 150, (1024, 2048))
    torch.manual_seed(0)
    probabilities = torch.randn(queries, classes + 1).softmax(-1)[:, :-1].to(device)
    scores = MaskScores(probabilities, 4 * torch.randn(queries, height // 4, width // 4).to(device), 4)

    def bands() -> Tensor:
        return label_maps([scores], [(height, width)], [(height, width)])[0]

    def plain() -> Tensor:
        full = F.interpolate(scores.masks[None], scale_factor=4, mode="bilinear", align_corners=False)[0]
        return torch.einsum("qk,qhw->khw", scores.probabilities, full.sigmoid()).argmax(0)

    differing = int((bands().long() != plain()).sum())
    memory = [peak_gib(way, device) for way in (bands, plain)]
    own, other = (1000 * seconds(way, device, 1 if settings.tiny else 10) for way in (bands, plain))
    note = f"{differing} ties"
    if memory[0] is not None and memory[1] is not None:
        note += f"; peak memory {memory[0]:.2f} against {memory[1]:.2f} GiB"
    return Row(
        f"masks to labels by bands, {queries} queries, {height}×{width}", own, other, other / own, unit="ms",
        failed=differing > 1e-3 * height * width, note=note,
    )  # fmt: skip
