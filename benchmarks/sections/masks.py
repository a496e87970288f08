"""Networks that classify masks: a training step against transformers' own model, and label maps by bands."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.inference.whole import label_maps
from lightning_seg.models.recipe import load_recipe
from lightning_seg.models.segmentor import Segmentor
from lightning_seg.models.weights.eomt import eomt_name
from lightning_seg.structures import MaskScores
from sections.loop import Batch, make_batch
from sections.table import Row, Settings, peak_gib, seconds

CONFIGS = Path(__file__).parents[2] / "configs/detectron2"
KINDS = {"Mask2Former R-50": "mask2former_R_50.yaml", "EoMT-S": "eomt_small.yaml"}
CLASSES, IGNORE = 150, 255
TINY: dict[str, dict[str, Any]] = {"Mask2Former R-50": {"MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 64}, "EoMT-S": {
    "MODEL.EOMT.IMAGE_SIZE": 64, "MODEL.EOMT.NUM_HIDDEN_LAYERS": 5, "MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 64,
}}  # fmt: skip


def run(settings: Settings) -> Iterator[Row]:
    """Steps first, in the recipes' precision and in float32; then scores of masks."""
    for name in KINDS:
        for precision in (torch.bfloat16, None):
            what = f"{name}, {'float32' if precision is None else 'bf16'}"
            if settings.left < 10 and not settings.tiny:
                yield Row(what, note="left out: no time")
                continue
            try:
                yield _steps_row(name, what, precision, settings)
            except Exception as error:  # the other rows are worth as much
                yield Row(what, failed=True, note=f"{type(error).__name__}: {error}"[:900])
    yield _bands_row(settings)


def _steps_row(name: str, what: str, precision: torch.dtype | None, settings: Settings) -> Row:
    device, tiny = settings.device, settings.tiny
    size, side = (2, 64) if tiny else (8, 512)
    pl.seed_everything(0, verbose=False)
    recipe = load_recipe(str(CONFIGS / KINDS[name]), TINY[name] if tiny else {})
    segmentor = Segmentor(recipe, num_classes=CLASSES, ignore_index=IGNORE).to(device).train()
    batch = _blocks(make_batch(size, side, side, 20), device)
    sides = {"here": lambda: list(segmentor.losses(batch).values())}
    if name == "EoMT-S":  # of Mask2Former, transformers lacks Detectron2's backbone
        sides["peer"] = _TransformersEoMT(segmentor, batch)
    found: dict[str, tuple[float, float, float | None]] = {}
    for label, losses in sides.items():
        network = segmentor if label == "here" else losses.model  # type: ignore[attr-defined]
        step = _step(network, losses, device, precision)
        gc.collect()
        torch.manual_seed(1)
        first = float(step())  # its weights are those of the other side
        for _ in range(0 if tiny else 3):
            step()
        memory = peak_gib(step, device)
        found[label] = size / seconds(step, device, 1 if tiny else 10), first, memory
    own, peer = found["here"], found.get("peer")
    note = "" if own[2] is None else f"peak of a step {own[2]:.2f} GiB" + (f" against {peer[2]:.2f}" if peer else "")
    if peer is None:
        return Row(what, own[0], unit="images/s", failed=not own[1] > 0, note=note)
    differ = abs(own[1] / peer[1] - 1)
    return Row(
        what, own[0], peer[0], own[0] / peer[0], unit="images/s", failed=differ > (0.02 if precision is None else 0.1),
        note=f"sums of the first losses {own[1]:.3f} and {peer[1]:.3f}; {note}",
    )  # fmt: skip


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


class _TransformersEoMT:
    """The loss of ``EomtForUniversalSegmentation`` with copies of a segmentor's weights.

    Its layers draw their points in another order, so that the loss is the same but for what points say.
    """

    def __init__(self, segmentor: Segmentor, batch: Batch) -> None:
        from transformers import EomtConfig, EomtForUniversalSegmentation

        head: Any = segmentor.network.sem_seg_head
        vit = head.vit
        layer = vit.blocks[0]
        self.model = EomtForUniversalSegmentation(
            EomtConfig(
                image_size=vit.grid * vit.patch_size, hidden_size=vit.channels, num_hidden_layers=len(vit.blocks),
                num_attention_heads=layer.attention.num_heads, num_blocks=len(vit.last_blocks),
                num_queries=head.query.num_embeddings, num_labels=CLASSES,
                train_num_points=head.criterion.num_points, attn_implementation="sdpa",
            )
        )  # fmt: skip
        own = segmentor.network.state_dict()
        self.model.load_state_dict(
            {name: own.get(eomt_name(name), tensor).clone() for name, tensor in self.model.state_dict().items()}
        )
        self.model.attn_mask_probs.fill_(1)
        self.model = self.model.to(batch[0]["image"].device).train()
        self.pixels = segmentor.inputs(batch)
        self.classes = [sample["sem_seg"].long().unique() for sample in batch]
        self.masks = [
            (sample["sem_seg"][None] == ids[:, None, None]).float()
            for sample, ids in zip(batch, self.classes, strict=True)
        ]

    def __call__(self) -> list[Tensor]:
        return [self.model(pixel_values=self.pixels, mask_labels=self.masks, class_labels=self.classes).loss]


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
