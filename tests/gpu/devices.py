"""Samples on a device."""

from typing import Any

import torch
from torch import Tensor

Batch = list[dict[str, Any]]


def on(device: torch.device, batch: Batch) -> Batch:
    return [
        {name: value.to(device) if isinstance(value, Tensor) else value for name, value in sample.items()}
        for sample in batch
    ]
