"""A higher image takes no more memory."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lightning_seg.inference import Augmented, Inference, SlidingWindow
from lightning_seg.structures import DenseScores

WIDTH, CLASSES, STATUS, RESET = 2000, 19, Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Endless:
    """An image that is nowhere as a whole."""

    def __init__(self, height: int) -> None:
        self.shape = (3, height, WIDTH)

    def window(self, rows: slice, columns: slice) -> torch.Tensor:
        return torch.full((3, rows.stop - rows.start, columns.stop - columns.start), 127, dtype=torch.uint8)


def ask(batch: Any) -> Any:
    sizes = [tuple(sample["image"].shape[1:]) for sample in batch]
    scores = [DenseScores(torch.zeros(CLASSES, -(-height // 4), -(-width // 4)), 4) for height, width in sizes]
    return SimpleNamespace(scores=scores, input_sizes=sizes, losses=[{} for _ in batch])


def peak(way: Inference, height: int) -> int:
    """Bytes that memory grows by at most."""

    def read(name: str) -> int:
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
        return int(line.split()[1]) * 1024

    RESET.write_text("5")  # the peak begins anew
    before = read("VmRSS")
    sample: Any = {"image": Endless(height), "height": 2 * height, "width": WIDTH}
    assert sum(len(labels) for _, labels in way.label_bands(ask, sample)) == 2 * height
    return read("VmHWM") - before


@pytest.mark.skipif(not RESET.exists(), reason="the kernel does not say it")
@pytest.mark.parametrize("way", [SlidingWindow((128, 128)), Augmented([1.0, 0.5], of=SlidingWindow((128, 128)))])
def test_memory_is_that_of_a_band_whatever_the_height(way: Inference) -> None:
    band = CLASSES * 128 * WIDTH * 4 * (3 if isinstance(way, Augmented) else 1)  # two views of half the width
    peak(way, 200)
    low, high = peak(way, 200), peak(way, 1000)
    assert high < 1.2 * low + 32e6  # all rows' scores would take 120 MB more; malloc keeps some of what was freed
    assert high < 1.5 * band + 32e6
