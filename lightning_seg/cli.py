"""Runs the commands ``fit``, ``validate``, ``test`` and ``predict`` on one YAML."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from jsonargparse import ActionYesNo
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities import rank_zero_info, rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from lightning_seg.arguments import MergingConfigFile, Parser, configured_by_environment
from lightning_seg.checkpoints.choosing import RunChoice
from lightning_seg.checkpoints.evaluated import config_of_checkpoint
from lightning_seg.checkpoints.lock import release_folders
from lightning_seg.checkpoints.resuming import flatten
from lightning_seg.checkpoints.runs import RunFolder, prepare_folder, root_of_runs
from lightning_seg.config_paths import SETTLED
from lightning_seg.data import SegmentationDataModule
from lightning_seg.errors import ConfigError, DataError, LaunchError, LightningSegError
from lightning_seg.files import naming_full_disk, use_utf8
from lightning_seg.launching.plan import Plan, resolve_processes
from lightning_seg.launching.starters import late_rank
from lightning_seg.lightning_internals import describe_options, is_main_process, kill_started_processes
from lightning_seg.loggers import downloaded, without_missing
from lightning_seg.preflight.checks import Preflight
from lightning_seg.running import calibrating, exported, predicting
from lightning_seg.running.ending import as_config_error, first_line, has_begun, own_error, say_results
from lightning_seg.running.silence import silence_evaluation, silence_lightning
from lightning_seg.strategies import register_strategies

_INTERRUPTED = 128 + signal.SIGINT
"""The exit status after Ctrl-C, as shells have it."""


class SegmentationCLI(LightningCLI):
    """LightningCLI with a run folder, links from data to model, and the callbacks that every run has."""

    run: RunFolder
    choice: RunChoice
    preflight: Preflight

    def __init__(self, args: Sequence[str] | None = None) -> None:
        register_strategies()
        given = list(sys.argv[1:] if args is None else args)
        environment = {"default_env": True}
        try:
            super().__init__(
                exported.module_for(given),
                SegmentationDataModule,
                save_config_callback=None,  # instantiate_trainer saves it
                parser_class=Parser,
                parser_kwargs={**environment, **{command: dict(environment) for command in self.subcommands()}},
                auto_configure_optimizers=False,
                args=given,
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
        describe_options(parser)
        if subcommand == "fit":
            parser.add_argument(
                "--dry_run",
                action=ActionYesNo,
                nargs="?",
                default=False,
                help="Print what would be trained and everything that is wrong with it; train nothing.",
            )
        elif subcommand == "predict":
            predicting.add_options(parser)
        elif subcommand == "validate":
            calibrating.add_option(parser)
        return parser

    def parse_arguments(self, parser: Parser, args: Any) -> None:  # type: ignore[override]
        """Parse the arguments, after those of the evaluated run or exported file."""
        arguments = exported.complete(args)
        found = None if configured_by_environment(parser) else config_of_checkpoint(arguments)
        if found is not None:
            arguments[1:1] = ["--config", str(found)]  # so that flags win over it
        self.config = parser.parse_args(arguments)
        settings = self.config[self.config.subcommand]
        trainer, seed = settings.trainer, settings.seed_everything
        if not isinstance(seed, bool) and not 0 <= seed < 2**32:
            raise ConfigError(f"seed_everything is {seed}, but must be from 0 to {2**32 - 1}")
        if trainer.barebones:
            raise ConfigError("trainer.barebones turns off figures, files and checkpoints: leave it out")
        if (rank := late_rank(os.environ, resolve_processes(trainer))) is not None:
            rank_zero_only.rank = rank  # type: ignore[attr-defined]  # Lightning's own way to say so
        if found is not None:
            rank_zero_info(f"Configuration: {found}, unless flags say otherwise")

    def _parse_ckpt_path(self) -> None:
        """Leave the config alone: Lightning would let the checkpoint's settings win over explicit flags."""

    @property
    def settings(self) -> Any:
        """The parsed options of the chosen command."""
        return self.config[self.subcommand]

    def before_instantiate_classes(self) -> None:
        """Choose name and checkpoint, and look for mistakes, before anything slow begins or waits for others."""
        settings = self.settings
        if settings.name is None:
            configs = [*(settings.config or []), *(self.config.get("config") or [])]  # after the command, and before it
            settings.name = next((Path(str(file)).stem for file in configs if file is not None), "default")
        settings.trainer.logger = without_missing(settings.trainer.logger)
        self.choice = RunChoice(self.root, settings.name, trains=self.subcommand == "fit")
        self.preflight = Preflight(str(self.subcommand), settings, os.environ, first=is_main_process())
        self.preflight.check_launch()
        self.preflight.check_checkpoint(self._resolve_checkpoint)
        self.preflight.check_folder(self.choice.path)
        if self.subcommand == "fit":
            self.preflight.check_files()
        else:
            silence_evaluation()
            calibrating.prepare(self.settings)
        if not self.preflight.dry:
            self.preflight.refuse()

    @property
    def root(self) -> Path:
        """The folder of all runs."""
        return root_of_runs(self.settings.trainer.default_root_dir, self.settings.name)

    def _resolve_checkpoint(self) -> None:
        """Turn ``ckpt_path`` into a file that can be loaded; with ``last``, ``fit`` resumes its run."""
        settings = self.settings
        if settings.ckpt_path is None:
            return
        given, rehearses = downloaded(settings.ckpt_path, self.root), bool(settings.trainer.fast_dev_run)
        settings.ckpt_path = self.choice.choose(given, rehearses=rehearses, dry=self.preflight.dry)

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except Exception as error:
            own = own_error(error)
            if not isinstance(own, ConfigError | DataError):
                raise
            raise LaunchError([*self.preflight.problems, str(own)]) from error
        if self.settings.ckpt_path is not None:
            self.model.weights = ""  # the checkpoint brings its weights

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer with all that every run has, except what the user replaces or switches off."""
        from lightning_seg.running.equipment import as_list, equip, own_loggers

        trainer, command = self._get(self.config_init, "trainer"), str(self.subcommand)
        self.preflight.check_channels(*(self._get(self.config_init, name) for name in ("model", "data")))
        if command == "fit":
            plan = self._check_training(as_list(trainer.callbacks))
            if trainer.log_every_n_steps is None:
                kwargs["log_every_n_steps"] = plan.log_interval
        predictions = None
        if command == "predict":
            self.run, predictions = predicting.begin(
                self.choice, self.settings, self._dump(), self.datamodule, self.model
            )
        else:
            self.run = self.choice.begin()
        kwargs |= equip(trainer, command, self.settings, self.run, self.datamodule, predictions)
        if trainer.logger is not False:
            given = as_list(trainer.logger)
            kwargs["logger"] = own_loggers(given, command, self.settings.ckpt_path, self.run, self.choice.step)
        try:
            self.choice.claim(self.run)
            trains = command == "fit" and not self.settings.trainer.fast_dev_run
            prepare_folder(self.run, self._dump(), trains=trains)
            return self._build_trainer(**kwargs)
        except LightningSegError:
            self.choice.withdraw(self.run)
            raise

    def _check_training(self, callbacks: list[pl.Callback]) -> Plan:
        """Refuse a training that would fail, and say how large it is; a dry run ends here.

        Args:
            callbacks: the user's.
        """
        model, data = (self._get(self.config_init, name) for name in ("model", "data"))
        model.run_settings = flatten(yaml.safe_load(self._dump()))
        self.preflight.check_callbacks(model, callbacks)
        if self.preflight.dry:
            self.preflight.attempt(lambda: self._try_trainer(callbacks))
        plan = self.preflight.check_training(model, data, self.choice.path, self.choice.step)
        if self.preflight.dry:
            sys.exit(0)
        return plan

    def _build_trainer(self, **kwargs: Any) -> pl.Trainer:
        try:
            return super().instantiate_trainer(**kwargs)
        except LightningSegError:
            raise
        except Exception as error:  # Lightning raises many kinds for settings that contradict each other
            raise ConfigError(f"trainer: {first_line(error)}") from error

    def _try_trainer(self, callbacks: list[pl.Callback]) -> None:
        """Build a trainer only to see whether it works; on the CPU if this machine lacks the devices of the run."""
        from lightning_seg.running.equipment import as_list, own_plugins

        trainer = self._get(self.config_init, "trainer")
        kwargs: dict[str, Any] = {"callbacks": callbacks, "logger": False}
        kwargs["plugins"] = own_plugins(as_list(trainer.plugins), trainer.sync_batchnorm, trainer.strategy)
        if not self.preflight.processes.available:
            kwargs |= {"accelerator": "cpu", "precision": None}
        self._build_trainer(**kwargs)

    def _dump(self) -> str:
        """The settings of the run as YAML."""
        settings = self.settings.clone()
        for name in ("ckpt_path", "config", "dry_run", calibrating.OPTION, *predicting.OPTIONS):
            settings.pop(name, None)
        return str(self._parser(self.subcommand).dump(settings, skip_unset=False))

    def _run_subcommand(self, subcommand: str) -> None:
        """Run; an error of this process also ends the processes that it started, since they would wait for ever."""
        try:
            with naming_full_disk(self.run.path):
                super()._run_subcommand(subcommand)
        except Exception as error:
            kill_started_processes(self.trainer)
            refused = isinstance(error, LightningSegError | MisconfigurationException)
            if refused and not has_begun(self.trainer):
                self.choice.withdraw(self.run)
            if (explained := as_config_error(error)) is not None:
                raise explained from error
            raise

    def validate(self, **kwargs: Any) -> None:
        """Validate; ``verbose`` switches the table of results, not Lightning's list of logged figures."""
        calibrating.validate(self.trainer, self.settings, {**kwargs, "verbose": False})

    def test(self, **kwargs: Any) -> None:
        """Test as :meth:`validate` validates."""
        self.trainer.test(**{**kwargs, "verbose": False})

    def predict(self, **kwargs: Any) -> None:
        """Predict; label maps are not kept in memory, since the files are the result."""
        self.trainer.predict(**predicting.arguments(kwargs, self.model))

    def after_fit(self) -> None:
        say_results(self.run.path, str(self.subcommand))

    after_validate = after_test = after_fit

    def after_predict(self) -> None:
        predicting.end(self.trainer, self.datamodule)


def _seed(seed_everything: bool | int) -> int:
    """The data's seed: that of ``seed_everything``, or Lightning's default if it is true or false."""
    if isinstance(seed_everything, bool):
        return int(os.environ.get("PL_GLOBAL_SEED", "0"))
    return seed_everything


def main(args: Sequence[str] | None = None) -> None:
    """Run a command. A user's mistake ends it with one message and status 1, Ctrl-C with status 130."""
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
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning exits so in the midst of a run
            raise SystemExit(_INTERRUPTED) from None
        raise
