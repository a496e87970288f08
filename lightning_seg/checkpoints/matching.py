"""Checks that a checkpoint belongs to the model and to the training that should go on from it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import BackboneFinetuning, EMAWeightAveraging, LearningRateFinder, WeightAveraging
from torch import Tensor

from lightning_seg.errors import CheckpointError

_GROUPS = {"backbone_lr_factor": 1.0, "layer_decay": 1.0, "decay_norms": True}
"""Settings of the model that are part of the optimiser in a checkpoint, and what they are where it has none."""

_UNFIT: dict[type[pl.Callback], str] = {
    LearningRateFinder: "sets one number of the module, but here the rates are the config's (SOLVER.BASE_LR), or those "
    "of model.optimizer, and may differ by depth: leave it out and compare rates with "
    "`wandb sweep configs/sweeps/learning_rate.yaml`",
    BackboneFinetuning: "gives the backbone to the optimiser in the midst of a run; neither schedule nor a resumed "
    "run can follow: leave it out, and give model.backbone_lr_factor 0.1 to train the backbone more slowly; or train "
    "twice, first with MODEL.BACKBONE.FREEZE_AT 5, then with that run's last.ckpt as model.weights",
}
"""Lightning's callbacks that do not work with this module, and what to do instead."""


def place_of(checkpoint: Mapping[str, Any]) -> tuple[int, int]:
    """How many epochs of a training have ended, and how many batches of the next one are done."""
    loop = checkpoint.get("loops", {}).get("fit_loop", {})
    epochs, batches = (loop.get(name, {}).get("current") for name in ("epoch_progress", "epoch_loop.batch_progress"))
    if not epochs or not batches:
        return 0, 0
    return epochs["processed"], batches["processed"] if epochs["processed"] < epochs["started"] else 0


def averaging_problems(callbacks: Sequence[pl.Callback], precision: Any = None) -> list[str]:
    """Why averaged weights would be wrong.

    Lightning's own averaging silently spoils integer buffers. With weights in half precision, an average does not
    move: its steps are smaller than the last digit.

    Args:
        callbacks: of the trainer.
        precision: ``trainer.precision``.
    """
    if precision in ("bf16-true", "16-true") and any(isinstance(callback, WeightAveraging) for callback in callbacks):
        return [
            f"trainer.precision {precision} keeps the weights in half precision, which has too few digits to average "
            f"them: choose {precision.replace('true', 'mixed')}, or leave the averaging out of trainer.callbacks"
        ]
    if not any(type(callback) is EMAWeightAveraging for callback in callbacks):
        return []
    return [
        "trainer.callbacks: pytorch_lightning's EMAWeightAveraging rounds integer buffers down, such as Swin's table "
        "of positions: give lightning_seg.callbacks.EMA, which takes the same options"
    ]


def callback_problems(callbacks: Sequence[pl.Callback]) -> list[str]:
    """Which of Lightning's callbacks do not work with this module, and what to do instead."""
    return [
        f"trainer.callbacks: {kind.__name__} {reason}"
        for kind, reason in _UNFIT.items()
        if any(isinstance(callback, kind) for callback in callbacks)
    ]


def resume_problems(
    checkpoint: Mapping[str, Any], settings: Mapping[str, Any], callbacks: Sequence[pl.Callback]
) -> list[str]:
    """Why a training cannot go on from a checkpoint with the settings of here.

    Args:
        checkpoint: Lightning's.
        settings: of the model here.
        callbacks: of the trainer here.
    """
    problems: list[str] = []
    if "current_model_state" in checkpoint and not any(isinstance(callback, WeightAveraging) for callback in callbacks):
        problems.append(
            "the checkpoint is of a training with averaged weights: add lightning_seg.callbacks.EMA to "
            "trainer.callbacks, or start anew from the average with model.weights in place of ckpt_path"
        )
    stored = checkpoint.get("hyper_parameters", {})
    pairs = [(name, stored.get(name, other), settings.get(name, other)) for name, other in _GROUPS.items()]
    return problems + [
        f"the checkpoint's optimiser has model.{name} {_said(before)}, here it is {_said(here)}: give the same, or "
        "start anew from its weights with model.weights in place of ckpt_path"
        for name, before, here in pairs
        if before != here
    ]


def _said(value: float | bool) -> str:
    return str(value) if isinstance(value, bool) else f"{value:g}"


def refuse_other_model(here: Mapping[str, Tensor], stored: Mapping[str, Tensor], channels: int) -> None:
    """Refuse a checkpoint of another model before torch lists every tensor that differs.

    Args:
        here: the model's tensors by name.
        stored: the checkpoint's.
        channels: of the model's images.

    Raises:
        CheckpointError: names one tensor of each kind of difference.
    """
    reshaped = [name for name in here if name in stored and here[name].shape != stored[name].shape]
    before = {_channels_before(here[name], stored[name], channels) for name in reshaped}
    if len(before) == 1 and None not in before:
        raise CheckpointError(
            f"the checkpoint was trained on images of {before.pop()} channels, and the pixel mean here has {channels}: "
            "give data.bands, and model.overrides for pixel mean and standard deviation, as in the config.yaml of its "
            "run"
        )
    missing = [name for name in here if name not in stored]
    foreign = [name for name in stored if name not in here]
    reasons = []
    if reshaped:
        name = reshaped[0]
        reasons.append(
            f"{len(reshaped)} tensors differ in shape, such as {name}: {tuple(stored[name].shape)} in the checkpoint, "
            f"{tuple(here[name].shape)} here"
        )
    if missing:
        reasons.append(f"{len(missing)} tensors are not in it, such as {missing[0]}")
    if foreign:
        reasons.append(f"{len(foreign)} tensors in it are not in this model, such as {foreign[0]}")
    if reasons:
        raise CheckpointError(
            f"the checkpoint was made for another model: {'; '.join(reasons)}. "
            "Give the config and overrides that it was trained with, such as the config.yaml of its run"
        )


def _channels_before(here: Tensor, stored: Tensor, channels: int) -> int | None:
    """Input channels of a convolution's stored weights, if here they are the image's and nothing else differs."""
    same = (here.shape[0], *here.shape[2:]) == (stored.shape[0], *stored.shape[2:])
    return stored.shape[1] if here.ndim == stored.ndim == 4 and same and here.shape[1] == channels else None
