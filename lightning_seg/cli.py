"""The command line: ``fit``, ``validate``, ``test`` and ``predict`` over one YAML.

Long, because Lightning's CLI is one class, whose steps share what was parsed.
"""

import logging
import os
import re
import shutil
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from jsonargparse import ActionYesNo
from jsonargparse._formatters import get_env_var
from lightning_fabric.plugins import CheckpointIO, ClusterEnvironment
from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.callbacks import ModelCheckpoint, ModelSummary, ProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.plugins import LayerSync
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from pytorch_lightning.utilities import rank_zero_info, rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from lightning_seg.arguments import MergingConfigFile, Parser
from lightning_seg.checkpoints.evaluated import checkpoint_in, config_of_checkpoint
from lightning_seg.checkpoints.lock import claim_folder, refuse_busy, release_folders
from lightning_seg.checkpoints.resuming import flatten
from lightning_seg.checkpoints.runs import (
    DEFAULT_ROOT,
    RunFolder,
    checkpoint_step,
    new_run,
    newest_checkpoint,
    newest_training,
    next_version,
)
from lightning_seg.checkpoints.writing import DurableCheckpointIO
from lightning_seg.config_paths import SETTLED
from lightning_seg.data import SegmentationDataModule
from lightning_seg.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    LaunchError,
    LightningSegError,
    operation_without_determinism,
)
from lightning_seg.files import naming_full_disk, remove_drafts, replacing, use_utf8
from lightning_seg.launching.plan import resolve_processes
from lightning_seg.launching.starters import late_rank
from lightning_seg.loggers import SCHEME, fetch_checkpoint, keep_run_id, prepared, without_missing
from lightning_seg.models.normalisation import SyncBatchNorm
from lightning_seg.module import SegmentationModule
from lightning_seg.preflight.checks import Preflight
from lightning_seg.strategies import register_strategies

_INTERRUPTED = 128 + signal.SIGINT
"""Exit status after Ctrl-C, as a shell shows it."""


