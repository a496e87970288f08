"""EoMT in a training: annealing and layer decay over the run's real steps, and what a resumed run ends with."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from tests.models.networks import EOMT
from tests.models.samples import make_batch
from tests.training import fit, make

pytestmark = [pytest.mark.runs, pytest.mark.usefixtures("one_thread")]

BATCHES = [make_batch([(64, 64)])] * 12
"""All the same: a plain list does not go on where a run stopped."""


class _Steps(pl.Callback):
    """Draws from the step alone, as the data do; keeps each step's shares; and saves a checkpoint."""

    def __init__(self, save_at: int, path: Path) -> None:
        self.save_at, self.path = save_at, path
        self.shares: dict[int, list[float]] = {}

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        torch.manual_seed(trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        head = module.segmentor.network.sem_seg_head
        self.shares[head.step] = head.annealing.shares(head.step, head.total_steps)
        if trainer.global_step == self.save_at:
            trainer.save_checkpoint(self.path)


def _train(folder: Path, **settings: Any) -> tuple[dict[str, Tensor], dict[int, list[float]]]:
    steps = _Steps(3, folder / "at3.ckpt")
    module = make(EOMT, layer_decay=0.8)
    if settings:
        trainer = pl.Trainer(
            accelerator="cpu", devices=1, max_epochs=1, logger=False, enable_checkpointing=False, callbacks=[steps],
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(module, torch.utils.data.DataLoader(BATCHES, batch_size=None), **settings)  # type: ignore[arg-type]
    else:
        fit(module, BATCHES, folder, callbacks=[steps])
    return module.state_dict(), steps.shares


def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    weights, shares = _train(tmp_path)
    assert list(shares) == list(range(12))
    assert shares[3] == pytest.approx([0.5**0.9, 1])
    assert shares[9] == pytest.approx([0, 0.5**0.9])
    assert shares[11] == [0, 0]
    again, resumed = _train(tmp_path, ckpt_path=tmp_path / "at3.ckpt", weights_only=False)
    assert list(resumed) == list(range(3, 12))
    assert all(resumed[step] == shares[step] for step in resumed)
    assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())
    started = make(EOMT).state_dict()
    assert any(not torch.equal(started[name], tensor) for name, tensor in weights.items())
