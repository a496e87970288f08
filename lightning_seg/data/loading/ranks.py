"""Tells all training processes what one of them knows."""

from collections.abc import Callable
from typing import TypeVar

import torch.distributed

from lightning_seg.errors import LightningSegError

T = TypeVar("T")


def this_rank() -> int:
    """Number of this training process among all of them."""
    started = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if started else 0


def gather(compute: Callable[[], T]) -> list[T]:
    """Results of all training processes in the order of their ranks; one where there is no process group.

    Raises:
        LightningSegError: on every process, where ``compute`` raises it on one: nobody is left waiting for it.
    """
    outcome: T | LightningSegError
    try:
        outcome = compute()
    except LightningSegError as error:
        outcome = error
    outcomes: list[T | LightningSegError | None] = [outcome]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        outcomes = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(outcomes, outcome)
    results: list[T] = []
    for found in outcomes:
        if isinstance(found, LightningSegError):
            raise found
        results.append(found)  # type: ignore[arg-type]  # every place is filled now
    return results
