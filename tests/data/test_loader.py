"""What a loading process is like."""

from typing import Any

import cv2
import pytest
import torch
from torch.utils.data import Dataset

from lightning_seg.data.loading.loader import build_loader

pytestmark = pytest.mark.usefixtures("two_threads")


class Threads(Dataset[dict[str, Any]]):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"torch": torch.get_num_threads(), "cv2": cv2.getNumThreads()}


@pytest.mark.parametrize("workers", [1, 2])
def test_loading_processes_run_one_thread(workers: int) -> None:
    loader = build_loader(Threads(), torch.utils.data.SequentialSampler(range(2)), batch_size=1, num_workers=workers)
    assert loader.persistent_workers
    assert list(loader) == [[{"torch": 1, "cv2": 1}]] * 2


def test_the_training_process_keeps_its_threads() -> None:
    before = torch.get_num_threads(), cv2.getNumThreads()
    loader = build_loader(Threads(), torch.utils.data.SequentialSampler(range(2)), batch_size=2, num_workers=0)
    assert list(loader) == [[{"torch": before[0], "cv2": before[1]}] * 2]
