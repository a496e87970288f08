"""Samples that all loading processes share."""

import multiprocessing
import os
import sys
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

from lightning_seg.data.loading.records import Records
from lightning_seg.structures import Annotations, Sample, Segment

SAMPLES = [
    Sample("a/b", Path("images/a/b.jpg"), Path("masks/a/b.png")),
    Sample("c", Path("c.jpg"), Annotations("coco.json, image 3", (Segment(7, 2, [[0.0, 1.0]], crowd=True),), (4, 5))),
    Sample("ü 2", Path("/x/ü 2.jpg")),
]


def test_samples_come_back_as_they_were() -> None:
    records = Records(SAMPLES)
    assert list(records) == SAMPLES
    assert records[-1] == SAMPLES[-1]
    assert records[1:] == SAMPLES[1:]
    assert len(Records([])) == 0
    with pytest.raises(IndexError):
        records[3]


class Names(Dataset[int]):
    def __init__(self, count: int) -> None:
        folder = Path("/data")
        self.samples = Records(
            Sample(f"{n:07d}", folder / f"{n:07d}.jpg", folder / f"{n:07d}.png") for n in range(count)
        )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> int:
        return len(self.samples[index].name)


def kilobytes(process: int | None) -> int:
    """Proportional set size: of pages that n processes share, each counts one n-th."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_four_workers_take_hardly_more_memory_than_one() -> None:
    dataset = Names(20_000)

    def memory(workers: int) -> int:
        loader = DataLoader(
            dataset, batch_size=256, shuffle=True, num_workers=workers, persistent_workers=True,
            multiprocessing_context="fork",
        )  # fmt: skip
        batches = iter(loader)
        assert sum(1 for _ in batches) == len(loader)
        return kilobytes(os.getpid()) + sum(kilobytes(process.pid) for process in multiprocessing.active_children())

    one = memory(1)
    assert memory(4) < 1.3 * one
