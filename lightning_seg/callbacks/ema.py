"""Averaged weights: Lightning's callback, without what it does wrong to a segmentor and its checkpoints."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

Average = Callable[[Tensor, Tensor, Tensor | int], Tensor]


class EMA(EMAWeightAveraging):
    """Validates with, and keeps in ``state_dict`` of checkpoints, an exponential moving average of the weights.

    Its options are Lightning's, such as ``decay`` and ``update_starting_at_step``. A checkpoint also has the weights as
    they were trained (``current_model_state``), from which a run goes on. Other than in Lightning's class of 2.6

    * integer buffers are copied, which it rounds down (some decays spoil Swin's ``relative_position_index``), and
      buffers that do not change, such as the pixel mean, stay as they are;
    * the average lies on the training's device, where it is the CPU there;
    * before the first update, the weights count as they are, where it has those of before ``model.weights`` was read;
    * a checkpoint of the end of the training still has the weights as they were trained.
    """

    _trained: dict[str, Tensor] | None = None
    """The weights as they were trained, once those of the module are the average."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None and stage == "fit":
            self._trained = None
            self._average_model.avg_fn = _exact(self._average_model.avg_fn)
            if self._device is None:
                self._average_model.to(trainer.strategy.root_device)

    @property
    def _begun(self) -> bool:
        return self._average_model is not None and int(self._average_model.n_averaged) > 0

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._begun and self._trained is None:
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._begun and self._trained is None:
            super().on_validation_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._begun:
            self._trained = {name: value.clone() for name, value in pl_module.state_dict().items()}
            super().on_train_end(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._trained is not None:
            checkpoint["current_model_state"] = self._trained
        elif self._average_model is not None and not self._begun:
            checkpoint["state_dict"] = checkpoint["current_model_state"]

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn == TrainerFn.FITTING:  # others take the average, which is the checkpoint's state_dict
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


def _exact(average: Average | None) -> Average:
    """Leave alone what cannot be averaged or does not change."""
    assert average is not None  # Lightning's class gives one

    def update(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        if not current.is_floating_point():
            return current
        return torch.where(averaged == current, current, average(averaged, current, count))

    return update
