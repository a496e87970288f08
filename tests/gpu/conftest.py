"""The device of these tests: a GPU, without which they are skipped.

``LIGHTNING_SEG_GPU_TESTS=cpu`` runs them on the CPU instead, to try the tests themselves.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent
FORCED = os.environ.get("LIGHTNING_SEG_GPU_TESTS")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once, at the first matrix product on a GPU


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skip(reason="no GPU")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if FORCED is None and not torch.cuda.is_available():
                item.add_marker(missing)


@pytest.fixture
def device() -> torch.device:
    return torch.device(FORCED or "cuda")


@pytest.fixture(autouse=True)
def _exact(one_thread: None) -> Iterator[None]:
    """Products in float32, not in TF32, whatever an earlier test has chosen."""
    convolutions = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    yield
    torch.backends.cudnn.allow_tf32 = convolutions


@pytest.fixture
def fit(experiment: Callable[..., Path], device: torch.device) -> Iterator[Callable[..., dict[str, Any]]]:
    """Train the small experiment on the device; returns its last checkpoint.

    A process group, or an algorithm that a run has chosen, does not outlive the test.
    """

    from lightning_seg.cli import main

    def train(*options: str, name: str = "tiny") -> dict[str, Any]:
        accelerator = "gpu" if device.type == "cuda" else "cpu"
        main(
            ["fit", "--config", str(experiment()), "--name", name, "--trainer.accelerator", accelerator,
             "--trainer.max_epochs", "1", *options]
        )  # fmt: skip
        loaded: dict[str, Any] = torch.load(f"runs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)
        return loaded

    yield train
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    torch.use_deterministic_algorithms(False)
