"""Samples on a device, and what was computed there beside what a CPU gives."""

from typing import Any

import torch
from torch import Tensor

Batch = list[dict[str, Any]]


def on(device: torch.device, batch: Batch) -> Batch:
    return [
        {name: value.to(device) if isinstance(value, Tensor) else value for name, value in sample.items()}
        for sample in batch
    ]


def assert_best(labels: Tensor, scores: Tensor, tolerance: float = 1e-3) -> None:
    """Each label has the best of the scores (K, H, W) that the CPU gives, but for ties within the tolerance."""
    chosen = scores.gather(0, labels.cpu().long()[None])[0]
    assert float((scores.amax(0) - chosen).max()) <= tolerance
