"""Logits and targets, with ignored pixels."""

import torch
from torch import Tensor


def make_batch(
    shape: tuple[int, int, int, int] = (2, 4, 5, 7), ignore_index: int = 255, seed: int = 0, ignored: float = 0.25
) -> tuple[Tensor, Tensor]:
    """Logits in float32 and int64 labels, of which a share is ignored; often some class has no pixel."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(shape, generator=generator)
    highest = int(torch.randint(1, shape[1] + 1, (), generator=generator))
    target = torch.randint(0, highest, (shape[0], *shape[2:]), generator=generator)
    target[torch.rand(target.shape, generator=generator) < ignored] = ignore_index
    return logits, target
