"""The LightningModule: Lightning's hooks take a batch to losses or to counted predictions, and log the figures."""

import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BatchSizeFinder
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lightning_seg.checkpoints.coming import checkpoint_is_coming
from lightning_seg.checkpoints.matching import (
    averaging_problems,
    callback_problems,
    compare_classes,
    place_of,
    refuse_other_model,
    resume_problems,
)
from lightning_seg.checkpoints.resuming import go_on_with, record_groups, record_training, training_problems
from lightning_seg.errors import CheckpointError, ConfigError
from lightning_seg.imports import import_user_code
from lightning_seg.inference.whole import label_maps
from lightning_seg.launching.monitors import mode_problems, monitored, plateau_problem
from lightning_seg.launching.steps import global_batch, total_steps
from lightning_seg.lightning_internals import callbacks_of
from lightning_seg.losses import Criterion
from lightning_seg.losses.description import describe_criterion, restore_criterion
from lightning_seg.metrics import AbsentClasses, Evaluation, Report
from lightning_seg.models.compilation import compile_network, compiler_problem, refuse_double_counting
from lightning_seg.models.normalisation import (
    refuse_dropped_activations,
    telling_of_single_values,
    without_sync,
)
from lightning_seg.models.optimisation import Optimisation
from lightning_seg.models.rates import Rates
from lightning_seg.models.recipe import load_recipe, record_config, recorded_config
from lightning_seg.models.segmentor import Segmentor, total_loss
from lightning_seg.models.unused import refuse_unused, unused_notice
from lightning_seg.models.weights import load_weights
from lightning_seg.structures import Batch


