"""Logs artifacts to W&B: code, configuration and file lists of a run, and the predictions of ``test``."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as pl
import yaml
from pytorch_lightning.loggers import WandbLogger

from lightning_seg.callbacks.access import data_of, wandb_loggers
from lightning_seg.config_paths import expanded
from lightning_seg.data.listing.files import FileLists
from lightning_seg.errors import Forgiving
from lightning_seg.files import inside, replacing
from lightning_seg.lightning_internals import wandb_arguments
from lightning_seg.predictions import write_mask
from lightning_seg.structures import Batch

_PACKAGE = Path(__file__).parent.parent

_SOURCE_SUFFIXES = (".py", ".yaml", ".yml")

_SECONDS_AT_THE_END = 10.0
"""How long a run waits for its file lists when it ends."""


class RunArtifacts(pl.Callback):
    """Logs to W&B:

    * ``source-<project>`` (``fit``): this package, the program, and the files that ``data.imports``, ``model.imports``
      and ``model.config`` name; nothing if W&B is told to save no code (``WANDB_DISABLE_CODE``, ``save_code: false``);
    * ``config-<id>`` (``fit``): ``config.yaml``;
    * ``<name of the run>-<split>``: a table of the split's files with sizes and digests, no images
      (:class:`~lightning_seg.data.listing.files.FileLists`); if a file differs, W&B makes a new version;
    * ``predictions-<id>`` (``test``): the label maps, which lie in ``predictions/masks`` of the run folder.

    Args:
        predictions: whether ``test`` writes and logs them.
    """

    def __init__(self, predictions: bool = True) -> None:
        self.predictions = predictions
        self._lists: FileLists | None = None
        self._masks: Path | None = None
        self._forgiving = Forgiving("logging W&B artifacts")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for logger in wandb_loggers(trainer):
            with self._forgiving:
                _log_source(logger, Path(trainer.default_root_dir))
        self._start_lists(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if self._lists is not None and not self._lists.is_alive():
            self._log_lists(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log_lists(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._start_lists(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._log_lists(trainer)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start_lists(trainer)
        if self.predictions and any(isinstance(logger, WandbLogger) for logger in trainer.loggers):
            masks = Path(trainer.default_root_dir) / "predictions" / "masks" if wandb_loggers(trainer) else None
            self._masks = trainer.strategy.broadcast(masks)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._masks is None:
            return
        with self._forgiving:
            for sample, prediction in zip(batch, outputs["predictions"], strict=True):
                path = inside(self._masks, f"{sample['name']}.png")
                with replacing(path) as file:
                    write_mask(file, prediction.cpu().numpy(), data_of(trainer).info)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log_lists(trainer)
        if self._masks is None:
            return
        for logger in wandb_loggers(trainer):
            with self._forgiving:
                _log_predictions(logger, self._masks, data_of(trainer).info.names)

    def _start_lists(self, trainer: pl.Trainer) -> None:
        if wandb_loggers(trainer):
            data = data_of(trainer)
            self._lists = FileLists({split: dataset.samples for split, dataset in data.datasets.items()}, data.root)
            self._lists.start()

    def _log_lists(self, trainer: pl.Trainer) -> None:
        if self._lists is None:
            return
        lists, self._lists = self._lists, None
        for logger in wandb_loggers(trainer):
            with self._forgiving:
                lists.finish(_SECONDS_AT_THE_END)
                name = _settings(Path(trainer.default_root_dir))["name"]
                for split in lists.splits:
                    _log_list(logger, name, split, lists)


def _log_source(logger: WandbLogger, folder: Path) -> None:
    """Log code and configuration."""
    import wandb
    from wandb.util import make_artifact_name_safe

    run, config = logger.experiment, folder / "config.yaml"
    unwanted = (
        wandb_arguments(logger).get("save_code") is False or os.environ.get("WANDB_SAVE_CODE", "").lower() == "false"
    )
    if not (unwanted or run.settings.disable_code):
        with TemporaryDirectory() as copies:
            for name, path in _source_files(_settings(folder)).items():
                copy = Path(copies, name)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            run.log_code(copies, make_artifact_name_safe(f"source-{run.project}"), include_fn=lambda _: True)
    artifact = wandb.Artifact(f"config-{run.id}", "config")
    artifact.add_file(str(config))
    run.log_artifact(artifact)


def _settings(folder: Path) -> dict[str, Any]:
    """The resolved configuration of the command."""
    settings: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text())
    return settings


def _source_files(settings: dict[str, Any]) -> dict[str, Path]:
    """Files by their names in the artifact: relative to the working directory if they lie below it."""
    files = {str(path.relative_to(_PACKAGE.parent)): path for path in _PACKAGE.rglob("*.py")}
    named = [sys.argv[0], settings["model"]["config"]]
    named += [*(settings["data"].get("imports") or ()), *(settings["model"].get("imports") or ())]
    for name in named:
        module_file = getattr(sys.modules.get(name), "__file__", None)
        path = Path(module_file or expanded(name)).resolve()
        if path.suffix in _SOURCE_SUFFIXES and path.is_file() and not path.is_relative_to(_PACKAGE):
            start = Path.cwd() if path.is_relative_to(Path.cwd()) else path.anchor
            files[str(path.relative_to(start))] = path
    return files


def _log_list(logger: WandbLogger, name: str, split: str, lists: FileLists) -> None:
    import wandb
    from wandb.util import make_artifact_name_safe

    facts = {"samples": len(lists.splits[split]), "root": str(lists.root), "files_without_digest": lists.unread[split]}
    artifact = wandb.Artifact(make_artifact_name_safe(f"{name}-{split}"), "dataset", metadata=facts)
    with artifact.new_file(f"{split}.csv.gz", "wb") as file:
        file.write(lists.tables[split])
    logger.experiment.log_artifact(artifact)


def _log_predictions(logger: WandbLogger, masks: Path, classes: Sequence[str]) -> None:
    import wandb

    run = logger.experiment
    artifact = wandb.Artifact(f"predictions-{run.id}", "predictions", metadata={"classes": list(classes)})
    # The files stay where they are: a copy would take their room twice.
    artifact.add_dir(str(masks.resolve()), skip_cache=True, policy="immutable")
    run.log_artifact(artifact)
