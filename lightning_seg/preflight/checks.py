"""Checks a run before it starts: its processes, files, data, weights, size and schedule, in this order."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info

from lightning_seg.checkpoints.continuation import refuse_other_training
from lightning_seg.checkpoints.matching import (
    averaging_problems,
    callback_problems,
    place_of,
    refuse_other_model,
    resume_problems,
)
from lightning_seg.checkpoints.resuming import settings_changes, settings_problems
from lightning_seg.data import SegmentationDataModule
from lightning_seg.errors import BusyError, CheckpointError, ConfigError, LaunchError, LightningSegError
from lightning_seg.launching.channels import channels_problem
from lightning_seg.launching.monitors import mode_problems, name_problems
from lightning_seg.launching.plan import (
    Plan,
    accumulation_problem,
    changing_accumulation,
    make_plan,
    resolve_processes,
)
from lightning_seg.launching.starters import device_problems, launch_problems
from lightning_seg.models.config import find_config, require_detectron2
from lightning_seg.models.weights import read_checkpoint
from lightning_seg.module import SegmentationModule
from lightning_seg.preflight.problems import (
    checkpoint_length_problems,
    folder_problem,
    has_own_environment,
    strategy_problems,
    training_problems,
    validation_figures,
    weights_problem,
)
from lightning_seg.preflight.table import model_rows, print_table, run_rows

Result = TypeVar("Result")


class Preflight:
    """Collects what is wrong with a run, as early as each problem can be known.

    Args:
        command: ``fit`` or another.
        settings: of that command.
        environment: variables of this process.
        first: whether this is the main process, which writes.
    """

    def __init__(self, command: str, settings: Any, environment: Mapping[str, str], *, first: bool) -> None:
        self.settings = settings
        self.environment = environment
        self.first = first
        self.trains = command == "fit"
        self.dry = self.trains and bool(settings.dry_run)
        self.problems: list[str] = []
        self.checkpoint: Path | None = None
        self._callbacks: Sequence[pl.Callback] = ()
        self._stored: dict[str, Any] = {}
        self._samples: dict[str, int | None] = {}
        self.processes = resolve_processes(settings.trainer)

    def check_launch(self) -> None:
        """Check that the started processes are those that ``trainer`` asks for.

        Raises:
            LaunchError: if ``trainer`` asks for none.
        """
        if self.processes.count < 1:
            raise LaunchError([f"{self.processes} processes: both must be at least 1"])
        if not has_own_environment(self.settings.trainer):  # its rules are its own
            self.problems += launch_problems(self.environment, self.processes)
        self.problems += strategy_problems(self.settings.trainer.strategy, compiles=self.settings.model.compile)
        if not self.dry or self.processes.available:  # a login node may lack the devices of the job
            self.problems += device_problems(self.environment, self.processes)

    def check_checkpoint(self, resolve: Callable[[], None]) -> None:
        """Check that ``ckpt_path`` can be loaded, and that no other process trains in its run."""
        try:
            resolve()
        except (BusyError, CheckpointError) as error:
            self.problems.append(str(error))
        else:
            self.checkpoint = None if self.settings.ckpt_path is None else Path(self.settings.ckpt_path)

    def check_folder(self, folder: Path) -> None:
        """Check that the run's folder can be written to."""
        if self.first and (problem := folder_problem(folder)):
            self.problems.append(problem)

    def check_files(self) -> None:
        """Check that config and weights exist."""
        model = self.settings.model
        if self.settings.ckpt_path is None and (problem := weights_problem(model.weights)):
            self.problems.append(problem)
        require_detectron2()
        try:
            find_config(model.config)
        except ConfigError as error:  # then nothing can be built
            raise LaunchError([*self.problems, str(error)]) from None

    def check_channels(self, model: pl.LightningModule, data: SegmentationDataModule) -> None:
        """Check that the network is for as many channels as images have; an exported file says itself what it takes.

        Raises:
            LaunchError: at once, unless the command is a training, whose problems are told together.
        """
        if not isinstance(model, SegmentationModule):
            return
        configs = [file for file in self.settings.config or [] if file is not None]
        if problem := channels_problem(data.info, model.segmentor, model.recipe, configs):
            self.problems.append(problem)
            if not self.trains:
                self.refuse()

    def check_callbacks(self, model: SegmentationModule, callbacks: Sequence[pl.Callback]) -> None:
        """Check that the callbacks fit the model, and that the checkpoint's training can go on with these settings.

        Raises:
            CheckpointError: if the checkpoint cannot be read.
        """
        self._callbacks = callbacks
        self.problems += callback_problems(callbacks)
        self.problems += averaging_problems(callbacks, self.settings.trainer.precision)
        figures = validation_figures(model, self.settings)
        self.problems += mode_problems(callbacks, figures) + name_problems(callbacks, figures)
        accumulate = self.settings.trainer.accumulate_grad_batches
        factors = changing_accumulation(callbacks)
        if problem := accumulation_problem(factors, accumulate, scales=model.optimisation.scale_lr):
            self.problems.append(problem)
        if self.checkpoint is not None:
            checkpoint = read_checkpoint(self.checkpoint, f"checkpoint {self.checkpoint}")
            self.problems += resume_problems(checkpoint, model.hparams, callbacks)
            self.problems += settings_problems(checkpoint.get("settings", {}), model.run_settings)
            self.problems += checkpoint_length_problems(checkpoint, self.settings.trainer)
            self._stored = {name: part for name, part in checkpoint.items() if name != "state_dict"}
            self.attempt(
                partial(refuse_other_model, model.state_dict(), checkpoint["state_dict"], model.segmentor.channels)
            )

    def check_training(
        self, model: SegmentationModule, data: SegmentationDataModule, folder: Path, resumed_step: int | None
    ) -> Plan:
        """Check what needs model and data, and say how large the training is; a dry run then prints its table.

        Raises:
            LaunchError: names all problems, also those of earlier checks.
        """
        if self.dry:
            self._find_defects(data)
        elif not any(reader.prepares for readers in data.readers.values() for reader in readers):
            self._count(data)
        plan = make_plan(
            self.settings.trainer, self.processes, data.batch_size, self._samples.get("train"), self._callbacks
        )
        self.problems += training_problems(self.settings, model, plan)
        self._compare_training(model, data, plan)
        changes = settings_changes(self._stored.get("settings", {}), model.run_settings)
        if changes and not self.dry:
            rank_zero_info(f"The checkpoint's run had other settings; from here on: {'; '.join(changes)}")
        if self.dry:
            self._find_weights(model)
            if self.first:
                writable = not folder_problem(folder)
                print_table(
                    [
                        *run_rows(self.settings, model, plan, folder, resumed_step, writable, self.environment),
                        *model_rows(model, data.class_names),
                        ("validation data", self._describe_validation(data)),
                        *[("other than before", change) for change in changes],
                    ]
                )
        self.refuse()
        return plan

    def _compare_training(self, model: SegmentationModule, data: SegmentationDataModule, plan: Plan) -> None:
        """Check that optimiser, schedule and, in a dry run, the order of the epoch fit the checkpoint."""
        before = self._stored.get("training")
        if before is not None and not self.problems:
            steps = math.inf if plan.total_steps is None else plan.total_steps
            scale = model.optimisation.lr_scale(plan.global_batch)
            self.attempt(partial(refuse_other_training, before, model.optimisation, model.segmentor, scale, steps))
        if data.datasets and (state := self._stored.get(type(data).__qualname__)):
            data.load_state_dict(state)
            self.problems += data.order_problems(inside=place_of(self._stored)[1] > 0)

    def refuse(self) -> None:
        """Raise if anything is wrong."""
        if self.problems:
            raise LaunchError(self.problems)

    def _find_defects(self, data: SegmentationDataModule) -> None:
        """Do what ``fit`` does with its data before the first batch, and collect every mistake that shows."""
        found = len(self.problems)
        for part in ("train", "val"):
            self.attempt(partial(data.try_transforms, part))
        transforms_fit = len(self.problems) == found
        before = len(self.problems)
        self.attempt(data.prepare_data)
        if len(self.problems) > before:
            return
        self.attempt(data.take_quick_look)
        self._count(data)
        if transforms_fit and len(self.problems) == found:
            self.attempt(partial(data.setup, "fit"))

    def _count(self, data: SegmentationDataModule) -> None:
        """Count the samples, once their readers have prepared them."""
        found = len(self.problems)
        self.attempt(data.listings.refuse_missing_root)
        if len(self.problems) > found:
            return
        for part in ("train", "val"):
            self._samples[part] = self.attempt(partial(data.count_samples, part))

    def _find_weights(self, model: SegmentationModule) -> None:
        """Load the weights that a new run would begin with."""
        if self.settings.ckpt_path is not None:
            return
        if not weights_problem(model.weights):
            self.attempt(model.load_pretrained)
        if not model.weights and (problem := model.frozen_random()):
            self.problems.append(problem)

    def _describe_validation(self, data: SegmentationDataModule) -> str:
        if not data.readers["val"]:
            return "none: no figure says which checkpoint is the best"
        count = self._samples.get("val")
        return "cannot be listed" if count is None else f"{count} samples"

    def attempt(self, check: Callable[[], Result]) -> Result | None:
        """What a check returns; None if it raises: then the message becomes a problem, unless it is told already."""
        try:
            return check()
        except LightningSegError as error:
            told = [line for problem in self.problems for line in problem.splitlines()]
            if str(error).partition("\n")[0] not in told:
                self.problems.append(str(error))
            return None