class SegmentationCLI(LightningCLI):
    """LightningCLI with a run folder, links from data to model, and the callbacks that every run has."""

    run: RunFolder
    resumed_run: RunFolder | None = None
    resumed_step: int | None = None
    _first_of_new: int | None = None
    preflight: Preflight

    def __init__(self, args: Sequence[str] | None = None) -> None:
        register_strategies()
        environment = {"default_env": True}
        try:
            super().__init__(
                SegmentationModule,
                SegmentationDataModule,
                save_config_callback=None,  # instantiate_trainer saves it
                parser_class=Parser,
                parser_kwargs={**environment, **{command: dict(environment) for command in self.subcommands()}},
                auto_configure_optimizers=False,
                args=None if args is None else list(args),
            )
        finally:
            release_folders()  # a caller in Python lives on

    def init_parser(self, **kwargs: Any) -> Parser:
        parser = Parser(dump_header=[f"pytorch_lightning=={pl.__version__}", SETTLED], **kwargs)
        parser.add_argument("-c", "--config", action=MergingConfigFile, help="YAML file; later ones and flags win.")
        return parser

    def add_arguments_to_parser(self, parser: Parser) -> None:  # type: ignore[override]
        parser.add_argument(
            "--name",
            type=str | None,
            default=None,
            help="Folder of the run below runs/; null: that of the first config.",
        )
        parser.let_overrides_add_up()
        parser.link_arguments("data.class_names", "model.class_names", apply_on="instantiate")
        parser.link_arguments("data.ignore_index", "model.ignore_index", apply_on="instantiate")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_seed)

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "fit":
            parser.add_argument(
                "--dry_run",
                action=ActionYesNo,
                nargs="?",
                default=False,
                help="Print what would be trained and everything that is wrong with it; train nothing.",
            )
        return parser

    def parse_arguments(self, parser: Parser, args: Any) -> None:  # type: ignore[override]
        """Parse; Lightning's own warns where a caller in Python, a test say, has arguments of its own."""
        arguments = list(sys.argv[1:] if args is None else args)
        found = None if _configured_by_environment(parser) else config_of_checkpoint(arguments)
        if found is not None:
            arguments[1:1] = ["--config", str(found)]  # so that flags win over it
        self.config = parser.parse_args(arguments)
        settings = self.config[self.config.subcommand]
        trainer, seed = settings.trainer, settings.seed_everything
        if not isinstance(seed, bool) and not 0 <= seed < 2**32:
            raise ConfigError(f"seed_everything is {seed}, but must be from 0 to {2**32 - 1}")
        if trainer.barebones:
            raise ConfigError("trainer.barebones switches off figures, files and checkpoints: leave it out")
        if (rank := late_rank(os.environ, resolve_processes(trainer))) is not None:
            rank_zero_only.rank = rank  # type: ignore[attr-defined]  # Lightning's own way to say so
        if found is not None:
            rank_zero_info(f"Configuration: {found}, where flags say nothing else")

    def _parse_ckpt_path(self) -> None:
        """Leave the config as it is: Lightning would let the checkpoint's settings win over explicit flags."""

    @property
    def settings(self) -> Any:
        """The parsed options of the chosen command."""
        return self.config[self.subcommand]

    def before_instantiate_classes(self) -> None:
        """Settle name and checkpoint, and look for mistakes, before anything slow begins or waits for others."""
        settings = self.settings
        if settings.name is None:
            configs = [*(settings.config or []), *(self.config.get("config") or [])]  # after the command, and before it
            settings.name = next((Path(str(file)).stem for file in configs if file is not None), "default")
        settings.trainer.logger = without_missing(settings.trainer.logger)
        self.preflight = Preflight(
            str(self.subcommand), settings, os.environ, first=getattr(rank_zero_only, "rank", 0) == 0
        )
        self.preflight.check_launch()
        self.preflight.check_checkpoint(self._resolve_checkpoint)
        self.preflight.check_folder(self._run_path())
        if self.subcommand == "fit":
            self.preflight.check_files()
        else:  # an evaluation needs no callback of the training, whose states its checkpoint holds
            warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`, callbacks used to create")
        if not self.preflight.dry:
            self.preflight.refuse()

    def _run_path(self) -> Path:
        """Of the run that goes on, or that will be made."""
        if self.resumed_run is not None:
            return self.resumed_run.path
        return RunFolder(self.root, self.settings.name, f"version_{next_version(self.root, self.settings.name)}").path

    @property
    def root(self) -> Path:
        """The folder of all runs."""
        return Path(os.path.expandvars(self.settings.trainer.default_root_dir or DEFAULT_ROOT)).expanduser()

    def _resolve_checkpoint(self) -> None:
        """Check ``ckpt_path``, and turn ``last`` and ``best`` into a file; ``fit`` goes on in the run of ``last``."""
        settings, which = self.settings, self.settings.ckpt_path
        if which is None:
            return
        if which.startswith(SCHEME):
            which = settings.ckpt_path = str(fetch_checkpoint(which, self.root))
        if "://" in which:
            raise CheckpointError(f"checkpoint {which} is an address: download the file and give its path")
        if which not in ("last", "best"):
            if Path(which).is_dir():
                if self.subcommand == "fit":
                    raise CheckpointError(
                        f"--ckpt_path {which} is a folder, but a training goes on from a file: give the one in its "
                        "checkpoints/, or --ckpt_path last for the newest run of the config"
                    )
                which = settings.ckpt_path = str(checkpoint_in(Path(which)))
                rank_zero_info(f"Checkpoint: {which}")
            checkpoint_step(Path(which), to_train=self.subcommand == "fit")
            return
        if self.subcommand == "fit" and which == "last" and not settings.trainer.fast_dev_run:
            self._claim_newest()
        found = newest_checkpoint(self.root, settings.name, which, to_train=self.subcommand == "fit")
        folder = self.root / settings.name
        if found is not None:
            run, path = found
            settings.ckpt_path = str(path)
            if self.subcommand == "fit" and which == "last" and not settings.trainer.fast_dev_run:
                self.resumed_run, self.resumed_step = run, checkpoint_step(path)
        elif self.subcommand == "fit" and which == "last":
            print(f"No checkpoint in the newest training in {folder}: starting afresh.", file=sys.stderr)
            settings.ckpt_path = None
        else:
            raise CheckpointError(f"{folder} holds no run with a {which} checkpoint: give a path as --ckpt_path")

    def _claim_newest(self) -> None:
        """Keep other jobs out of the newest training before it is read; a dry run only looks."""
        self._first_of_new = next_version(self.root, self.settings.name)
        newest = newest_training(self.root, self.settings.name)
        if newest is not None and getattr(rank_zero_only, "rank", 0) == 0:
            (refuse_busy if self.preflight.dry else claim_folder)(newest.path)

    @rank_zero_only
    def _claim_new(self) -> None:
        """Claim a new run's folder; a job that was started twice trains in the first one's alone.

        Raises:
            BusyError: if another job has begun the run that this one was to go on in, which did not exist before.
        """
        claim_folder(self.run.path)
        if self._first_of_new is not None:
            for number in range(self._first_of_new, int(self.run.version.rpartition("_")[2])):
                refuse_busy(self.run.path.with_name(f"version_{number}"))

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except (ConfigError, DataError) as error:
            raise LaunchError([*self.preflight.problems, str(error)]) from error
        if self.settings.ckpt_path is not None:
            self.model.weights = ""  # the checkpoint brings its own

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer with what every run has, but for what the user replaces or switches off."""
        from lightning_seg.callbacks import LastCheckpoint, Summary

        trainer = self._get(self.config_init, "trainer")
        given = _as_list(trainer.callbacks)
        if self.subcommand == "fit":
            model, data = (self._get(self.config_init, name) for name in ("model", "data"))
            resumed = self.resumed_step if self.resumed_run is not None else None
            model.run_settings = flatten(yaml.safe_load(self._dump()))
            self.preflight.check_callbacks(model, given)
            if self.preflight.dry:
                self.preflight.attempt(lambda: self._try_trainer(given))
            self.preflight.check_training(model, data, self._run_path(), resumed)
            if self.preflight.dry:
                sys.exit(0)
        self.run = self.resumed_run or new_run(self.root, self.settings.name)
        switched_off = {
            ModelCheckpoint: trainer.enable_checkpointing is False,
            LastCheckpoint: trainer.enable_checkpointing is False,
            ProgressBar: trainer.enable_progress_bar is False,
            ModelSummary: trainer.enable_model_summary is False,
        }
        left_out = tuple(
            kind for kind, off in switched_off.items() if off or any(isinstance(callback, kind) for callback in given)
        )
        callbacks = given + [
            callback
            for callback in self._callbacks()
            if not isinstance(callback, left_out) and not any(isinstance(other, type(callback)) for other in given)
        ]
        # last.ckpt after best.ckpt: a run that is killed between the two goes on from before both, or has both.
        kwargs["callbacks"] = sorted(callbacks, key=lambda callback: isinstance(callback, LastCheckpoint))
        if trainer.logger is not False:
            # The first one's folder is where checkpoints go.
            kwargs["logger"] = [self._metrics_table(), *self._loggers(_as_list(trainer.logger))]
        if any(type(callback) is Summary for callback in callbacks):
            kwargs["enable_model_summary"] = False  # Lightning would say that it adds none of its own
        kwargs["plugins"] = self._plugins(_as_list(trainer.plugins), trainer.sync_batchnorm, trainer.strategy)
        kwargs["default_root_dir"] = str(self.run.path)  # where callbacks write; Slurm's hpc_ckpt files are not there
        try:
            if self.subcommand == "fit" and self.resumed_run is None:
                self._claim_new()
            self._prepare_folder()
            return self._build_trainer(**kwargs)
        except LightningSegError:
            self._withdraw()
            raise

    def _build_trainer(self, **kwargs: Any) -> pl.Trainer:
        try:
            return super().instantiate_trainer(**kwargs)
        except LightningSegError:
            raise
        except Exception as error:  # Lightning's own of many kinds, of settings that do not go together
            raise ConfigError(f"trainer: {_first_line(error)}") from error

    def _try_trainer(self, callbacks: list[pl.Callback]) -> None:
        """Build a trainer that is not used; on the CPU where this machine lacks what the run will have."""
        trainer = self._get(self.config_init, "trainer")
        kwargs: dict[str, Any] = {"callbacks": callbacks, "logger": False}
        kwargs["plugins"] = self._plugins(_as_list(trainer.plugins), trainer.sync_batchnorm, trainer.strategy)
        if not self.preflight.processes.available:
            kwargs |= {"accelerator": "cpu", "precision": None}
        self._build_trainer(**kwargs)

    @staticmethod
    def _plugins(given: list[Any], sync_batchnorm: bool, strategy: Any = "auto") -> list[Any]:
        """Those of the user and, of each kind that has none, also not in the user's strategy, the project's own."""
        own: list[Any] = [DurableCheckpointIO()]
        if sync_batchnorm:
            own.append(SyncBatchNorm())
        if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
            own.append(SLURMEnvironment(auto_requeue=False))  # LastCheckpoint answers the signals
        kinds = (CheckpointIO, LayerSync, ClusterEnvironment)
        of_strategy = [getattr(strategy, name, None) for name in ("_checkpoint_io", "cluster_environment")]
        taken = tuple(kind for kind in kinds if any(isinstance(plugin, kind) for plugin in [*given, *of_strategy]))
        return given + [plugin for plugin in own if not isinstance(plugin, taken)]

    def _loggers(self, given: list[Any]) -> list[Any]:
        """Those that the user asks for, but none for ``predict``, which has nothing to log."""
        if self.subcommand == "predict" or given == [True]:
            return []
        checkpoint = None if self.settings.ckpt_path is None else Path(self.settings.ckpt_path)
        evaluated = None if self.subcommand == "fit" else checkpoint
        trained_in = self.run.path if evaluated is None else evaluated.parent.parent
        return prepared(
            given,
            folder=self.run.path,
            name=f"{self.run.name}/{self.run.version}",
            run_id=keep_run_id(self.run.path, trained_in, given),
            evaluated_step=None if evaluated is None else checkpoint_step(evaluated),
        )

    def _metrics_table(self) -> Any:
        from lightning_seg.loggers.metrics_table import MetricsTable

        return MetricsTable(self.run.root, self.run.name, self.run.version, self.resumed_step)

    def _callbacks(self) -> list[pl.Callback]:
        from lightning_seg.callbacks import (
            BadBatch,
            Dashboard,
            FinalValidation,
            ImageFiles,
            LastCheckpoint,
            MetricsFile,
            Position,
            PredictionFiles,
            ProgressBar,
            RankLog,
            ReseedSteps,
            ResultGrid,
            ResultTable,
            RunArtifacts,
            SamplePictures,
            SkippedSamples,
            Summary,
            Throughput,
            Vitals,
        )

        callbacks: list[pl.Callback] = [RankLog(), ProgressBar()]
        if self.subcommand == "predict":
            return [*callbacks, PredictionFiles(self.run.path, self.datamodule.info)]
        callbacks += [MetricsFile(self.run.path), ResultGrid(self.run.path), SamplePictures(), Dashboard()]
        callbacks.append(RunArtifacts())
        if self.subcommand in ("validate", "test"):
            callbacks.append(ImageFiles(self.run.path))
            if self.settings.verbose:
                callbacks.append(ResultTable())
        if self.subcommand == "fit":
            callbacks += [Position(), ReseedSteps(self.datamodule.seed), BadBatch(), Throughput(), Vitals()]
            callbacks += [FinalValidation(), Summary()]
            if self.datamodule.skip_unreadable:
                callbacks.append(SkippedSamples())
            if self.datamodule.readers["val"] is not None and self.settings.trainer.limit_val_batches != 0:
                best = ModelCheckpoint(
                    self.run.checkpoints, "best", monitor="val/mIoU", mode="max", enable_version_counter=False
                )
                callbacks.append(best)
            callbacks.append(LastCheckpoint())
        return callbacks

    @rank_zero_only
    def _prepare_folder(self) -> None:
        """Clear what a killed run left, and write ``config.yaml``: given to the same command, it runs the same."""
        remove_drafts(self.run.path)
        text = self._dump()
        if self.subcommand == "fit" and not self.settings.trainer.fast_dev_run:
            self.run.checkpoints.mkdir(exist_ok=True)  # by which a training is known, before its first checkpoint
        with replacing(self.run.path / "config.yaml", "w") as file:
            file.write(text)

    def _dump(self) -> str:
        """The settings that a run is made with, as YAML."""
        settings = self.settings.clone()
        for name in ("ckpt_path", "config", "dry_run"):
            settings.pop(name, None)
        return str(self._parser(self.subcommand).dump(settings, skip_unset=False))

    def _run_subcommand(self, subcommand: str) -> None:
        """Run; an error of this process also ends those that it started, which may wait for it for ever."""
        try:
            with naming_full_disk(self.run.path):
                super()._run_subcommand(subcommand)
        except Exception as error:
            launcher = self.trainer.strategy.launcher
            if isinstance(launcher, _SubprocessScriptLauncher):
                launcher.kill(signal.SIGKILL)  # LastCheckpoint has them answer SIGTERM at the end of a step
            if not self._has_begun() and isinstance(error, (LightningSegError, MisconfigurationException)):
                self._withdraw()
            if isinstance(error, MisconfigurationException):
                raise ConfigError(_first_line(error)) from error
            if operation := operation_without_determinism(error):
                raise ConfigError(
                    f"trainer.deterministic is true, but {operation} has no deterministic form on this device: a loss "
                    "of lightning_seg.losses as model.criterion has one, where the head's own loss has not; else "
                    "choose --trainer.deterministic warn, or another network"
                ) from error
            raise

    def _has_begun(self) -> bool:
        """Whether a batch has been used."""
        fit, trainer = self.trainer.fit_loop.epoch_loop, self.trainer
        evaluations = (fit.val_loop, trainer.validate_loop, trainer.test_loop, trainer.predict_loop)
        return any(loop.batch_progress.total.ready for loop in (fit, *evaluations))

    @rank_zero_only
    def _withdraw(self) -> None:
        """Remove the folder of a refused command, and those above it that it made; W&B's, once begun, stays."""
        if self.resumed_run is not None or (self.run.path / "wandb").exists():
            return
        shutil.rmtree(self.run.path, ignore_errors=True)
        for folder in (self.run.path.parent, self.run.root):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def validate(self, **kwargs: Any) -> None:
        """Validate; ``verbose`` switches the table of results here, not Lightning's list of all that is logged."""
        self.trainer.validate(**{**kwargs, "verbose": False})

    def test(self, **kwargs: Any) -> None:
        """Test, in the manner of :meth:`validate`."""
        self.trainer.test(**{**kwargs, "verbose": False})

    def predict(self, **kwargs: Any) -> None:
        """Predict without keeping every label map in memory: the files are the result."""
        self.trainer.predict(**{**kwargs, "return_predictions": False})

    def after_fit(self) -> None:
        self._say_results("config.yaml", "metrics.csv", "metrics.json", "predictions.png", "checkpoints")

    def after_validate(self) -> None:
        self._say_results("metrics.json", "images.csv", "images.npz", "predictions.png")

    def after_test(self) -> None:
        self._say_results("metrics.json", "images.csv", "images.npz", "predictions.png")

    def after_predict(self) -> None:
        self._say_results("predictions/masks", "predictions/overlays")
        self._refuse_failures()

    @rank_zero_only
    def _refuse_failures(self) -> None:
        """End with status 1 where images could not be predicted."""
        from lightning_seg.callbacks import PredictionFiles

        callbacks: list[pl.Callback] = self.trainer.callbacks  # type: ignore[attr-defined]  # of pl.Trainer
        files = next(callback for callback in callbacks if isinstance(callback, PredictionFiles))
        if files.failures:
            total = len(self.datamodule.datasets["predict"])
            raise DataError(
                f"{len(files.failures)} of {total} images are not predicted, the others are:\n  "
                + "\n  ".join(files.failures)
            )

    @rank_zero_only
    def _say_results(self, *names: str) -> None:
        print(f"Results in {self.run.path}:")
        for name in names:
            if (self.run.path / name).exists():
                print(f"  {self.run.path / name}")


def _configured_by_environment(parser: Parser) -> bool:
    """Whether a variable names a config, for all commands or for one."""
    pattern = re.compile(rf"{re.escape(get_env_var(parser))}([A-Z]+__)?CONFIG")
    return any(pattern.fullmatch(name) for name in os.environ)


def _seed(seed_everything: bool | int) -> int:
    """The data's seed: that of ``seed_everything``, and Lightning's default where it is only switched."""
    if isinstance(seed_everything, bool):
        return int(os.environ.get("PL_GLOBAL_SEED", "0"))
    return seed_everything


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _as_list(value: Any) -> list[Any]:
    """A list as it is, nothing as an empty one, anything else as a list of one."""
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def main(args: Sequence[str] | None = None) -> None:
    """Run a command; a mistake of the user's ends it with one message and status 1, Ctrl-C with status 130."""
    use_utf8()
    silence_lightning()
    try:
        SegmentationCLI(args)
    except LightningSegError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning's exit from the midst of a run
            raise SystemExit(_INTERRUPTED) from None
        raise


def silence_lightning() -> None:
    """Leave out what no user can act on.

    Advertisements, deprecations within Lightning and Detectron2, that YAML has no tuples, the advice to average over
    processes figures that are the same on all of them already, that a machine with Slurm is used without it, and that
    data could not go on inside an epoch.
    """
    warnings.filterwarnings("ignore", message=r"The `srun` command is available on your system but is not used")
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.script(_method)?` is (deprecated|not supported)")
    warnings.filterwarnings("ignore", message=r"It is recommended to use `self\.log\(.*sync_dist=True\)`")
    warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before the epoch ended")
    warnings.filterwarnings("ignore", message=r"(?s).*a tuple is serialized as list")
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.* is deprecated")
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(lambda record: "💡" not in record.getMessage())
