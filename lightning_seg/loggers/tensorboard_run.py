"""Places TensorBoard's events in the folder of their run, or in a folder of that name."""

from pathlib import Path

from pytorch_lightning.loggers import TensorBoardLogger

from lightning_seg.config_paths import expanded
from lightning_seg.lightning_internals import place_tensorboard, tensorboard_place

_LIGHTNINGS_NAME = "lightning_logs"


def place_events(logger: TensorBoardLogger, folder: Path, name: str) -> None:
    """Name a logger's folder after the run, unless the user has named it.

    Args:
        logger: its ``save_dir`` is the user's. If that is the folder of all runs, or ``.``, events go to
            ``tensorboard`` in the run folder; else to a folder of the run's name in ``save_dir``.
        folder: of the run.
        name: of the run; ``folder`` ends with it.
    """
    given, of_user, version = tensorboard_place(logger)
    if of_user != _LIGHTNINGS_NAME or version is not None:
        return
    runs = folder.resolve().parents[len(Path(name).parts) - 1]
    if given in ("", ".") or Path(expanded(given)).resolve() == runs:
        place_tensorboard(logger, str(folder), "tensorboard", "")
    else:
        place_tensorboard(logger, given, str(Path(name).parent), Path(name).name)