class SegmentationModule(pl.LightningModule):
    """Trains and evaluates a segmentor that Detectron2 builds from a config.

    Logs ``train/loss`` with its parts, ``lr/<group>``, and for ``val`` and ``test`` ``loss``, ``mIoU``, ``mAcc``,
    ``pAcc``, ``fwIoU``, ``mDice``, the mIoU of single images and ``IoU/<class>``, all fractions in [0, 1].

    Args:
        config: Detectron2 YAML or LazyConfig (``.py``) file, or the name of one in Detectron2's model zoo. A ``.py``
            file is run as code: only give one that you trust.
        class_names: in id order; follows ``data.classes`` on the command line.
        ignore_index: mask value that does not count; follows ``data.ignore_index`` on the command line.
        overrides: dotted keys of the config (``MODEL.RESNETS.DEPTH``; ``optimizer.lr`` in a ``.py``) and their values.
        weights: null: what the config says; "": random; else a path, ``https://…``, ``detectron2://…`` or
            ``timm://NAME``. Not read where a checkpoint is given.
        imports: the user's own files (``path/to/head.py``) or modules that register heads and backbones.
        criterion: in place of the head's own main loss and its ``LOSS_WEIGHT``; null: Detectron2's, to the bit.
        auxiliary_stage: a stage of the backbone, such as ``res4``, that gets a second head in training; null: none.
        auxiliary_weight: of that head's loss.
        channels_last: keep weights and features in that memory format: the same numbers to rounding, and much faster
            where convolutions are depthwise or run on tensor cores.
        float32_matmul_precision: of matrix products on a GPU, as ``torch.set_float32_matmul_precision`` takes it:
            ``high`` multiplies in TF32, as convolutions there do anyway; null leaves it as it is, at first ``highest``.
        activation_checkpointing: of the backbone's blocks, keep only the inputs for the backward pass, which computes
            the rest again: less memory, more time, the same numbers.
        compile: the backbone and the head's layers, with ``torch.compile``: the same numbers to rounding, but that
            dropout and drop path draw others. Takes a minute or more at the start, and a C++ compiler.
        fresh_head: leave the head of ``weights`` out where it is for another number of classes; else an error.
        allow_missing: beginnings of names of tensors that ``weights`` need not have, such as
            ``[sem_seg_head.decoder]``; they stay random.
        backbone_lr_factor: multiplies the learning rate of Detectron2's backbone, a feature pyramid included.
        layer_decay: multiplies the rate of each block of the backbone once more for every block after it, as Detectron2
            does for ViTs; 1: none. See :class:`lightning_seg.models.rates.Rates`.
        scale_lr: multiply the config's learning rate by the global batch (processes × batch × accumulation) over the
            one that the config is made for (``SOLVER.IMS_PER_BATCH``): the rule of Detectron2's
            ``DefaultTrainer.auto_scale_workers``.
        absent_classes: which classes mIoU averages over: ``detectron2``: those in the ground truth; ``mmseg`` and
            ``torchmetrics``: also those that are only predicted.
        boundary_iou: also count at boundaries as Detectron2's evaluator does, for at most 254 classes; takes longer
            than all other counting.
        optimizer: in place of the one that the config describes (``SOLVER``, ``optimizer``); clipping stays its own.
        lr_scheduler: in place of the one that the config describes (``SOLVER``, ``lr_multiplier``); stepped after
            every optimiser step (``ReduceLROnPlateau``: after every validation, on ``val/loss``, or on the ``monitor``
            of ``pytorch_lightning.cli.ReduceLROnPlateau``).

    Raises:
        ConfigError: if the config cannot be read or describes no model that works.
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
        scale_lr: bool = False,
        absent_classes: AbsentClasses = "detectron2",
        boundary_iou: bool = False,
        optimizer: Callable[..., Optimizer] | None = None,
        lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None,
    ) -> None:
        super().__init__()
        config, values = recorded_config(config)  # of load_from_checkpoint
        class_names = [str(name) for name in class_names]  # as a checkpoint keeps them
        weights = None if weights is None else os.fspath(weights)
        self.evaluation = Evaluation(class_names, ignore_index, absent_classes, boundary_iou=boundary_iou)
        if compile:
            refuse_double_counting(activation_checkpointing)
        rates = Rates(backbone_lr_factor, layer_decay)
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler", "criterion"])
        import_user_code(imports or [], "model.imports")
        if isinstance(criterion, Mapping):  # of load_from_checkpoint
            criterion = restore_criterion(criterion)
        self.hparams["criterion"] = None if criterion is None else describe_criterion(criterion)
        self.recipe = load_recipe(config, overrides or {}, values)
        own = {"scales_rate": scale_lr, "own_optimizer": optimizer is not None}
        refuse_unused(self.recipe.unused(overrides or {}, **own))
        self.optimisation = Optimisation(self.recipe, rates, optimizer, lr_scheduler, scale_lr=scale_lr)
        self.class_names = list(class_names)
        self.weights: str = self.recipe.weights if weights is None else weights
        self.loaded: dict[str, int] = {}
        """``global_step`` and ``epoch`` of the checkpoint that was loaded last."""
        self.fresh_head = fresh_head
        self.allow_missing = tuple(allow_missing or ())
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
        self._has_weights = self._trains = False
        self._bar_reads_loss = False
        self.run_settings: dict[str, Any] = {}
        """Of the whole run, by dotted names, for its checkpoints."""
        self._checkpoint: dict[str, Any] | None = None
        self._training: dict[str, Any] | None = None
        self.report: Report | None = None
        """The figures of the last evaluation that ended."""
        self._figures: dict[str, Tensor] = {}

    def configure_callbacks(self) -> list[pl.Callback]:
        """None of its own, but the first moment to refuse the trainer's.

        Raises:
            ConfigError: for one that would fail in a hook of its own.
        """
        if problems := callback_problems(callbacks_of(self.trainer)):
            raise ConfigError(problems[0])
        return []

    def setup(self, stage: str) -> None:
        """Load pretrained weights, unless there are others already, and fit the network to the device."""
        self._trains = stage == "fit"
        # Asked once: what Lightning's tuners run has no bar, and a figure must be logged in the same way throughout.
        self._bar_reads_loss = getattr(self.trainer.progress_bar_callback, "reads_loss", False)
        device = self.trainer.strategy.root_device.type
        if device == "cpu" and without_sync(self.segmentor):
            rank_zero_info("SyncBN needs a GPU: on the CPU, each process normalises its own batch")
        if device == "cuda" and self.float32_matmul_precision is not None:
            torch.set_float32_matmul_precision(self.float32_matmul_precision)
        if self.trainer.precision == "64-true":
            self.double()  # Lightning does so after it has loaded a checkpoint, which float32 would have rounded
        if not checkpoint_is_coming():  # which brings its own
            self.load_pretrained()
            if self._trains and (warning := self.frozen_random()):
                rank_zero_warn(warning)
        if self.compiles:
            self._compile()

    def _compile(self) -> None:
        """Compile the network, or say why not."""
        self.compiles = False  # the next command finds it done, or the same reason
        if problem := compiler_problem(self.trainer.strategy.root_device):
            rank_zero_warn(f"model.compile: goes on without, to the same results up to rounding, because of {problem}")
        else:
            rank_zero_info("Compiling the network at its first batches: a minute or more")
            compile_network(self.segmentor.network)

    def load_pretrained(self) -> None:
        """Load ``weights`` into the network, unless it has some already."""
        if self.weights and not self._has_weights:
            report = load_weights(
                self.segmentor.network,
                self.weights,
                fresh_head=self.fresh_head,
                allow_missing=self.allow_missing,
                keys=self.recipe.keys,
                beside=self.segmentor.parts_beside(),
            )
            rank_zero_info(str(report))
            if not report.reshaped and (
                warning := compare_classes(report.class_names, self.class_names, f"model.weights {self.weights}")
            ):
                rank_zero_warn(warning)
            self._has_weights = True

    def on_fit_start(self) -> None:
        callbacks = callbacks_of(self.trainer)
        if problems := averaging_problems(callbacks, self.trainer.precision) + mode_problems(callbacks):
            raise ConfigError(problems[0])
        if any(isinstance(callback, BatchSizeFinder) for callback in callbacks):
            self.trainer.strategy.setup_optimizers(self.trainer)  # again, for the steps and rates of the batch it found
        refuse_dropped_activations(self.segmentor)
        self._has_weights = True  # those that training finds

    def on_train_start(self) -> None:
        self._checkpoint = None  # it is loaded

    def figures(self, split: str) -> list[str]:
        """Names of what an evaluation logs."""
        return [f"{split}/{name}" for name in self.evaluation.figure_names()]

    def frozen_random(self) -> str | None:
        """What to say where random weights would stay so; None where all is well."""
        return None if self._has_weights else self.recipe.warn_of_frozen_random()

    def forward(self, images: Tensor) -> Tensor:
        """Label maps of images as they are: the network's own normalisation and order of channels are applied here.

        Args:
            images: (N, 3, H, W) uint8 RGB.

        Returns:
            (N, H, W) class ids, of the smallest integer type that holds them.

        Raises:
            ValueError: if the images are of another shape or type.
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
            raise ValueError(
                f"images are {images.dtype} of shape {tuple(images.shape)}, but uint8 RGB (N, 3, H, W) is needed"
            )
        return torch.stack(self._predict([{"image": image} for image in images])[0])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        with telling_of_single_values(self.segmentor.network, batch):
            losses = self.segmentor.losses(batch)
        loss = total_loss(losses)
        self.log("train/loss", loss, prog_bar=not self._bar_reads_loss, batch_size=len(batch))
        self.log_dict({f"train/{name}": part for name, part in losses.items()}, batch_size=len(batch))
        for name, group in self._parameter_groups():
            rate = torch.as_tensor(group["lr"], dtype=torch.float32)  # of a number, Lightning makes a tensor on the GPU
            self.log(f"lr/{name}", rate, batch_size=len(batch))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, list[Tensor]]:
        return self._evaluation_step(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, list[Tensor]]:
        return self._evaluation_step(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> list[Tensor]:
        """Label maps (height, width) at the stored size of each image, of the smallest type that holds the ids.

        A sample needs ``image``, (3, H, W) uint8 RGB; ``height`` and ``width`` are its own without.
        """
        return self._predict(batch)[0]

    def on_validation_epoch_start(self) -> None:
        self._start_evaluation()

    def on_test_epoch_start(self) -> None:
        self._start_evaluation()

    def on_predict_epoch_start(self) -> None:
        self._start_evaluation()

    def on_validation_epoch_end(self) -> None:
        self._log_report("val")
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            for config in self.trainer.lr_scheduler_configs:
                if isinstance(config.scheduler, ReduceLROnPlateau):
                    config.scheduler.step(float(self._figures[monitored(config.scheduler)]))

    def on_test_epoch_end(self) -> None:
        self._log_report("test")

    @property
    def scale_lr(self) -> bool:
        """Whether the config's learning rate goes by the global batch."""
        return self.optimisation.scale_lr

    @property
    def make_lr_scheduler(self) -> Callable[..., Any] | None:
        """What makes the user's own schedule, if there is one."""
        return self.optimisation.make_lr_scheduler

    def lr_scale(self, global_batch: int) -> float:
        """What the config's learning rate is multiplied by for so many samples per optimiser step."""
        return self.optimisation.lr_scale(global_batch)

    def describe_lr_scale(self, global_batch: int) -> str:
        """The same in words."""
        return self.optimisation.describe_lr_scale(global_batch)

    def build_optimizer(self, lr_scale: float = 1.0) -> Optimizer:
        """The optimiser of the training, or one like it to look at; only the config's own has its rate multiplied."""
        return self.optimisation.build_optimizer(self.segmentor, lr_scale)

    def build_lr_scheduler(self, optimizer: Optimizer, total_steps: float, lr_scale: float = 1.0) -> LRScheduler:
        """The schedule of the training, see :meth:`Optimisation.build_lr_scheduler`."""
        return self.optimisation.build_lr_scheduler(optimizer, total_steps, lr_scale)

    def configure_optimizers(self) -> Any:
        lr_scale = 1.0
        if self.scale_lr:
            samples = global_batch(self.trainer)
            lr_scale = self.lr_scale(samples)
            rank_zero_info(f"Learning rate: {self.describe_lr_scale(samples)}")
        optimizer, scheduler, self._training = self._build_training(lr_scale, self._total_steps())
        if self._checkpoint is not None:
            self._go_on_from(self._checkpoint, optimizer, scheduler)
        if isinstance(scheduler, ReduceLROnPlateau):
            if problem := plateau_problem(scheduler, self.figures("val")):
                raise ConfigError(problem)
            return [optimizer], [{"scheduler": scheduler, "monitor": monitored(scheduler), "strict": False}]
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    def _build_training(self, lr_scale: float, total_steps: float) -> tuple[Optimizer, LRScheduler, dict[str, Any]]:
        """Optimiser and schedule, and what a checkpoint says of them."""
        optimizer = self.build_optimizer(lr_scale)
        groups = record_groups(optimizer)
        scheduler = self.build_lr_scheduler(optimizer, total_steps, lr_scale)
        return optimizer, scheduler, record_training(groups, optimizer, scheduler, total_steps)

    def _go_on_from(self, checkpoint: dict[str, Any], optimizer: Optimizer, scheduler: Any) -> None:
        """Have settings of here take the place of those in a checkpoint, and say so."""
        assert self._training is not None
        if changes := go_on_with(checkpoint, optimizer, scheduler, self._training):
            rank_zero_info(f"Goes on after {checkpoint['global_step']} steps with {'; '.join(changes)}")

    def refuse_other_training(self, before: Mapping[str, Any], lr_scale: float, total_steps: float) -> None:
        """Refuse a checkpoint whose optimiser or schedule do not fit those of here.

        Args:
            before: what the checkpoint says of them.
            lr_scale: as of :meth:`lr_scale`.
            total_steps: of the run.

        Raises:
            CheckpointError: says what differs.
        """
        if problems := training_problems(before, self._build_training(lr_scale, total_steps)[2]):
            raise CheckpointError("; ".join(problems))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say in a checkpoint what settings it was made with, and all that it takes to predict with it elsewhere."""
        if "hyper_parameters" in checkpoint:
            settings = {name: value for name, value in checkpoint["hyper_parameters"].items() if name[0] != "_"}
            checkpoint["hyper_parameters"] = {**settings, "config": record_config(self.hparams["config"], self.recipe)}
        describe = getattr(getattr(self._trainer, "datamodule", None), "describe_evaluation", None)
        if describe is not None:
            checkpoint["evaluation"] = describe()
        if self._training is not None:
            checkpoint["training"] = self._training
        if self.run_settings:
            checkpoint["settings"] = self.run_settings

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step, but for ``ReduceLROnPlateau``, which the validation has stepped.

        Lightning would do so at the end of an epoch, after the validation's checkpoint has been written.
        """
        if not isinstance(scheduler, ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as the config says, then as the trainer says.

        Raises:
            ConfigError: if the optimiser is given scaled gradients, which it divides itself, too late for clipping.
        """
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        self.optimisation.clip_gradients(optimizer, scaled=scaled)
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another model, and one that a training would not go on from as it was.

        Raises:
            CheckpointError: says what differs.
        """
        self.loaded = {name: int(checkpoint.get(name, 0)) for name in ("global_step", "epoch")}
        refuse_other_model(self.state_dict(), checkpoint["state_dict"])
        if self._trains and (problems := resume_problems(checkpoint, self.hparams, callbacks_of(self.trainer))):
            raise CheckpointError("; ".join(problems))
        if self._trains and self.trainer.optimizers:  # of a strategy that loads late
            self._go_on_from(checkpoint, self.trainer.optimizers[0], self.trainer.lr_scheduler_configs[0].scheduler)
        elif self._trains:
            self._checkpoint = checkpoint  # until there is an optimiser
        self._has_weights = True
        stored = checkpoint.get("hyper_parameters", {}).get("class_names")
        if warning := compare_classes(stored, self.class_names, "the checkpoint"):
            rank_zero_warn(warning)

    def _total_steps(self) -> float:
        """Optimiser steps of the whole training, those before a checkpoint as they were."""
        before = self._checkpoint
        return total_steps(self.trainer, None if before is None else (*place_of(before), before["global_step"]))

    def _evaluation_step(self, batch: Batch) -> dict[str, list[Tensor]]:
        """Count one batch; returns ``predictions``, the label maps as of :meth:`predict_step`, for who watches."""
        if not batch:  # this process has no sample, but joins the others
            return {"predictions": []}
        predictions, losses = self._predict(batch)
        for sample, prediction, parts in zip(batch, predictions, losses, strict=True):
            loss = total_loss(parts) if parts else None
            self.evaluation.update(prediction, sample["truth"], sample.get("position"), loss)
        return {"predictions": predictions}

    def _predict(self, batch: Batch) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """Label maps and losses of each image."""
        if not batch:
            return [], []
        output = self.segmentor.evaluate(batch)
        given = zip(batch, output.input_sizes, strict=True)
        sizes = [(sample.get("height", height), sample.get("width", width)) for sample, (height, width) in given]
        placements = [sample.get("placement") for sample in batch]
        maps = label_maps(output.scores, output.input_sizes, sizes, placements=placements)
        return maps, output.losses

    def _start_evaluation(self) -> None:
        if not self._has_weights and self.trainer.state.fn != TrainerFn.FITTING:  # as BatchSizeFinder does first
            command = TrainerFn(self.trainer.state.fn).value
            raise ConfigError(f"{command} would use random weights: give --ckpt_path or --model.weights")
        self.evaluation.reset()

    def _log_report(self, split: str) -> None:
        """Log what all processes counted together; every process has the same figures after ``compute``."""
        self.report = self.evaluation.report(split)
        # As float64, so that a log says the same as metrics.json to the last digit.
        self._figures = {
            f"{split}/{name}": torch.tensor(value, dtype=torch.float64) for name, value in self.report.logged.items()
        }
        for name, figure in self._figures.items():
            self.log(name, figure, prog_bar=name == f"{split}/mIoU")

    def _parameter_groups(self) -> list[tuple[str, Mapping[str, Any]]]:
        groups = self.trainer.optimizers[0].param_groups
        return [(group.get("name", str(index)), group) for index, group in enumerate(groups)]
