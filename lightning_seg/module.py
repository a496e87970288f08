"""The LightningModule: trains a segmentor on batches and predicts label maps; ``evaluating.py`` counts these."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BatchSizeFinder
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lightning_seg.checkpoints.alone import complete
from lightning_seg.checkpoints.calibrated import TEMPERATURE, temperature_for
from lightning_seg.checkpoints.continuation import Continuation
from lightning_seg.checkpoints.matching import averaging_problems, callback_problems, refuse_other_model
from lightning_seg.described import describe, restore
from lightning_seg.errors import ConfigError
from lightning_seg.evaluating import EvaluatingModule
from lightning_seg.imports import import_user_code
from lightning_seg.inference import WHOLE, Inference
from lightning_seg.launching.monitors import mode_problems, schedule_settings
from lightning_seg.launching.steps import global_batch, total_steps
from lightning_seg.lightning_internals import callbacks_of, checkpoint_is_coming
from lightning_seg.losses import Criterion
from lightning_seg.metrics import AbsentClasses, Evaluation
from lightning_seg.metrics.boundary import boundary_iou as count_boundaries
from lightning_seg.models.compilation import compile_or_tell, refuse_double_counting
from lightning_seg.models.normalisation import drop_sync_on_cpu, refuse_dropped_activations, telling_of_single_values
from lightning_seg.models.optimisation import Optimisation
from lightning_seg.models.rates import Rates
from lightning_seg.models.recipe import load_recipe, recorded_config
from lightning_seg.models.segmentor import Segmentor, total_loss
from lightning_seg.models.unused import refuse_unused, unused_notice
from lightning_seg.models.weights import LICENCE
from lightning_seg.models.weights.pretrained import load_pretrained, warn_of_other_classes
from lightning_seg.structures import Batch


class SegmentationModule(EvaluatingModule):
    """Trains and evaluates a segmentor that Detectron2 builds from a config.

    Logs ``train/loss`` with its parts, ``lr/<group>``, and for ``val`` and ``test`` ``loss``, ``mIoU``, ``mAcc``,
    ``pAcc``, ``fwIoU``, ``mDice``, the mIoU of single images and ``IoU/<class>``, all fractions in [0, 1].

    Args:
        config: Detectron2 YAML or LazyConfig (``.py``) file, or the name of one in Detectron2's model zoo. A ``.py``
            file is run as code: only give one that you trust.
        class_names: in id order; follows ``data.classes`` on the command line.
        ignore_index: mask value that does not count; follows ``data.ignore_index`` on the command line.
        overrides: dotted keys of the config (``MODEL.RESNETS.DEPTH``; ``optimizer.lr`` in a ``.py``) and their values.
        weights: a path, ``https://…``, ``detectron2://…`` or ``timm://NAME``; "": random; null: what the config says.
            They are not read if a checkpoint is given.
        imports: the user's own files (``path/to/head.py``) or modules that register heads and backbones.
        criterion: replaces the head's main loss and its ``LOSS_WEIGHT``; null: Detectron2's loss, to the bit.
        inference: how an image is evaluated, such as :class:`lightning_seg.inference.SlidingWindow`; null: as a whole.
        auxiliary_stage: a stage of the backbone, such as ``res4``, that gets a second head in training; null: none.
        auxiliary_weight: multiplies the loss of the second head.
        channels_last: keeps weights and features in that memory format. The numbers are the same to rounding.
            Depthwise convolutions and tensor cores are much faster. Evaluation on a CPU keeps features so anyway.
        float32_matmul_precision: is given to ``torch.set_float32_matmul_precision`` on a GPU. ``high`` multiplies
            matrices in TF32, as convolutions do anyway. null changes nothing; torch begins with ``highest``.
        activation_checkpointing: keeps only the inputs of the backbone's blocks; the backward pass computes the rest
            again. It takes less memory and more time, and gives the same numbers.
        compile: compiles the backbone and the head's layers with ``torch.compile``. The numbers are the same to
            rounding, but dropout and drop path draw others. It needs a C++ compiler and a minute at the start.
        fresh_head: leaves out the head of ``weights`` if it is for another number of classes, which else is an error.
        allow_missing: beginnings of names of tensors that ``weights`` may lack, such as ``[sem_seg_head.decoder]``;
            these tensors stay random.
        backbone_lr_factor: multiplies the learning rate of Detectron2's backbone, which includes a feature pyramid.
        layer_decay: multiplies the rate of a block of the backbone once for every block after it, as Detectron2 does
            for ViTs; 1: none. See :class:`lightning_seg.models.rates.Rates`.
        decay_norms: whether norms, embeddings and tables of positions have weight decay, too; Mask2Former's have none.
        scale_lr: multiplies the config's learning rate by the global batch (processes × batch × accumulation) over the
            config's own (``SOLVER.IMS_PER_BATCH``), as Detectron2's ``DefaultTrainer.auto_scale_workers`` does.
        absent_classes: which classes mIoU averages over. ``detectron2``: those in the ground truth; ``mmseg`` and
            ``torchmetrics``: also those that are only predicted.
        boundary_iou: also counts at boundaries as Detectron2's evaluator does, for at most 254 classes. It is slow.
        error_budget: also counts of what kind each wrong pixel is, and says what each kind costs: at a boundary, in a
            small region missed, in a region invented, or classes confused.
        calibration: also counts how sure the network is and how often it is then right, for the expected calibration
            error. It takes a softmax at full size.
        optimizer: replaces the config's (``SOLVER``, ``optimizer``). The config's gradient clipping stays.
        lr_scheduler: replaces the config's (``SOLVER``, ``lr_multiplier``). It is stepped after every optimiser step;
            ``ReduceLROnPlateau`` after every validation, on ``val/loss`` or on the ``monitor`` of
            ``pytorch_lightning.cli.ReduceLROnPlateau``.

    Raises:
        ConfigError: if the config cannot be read, or describes no model that works.
        DependencyError: if Detectron2 is missing.
    """

    def __init__(
        self,
        config: str,
        class_names: list[str],
        ignore_index: int = 255,
        overrides: dict[str, Any] | None = None,
        weights: str | None = None,
        imports: list[str] | None = None,
        criterion: Criterion | None = None,
        inference: Inference | None = None,
        auxiliary_stage: str | None = None,
        auxiliary_weight: float = 0.4,
        channels_last: bool = False,
        float32_matmul_precision: Literal["highest", "high", "medium"] | None = None,
        activation_checkpointing: bool = False,
        compile: bool = False,
        fresh_head: bool = False,
        allow_missing: list[str] | None = None,
        backbone_lr_factor: float = 1.0,
        layer_decay: float = 1.0,
        decay_norms: bool = True,
        scale_lr: bool = False,
        absent_classes: AbsentClasses = "detectron2",
        boundary_iou: bool = False,
        error_budget: bool = True,
        calibration: bool = False,
        optimizer: Callable[..., Optimizer] | None = None,
        lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None,
    ) -> None:
        super().__init__()
        config, values = recorded_config(config)  # of load_from_checkpoint
        class_names = [str(name) for name in class_names]  # as a checkpoint keeps them
        weights = None if weights is None else os.fspath(weights)
        map_figures = [count_boundaries(len(class_names))] if boundary_iou else []
        self.evaluation = Evaluation(class_names, ignore_index, absent_classes, map_figures, error_budget, calibration)
        if compile:
            refuse_double_counting(activation_checkpointing)
        rates = Rates(backbone_lr_factor, layer_decay, decay_norms)
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler", "criterion", "inference"])
        import_user_code(imports or [], "model.imports")
        criterion = restore(criterion, Criterion, "criterion")  # load_from_checkpoint gives descriptions
        inference = restore(inference, Inference, "inference")
        self.hparams.update({"criterion": describe(criterion), "inference": describe(inference)})
        self.inference = inference or WHOLE
        self.recipe = load_recipe(config, overrides or {}, values)
        own = {"scales_rate": scale_lr, "own_optimizer": optimizer is not None}
        refuse_unused(self.recipe.unused(overrides or {}, **own))
        self.optimisation = Optimisation(self.recipe, rates, optimizer, lr_scheduler, scale_lr=scale_lr)
        self.class_names = list(class_names)
        self.weights: str = self.recipe.weights if weights is None else weights
        self._load_weights = partial(
            load_pretrained,
            fresh_head=fresh_head,
            allow_missing=tuple(allow_missing or ()),
            keys=self.recipe.keys,
            bgr=self.recipe.bgr,
        )
        self.segmentor = Segmentor(
            self.recipe,
            num_classes=len(class_names),
            ignore_index=ignore_index,
            criterion=criterion,
            auxiliary_stage=auxiliary_stage,
            auxiliary_weight=auxiliary_weight,
            channels_last=channels_last,
            activation_checkpointing=activation_checkpointing,
        )
        self.float32_matmul_precision = float32_matmul_precision
        self.compiles = compile
        rates.factors(self.segmentor.network.backbone)  # refused here, not after the data have been read
        for notice in [*self.segmentor.notices, *unused_notice(self.recipe.unused(self.recipe.changed_keys(), **own))]:
            rank_zero_info(notice)
        self._trains = self._bar_reads_loss = False
        self.run_settings: dict[str, Any] = {}
        """The whole run's settings by dotted names, which its checkpoints keep."""
        self.licence: str | None = None
        """That of the weights that training began with, if known; its checkpoints keep it."""
        self.continuation = Continuation()
        self._total_steps = float("inf")
        self.loaded: dict[str, int] = {}
        """``global_step`` and ``epoch`` of the checkpoint that was loaded last."""

    def configure_callbacks(self) -> list[pl.Callback]:
        """None of its own; the trainer's are refused here, before a hook of one could fail."""
        if problems := callback_problems(callbacks_of(self.trainer)):
            raise ConfigError(problems[0])
        return []

    def setup(self, stage: str) -> None:
        """Load pretrained weights unless the network has others already, and adapt it to the device."""
        self._trains = stage == "fit"
        if self._trains:
            self.temperature = 1.0
        # Read once: Lightning's tuners run without a bar, but a figure must be logged in the same way throughout.
        self._bar_reads_loss = getattr(self.trainer.progress_bar_callback, "reads_loss", False)
        self.meet_data(getattr(self.trainer, "datamodule", None))
        device = self.trainer.strategy.root_device
        drop_sync_on_cpu(self.segmentor, device)
        if device.type == "cuda" and self.float32_matmul_precision is not None:
            torch.set_float32_matmul_precision(self.float32_matmul_precision)
        if self.trainer.precision == "64-true":
            self.double()  # Lightning does so after it has loaded a checkpoint, which float32 would have rounded
        if not checkpoint_is_coming():  # a checkpoint brings its own weights
            self.load_pretrained()
            if self._trains and (warning := self.frozen_random()):
                rank_zero_warn(warning)
        if self.compiles:
            self.compiles = False  # once is enough: a second command would meet the same network or the same problem
            compile_or_tell(self.segmentor.network, device)

    def load_pretrained(self) -> None:
        """Load ``weights`` into the network, unless it has some already."""
        if self.weights and not self._has_weights:
            self.licence = self._load_weights(self.segmentor, self.weights, self.class_names)
            self._has_weights = True

    def on_fit_start(self) -> None:
        callbacks, figures = callbacks_of(self.trainer), self.figures("val")
        if problems := averaging_problems(callbacks, self.trainer.precision) + mode_problems(callbacks, figures):
            raise ConfigError(problems[0])
        if any(isinstance(callback, BatchSizeFinder) for callback in callbacks):
            self.trainer.strategy.setup_optimizers(self.trainer)  # again: its batch changes steps and rates
        refuse_dropped_activations(self.segmentor)
        self._has_weights = True  # training makes them

    def on_train_start(self) -> None:
        self.continuation.start()

    def frozen_random(self) -> str | None:
        """A warning if weights are random and frozen, else None."""
        return None if self._has_weights else self.recipe.warn_of_frozen_random()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.segmentor.head.at_step(self.trainer.global_step, self._total_steps)
        with telling_of_single_values(self.segmentor.network, batch):
            losses = self.segmentor.losses(batch)
        loss = total_loss(losses)
        self.log("train/loss", loss, prog_bar=not self._bar_reads_loss, batch_size=len(batch))
        self.log_dict({f"train/{name}": part for name, part in losses.items()}, batch_size=len(batch))
        for index, group in enumerate(self.trainer.optimizers[0].param_groups):
            rate = torch.as_tensor(group["lr"], dtype=torch.float32)  # Lightning would put a number on the GPU
            self.log(f"lr/{group.get('name', index)}", rate, batch_size=len(batch))
        return loss

    def configure_optimizers(self) -> Any:
        lr_scale = 1.0
        if self.optimisation.scale_lr:
            samples = global_batch(self.trainer)
            lr_scale = self.optimisation.lr_scale(samples)
            rank_zero_info(f"Learning rate: {self.optimisation.describe_lr_scale(samples)}")
        steps = self._total_steps = total_steps(self.trainer, self.continuation.done)
        optimizer, scheduler = self.continuation.optimise(self.optimisation, self.segmentor, lr_scale, steps)
        return [optimizer], [schedule_settings(scheduler, self.figures("val"))]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the settings that a checkpoint was made with, and what it needs to predict alone."""
        self.continuation.save(checkpoint)
        complete(checkpoint, self.hparams["config"], self.recipe, getattr(self._trainer, "datamodule", None))
        if self.run_settings:
            checkpoint["settings"] = self.run_settings
        if self.licence:
            checkpoint[LICENCE] = self.licence
        if self.temperature != 1:
            checkpoint[TEMPERATURE] = self.temperature

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step a schedule, but not ``ReduceLROnPlateau``: the validation has stepped it.

        Lightning would step it at the end of an epoch, when the validation's checkpoint is already written.
        """
        if not isinstance(scheduler, ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Clip as the config says, then as the trainer says.

        Raises:
            ConfigError: if the optimiser unscales the gradients itself, which is too late for clipping.
        """
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        self.optimisation.clip_gradients(optimizer, scaled=scaled)
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another model, or one that this training cannot go on from.

        Raises:
            CheckpointError: says what differs.
        """
        self.loaded = {name: int(checkpoint.get(name, 0)) for name in ("global_step", "epoch")}
        refuse_other_model(self.state_dict(), checkpoint["state_dict"], self.segmentor.channels)
        if self._trains:
            self.continuation.load(checkpoint, self.trainer, self.hparams)
        self.meet_checkpoint(checkpoint)
        self.temperature = temperature_for(checkpoint, trains=self._trains)
        self._has_weights = True
        self.licence = checkpoint.get(LICENCE)
        if self.licence:
            rank_zero_info(f"licence of the weights that the checkpoint's training began with: {self.licence}")
        stored = checkpoint.get("hyper_parameters", {}).get("class_names")
        warn_of_other_classes(stored, self.class_names, "the checkpoint")
