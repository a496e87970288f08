"""Averages weights: Lightning's callback, corrected for segmentors and their checkpoints."""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class EMA(EMAWeightAveraging):
    """Keeps an exponential moving average of the weights, which validations use and checkpoints hold (``state_dict``).

    The options are Lightning's, such as ``decay`` and ``update_starting_at_step``. A checkpoint also holds the trained
    weights (``current_model_state``); a resumed run goes on from these. This class differs from Lightning's of 2.6:

    * It copies integer buffers. Lightning's rounds them down, and some decays spoil Swin's
      ``relative_position_index``. Buffers that do not change, such as the pixel mean, stay as they are.
    * An update is a few operations on all tensors together, and the CPU waits for none of them.
    * The average lies on the device of the training. Lightning's lies on the CPU.
    * Before the first update, validations use the current weights. Lightning's uses those from before
      ``model.weights`` was read.
    * A checkpoint from the end of the training still holds the trained weights.

    Args:
        decay: the share of the average that an update keeps, in [0, 1].
        update_every_n_steps: optimiser steps from one update to the next; 0: none by steps.
        update_starting_at_step: step, from 0, before which there is no update; null: 0.
        update_starting_at_epoch: epoch, from 0, from whose end on every end of an epoch is an update, too; null: none.
        kwargs: Lightning's other options.
    """

    _trained: dict[str, Tensor] | None = None
    """The trained weights, after the training has given the module the average."""

    def __init__(self, decay: float = 0.999, **kwargs: Any) -> None:
        super().__init__(decay=decay, **kwargs)
        self.decay = decay

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None and stage == "fit":
            self._trained = None
            trainer.precision_plugin.convert_module(self._average_model)  # Lightning converts weights later
            if self._device is None:
                self._average_model.to(trainer.strategy.root_device)
            # On the CPU, so that reading it does not wait for a GPU.
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()
            vars(self._average_model)["update_parameters"] = self._update

    def _update(self, model: nn.Module) -> None:
        """Move the average towards the model, by the formula of torch's ``get_ema_multi_avg_fn``."""
        average = self._average_model
        assert average is not None
        begun = self._begun
        averaged: list[Tensor] = []
        current: list[Tensor] = []
        for kept, new, is_averaged in _pairs(average, model):
            if begun and is_averaged and kept.is_floating_point():
                averaged.append(kept)
                current.append(new.to(kept.device))
            else:
                kept.copy_(new)
        if averaged:
            torch._foreach_lerp_(averaged, current, 1 - self.decay)
        average.n_averaged += 1

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
        if trainer.state.fn == TrainerFn.FITTING:  # other commands use the average, the checkpoint's state_dict
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


def _pairs(average: AveragedModel, model: nn.Module) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Each tensor of the average, the same tensor of the model, and whether it is averaged (else it is copied)."""
    for parameter, trained in zip(average.module.parameters(), model.parameters(), strict=True):
        yield parameter.detach(), trained.detach(), True
    for buffer, current in zip(average.module.buffers(), model.buffers(), strict=True):
        yield buffer.detach(), current.detach(), average.use_buffers
