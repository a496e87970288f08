"""A trained module from its checkpoint, and the data of the run that it lies in."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.utilities import rank_zero_info

from lightning_seg.arguments import Parser
from lightning_seg.checkpoints.choosing import RunChoice
from lightning_seg.checkpoints.evaluated import EXPORTED
from lightning_seg.checkpoints.runs import DEFAULT_ROOT
from lightning_seg.config_paths import with_paths_from
from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.dataset import SegmentationDataset
from lightning_seg.data.evaluation import rules_of
from lightning_seg.data.reading import ReadingRules
from lightning_seg.errors import CheckpointError, ConfigError, DataError, LightningSegError
from lightning_seg.imports import import_files_of
from lightning_seg.loggers import downloaded
from lightning_seg.models.normalisation import without_sync
from lightning_seg.models.weights import read_checkpoint
from lightning_seg.module import SegmentationModule
from lightning_seg.restoring import restore_module


@dataclass(frozen=True)
class Trained:
    """A module with its weights, in evaluation mode on the CPU.

    Attributes:
        module: it.
        checkpoint: the file that the weights come from.
        config: the ``config.yaml`` of the run that wrote it; None where it lies in no run folder.
        evaluation: how the checkpoint says that images are read and transformed; None: it does not.
    """

    module: SegmentationModule
    checkpoint: Path
    config: Path | None
    evaluation: dict[str, Any] | None = None


def load_trained(given: str) -> Trained:
    """Load a checkpoint.

    Args:
        given: as ``--ckpt_path`` of ``predict``: a file, the folder of a run, or ``wandb://…``.

    Raises:
        CheckpointError: if there is none, or it cannot be loaded.
        ConfigError: if its model cannot be built here.
    """
    if given in ("last", "best"):
        raise CheckpointError(f"--ckpt_path {given} needs the name of a run: give its folder, runs/<name>/version_<n>")
    if given.endswith(EXPORTED):
        raise CheckpointError(f"{given} is an exported file already: give the checkpoint that it was made from")
    root = Path(DEFAULT_ROOT)
    chosen = RunChoice(root, "", trains=False).choose(downloaded(given, root), rehearses=False, dry=True)
    assert chosen is not None  # of a training alone
    path = Path(chosen)
    what = f"checkpoint {path}"
    checkpoint = read_checkpoint(path, what)
    module = restore_module(checkpoint, what)
    if without_sync(module.segmentor):
        rank_zero_info("SyncBN is exported as BN, which is the same in evaluation")
    configs = [place / "config.yaml" for place in (path.parent.parent, path.parent)]
    config = next((file for file in configs if file.is_file()), None)
    return Trained(module.float().eval(), path, config, checkpoint.get("evaluation"))


def settings_of(config: Path | None) -> dict[str, Any]:
    """The ``data`` group of a run's settings; empty where there is none."""
    if config is None:
        return {}
    text = with_paths_from(config.absolute().parent, config.read_text(encoding="utf-8"), Path.cwd())
    content = yaml.safe_load(text)
    found = content.get("data") if isinstance(content, dict) else None
    return found if isinstance(found, dict) else {}


def validation_set(config: Path) -> SegmentationDataset:
    """The validation samples of a run, as ``validate`` reads them.

    Raises:
        LightningSegError: if they are not there, or the run has none.
    """
    settings = settings_of(config)
    if settings.get("val") is None:
        raise ConfigError(f"{config} names no data.val")
    import_files_of(str(config))
    parser = Parser(exit_on_error=False)
    parser.add_class_arguments(SegmentationDataModule, "data", sub_configs=True)
    try:
        parsed = parser.parse_object({"data": settings})
        data: SegmentationDataModule = parser.instantiate(parsed).data
    except LightningSegError:
        raise
    except Exception as error:  # jsonargparse's own, of many kinds
        raise ConfigError(f"data of {config} cannot be read: {error}") from error
    data.prepare_data()
    data.setup("validate")
    return data.datasets["val"]


def images_at(place: str, trained: Trained) -> SegmentationDataset:
    """Images without masks, read as the checkpoint says.

    Args:
        place: as ``data.predict``: an image, a folder of images, a glob pattern, a list or a video.
        trained: whose classes they show.

    Raises:
        LightningSegError: if there are none.
    """
    module = trained.module
    rules = ReadingRules() if trained.evaluation is None else rules_of(trained.evaluation)
    data = SegmentationDataModule(
        classes=module.class_names,
        ignore_index=module.hparams["ignore_index"],
        predict=place,
        value_range=None if rules.ranges is None else [list(pair) for pair in rules.ranges],
        bands=None if rules.bands is None else list(rules.bands),
        max_pixels=rules.max_pixels,
    )
    data.rules = rules  # also with the type of the training's images
    data.info = replace(data.info, dtype=rules.dtype or "uint8")
    try:
        data.setup("predict")
    except DataError as error:
        raise ConfigError(str(error).replace("data.predict", "--images")) from None
    return data.datasets["predict"]
