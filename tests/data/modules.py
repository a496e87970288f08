"""A data module of a small folder, and what it yields."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lightning_seg.data import (
    Folder,
    SegmentationDataModule,
)
from tests.conftest import CLASSES


def make(root: Path, **settings: Any) -> SegmentationDataModule:
    readers = {part: Folder(images=f"{part}/images", masks=f"{part}/masks") for part in ("train", "val")}
    return SegmentationDataModule(
        **{"classes": CLASSES, "root": str(root), "num_workers": 0, "batch_size": 2, **readers, **settings}
    )


SEEN = list[list[tuple[str, bytes, bytes]]]
"""What each sample of each epoch looked like."""


def epochs(data: SegmentationDataModule, count: int, before: Callable[[int], None] = lambda epoch: None) -> SEEN:
    """Some epochs of one loader, whose workers live as long as it does."""
    data.setup("fit")
    loader = data.train_dataloader()
    seen = []
    for epoch in range(count):
        before(epoch)
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        samples = [sample for batch in loader for sample in batch]
        seen.append([(s["name"], s["image"].numpy().tobytes(), s["sem_seg"].numpy().tobytes()) for s in samples])
    return seen


def trainer_of(rank: int, processes: int = 2) -> Any:
    """What a data module asks its trainer in one of some processes."""
    return SimpleNamespace(
        overfit_batches=0, world_size=processes, global_rank=rank, num_devices=processes, training=False
    )
