"""The parity certificate: what an exported file says, pixel by pixel, beside what the network says."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_seg.errors import describe
from lightning_seg.exporting.graph import mask_dtype
from lightning_seg.exporting.metadata import Metadata
from lightning_seg.files import replacing, sha256
from lightning_seg.inference.whole import label_maps, plain_scores
from lightning_seg.models.segmentor import Segmentor
from lightning_seg.structures import Batch

TIE = 1e-4
"""Logits that differ by less than this times the larger one of 1 and the best one's size are a tie."""

SIZES = (
    (1, 1, 1), (1, 1, 37), (2, 7, 300), (1, 31, 33), (3, 65, 97), (1, 97, 131), (2, 128, 160), (1, 33, 257),
    (5, 64, 64), (1, 257, 95), (1, 191, 319), (2, 224, 352),
)  # fmt: skip
"""Images of a batch, heights and widths that every file is tried with, odd ones among them."""

Run = Callable[[Tensor], Tensor]
"""Label maps (N, H, W) of images (N, C, H, W), as stored."""


class Images(NamedTuple):
    """A batch that a file is tried with.

    Attributes:
        name: of the image, for the certificate.
        pixels: (N, C, H, W), as stored.
    """

    name: str
    pixels: Tensor


@dataclass(frozen=True)
class Trial:
    """One batch.

    Attributes:
        name: of the image.
        size: N, height and width.
        pixels: N × height × width.
        differing: pixels of another class than the network's.
        wrong: those of them that are no ties.
        problem: why the file gave nothing, or something of a wrong shape or type.
    """

    name: str
    size: tuple[int, int, int]
    pixels: int
    differing: int = 0
    wrong: int = 0
    problem: str | None = None


@dataclass
class Certificate:
    """What an exported file was found to say.

    Attributes:
        allowed: share of pixels that may be wrong.
        trials: one a batch.
        skipped: sizes that the network itself refuses, with its reason.
        notes: what else was measured, such as mIoU before and after.
        failures: reasons beside wrong pixels why the file does not pass.
    """

    allowed: float
    trials: list[Trial] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def pixels(self) -> int:
        return sum(trial.pixels for trial in self.trials if trial.problem is None)

    @property
    def wrong(self) -> int:
        return sum(trial.wrong for trial in self.trials)

    def problems(self) -> list[str]:
        """Why the file does not pass; none where it does."""
        found = [f"{_shown(trial)}: {trial.problem}" for trial in self.trials if trial.problem is not None]
        if self.wrong > self.allowed * self.pixels:
            worst = max(self.trials, key=lambda trial: trial.wrong / trial.pixels)
            found.append(
                f"{self.wrong} of {self.pixels} pixels are of another class than the network's and no ties, where "
                f"{self.allowed:.2%} are allowed; most of all in {_shown(worst)}: {worst.wrong} of {worst.pixels}"
            )
        if not self.trials:
            found.append("there is no image that the network itself takes")
        return found + self.failures

    def summary(self) -> str:
        """What is printed."""
        differing = sum(trial.differing for trial in self.trials)
        return (
            f"{len(self.trials)} batches, {self.pixels} pixels: {differing} of another class than the network's, "
            f"{self.wrong} of them no ties"
        )

    def write(self, path: Path, file: Path, metadata: Metadata) -> None:
        """Write it as JSON.

        Args:
            path: of the certificate.
            file: that it is about, as it lies there now.
            metadata: of that.
        """
        content = {
            "file": file.name,
            "sha256": sha256(file),
            "passed": not self.problems(),
            "problems": self.problems(),
            "precision": metadata.precision,
            "checkpoint": metadata.checkpoint,
            "step": metadata.step,
            "made_with": dict(metadata.made_with),
            "tie": f"best logit - logit of the other class <= {TIE} * max(1, |best logit|)",
            "allowed_share": self.allowed,
            "pixels": self.pixels,
            "differing": sum(trial.differing for trial in self.trials),
            "differing_no_ties": self.wrong,
            **self.notes,
            "skipped": self.skipped,
            "trials": [asdict(trial) for trial in self.trials],
        }
        with replacing(path, "w") as output:
            json.dump(content, output, indent=1, ensure_ascii=False)


def certify(segmentor: Segmentor, run: Run, batches: Iterable[Images], allowed: float) -> Certificate:
    """Compare what a file says with what the network says in float32.

    Args:
        segmentor: in evaluation mode, in float32 on the CPU.
        run: the file.
        batches: that it is tried with.
        allowed: share of pixels that may be wrong.
    """
    certificate = Certificate(allowed)
    for name, pixels in batches:
        batch: Batch = [{"image": image} for image in pixels]
        number, _, height, width = pixels.shape
        size = (number, height, width)
        try:
            labels, logits = _expected(segmentor, batch, (height, width))
        except Exception as error:  # a user's network may refuse sizes, in any way
            certificate.skipped.append(f"{name} {size}: {describe(error)}")
            continue
        certificate.trials.append(_compare(name, size, labels, logits, run, pixels))
    return certificate


def _expected(segmentor: Segmentor, batch: Batch, size: tuple[int, int]) -> tuple[Tensor, list[Tensor]]:
    """Label maps (N, H, W) as the module gives them, and logits (K, H, W) of each image."""
    with torch.no_grad():
        scores = segmentor.evaluate(batch).scores
        maps = label_maps(scores, [size] * len(batch), [size] * len(batch))
        full = [plain_scores(one) for one in scores]
    return torch.stack(maps), [one[..., : size[0], : size[1]] for one in full]


def _compare(
    name: str, size: tuple[int, int, int], labels: Tensor, logits: Sequence[Tensor], run: Run, pixels: Tensor
) -> Trial:
    total = labels.numel()
    try:
        found = run(pixels)
    except Exception as error:  # the libraries' own, of many kinds
        return Trial(name, size, total, problem=f"it cannot be run: {describe(error).splitlines()[0]}")
    kind = mask_dtype(len(logits[0]))
    if found.shape != labels.shape or found.dtype != kind:
        given = f"{found.dtype} of shape {tuple(found.shape)}"
        return Trial(name, size, total, problem=f"the mask is {given}, but {kind} {tuple(labels.shape)} is needed")
    differs = found.long() != labels.long()
    if not differs.any():
        return Trial(name, size, total)
    if int(found.max()) >= len(logits[0]) or int(found.min()) < 0:
        return Trial(name, size, total, problem=f"the mask holds {int(found.max())}, which is no class")
    wrong = sum(
        int((different & ~_tied(scores, one.long())).sum())
        for scores, one, different in zip(logits, found, differs, strict=True)
    )
    return Trial(name, size, total, int(differs.sum()), wrong)


def _tied(logits: Tensor, found: Tensor) -> Tensor:
    """Where the class that was found is as good as the best one, but for rounding."""
    best = logits.amax(0)
    return best - logits.gather(0, found[None])[0] <= TIE * best.abs().clamp(min=1)


def _shown(trial: Trial) -> str:
    number, height, width = trial.size
    return f"{trial.name}, {number} of {height}×{width}"
