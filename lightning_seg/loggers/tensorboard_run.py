"""TensorBoard: events in the folder of their run, or in one of its name."""

from pathlib import Path

from pytorch_lightning.loggers import TensorBoardLogger

from lightning_seg.lightning_internals import place_tensorboard, tensorboard_place

_LIGHTNINGS_NAME = "lightning_logs"


def place_events(logger: TensorBoardLogger, folder: Path, name: str) -> None:
    """Name a logger's folder after the run, unless the user has named it.

    Args:
        logger: whose ``save_dir`` the user must give. Of the folder of all runs, and of ``.``, events go into
            ``tensorboard`` in the run folder; of any other, into the run's name there.
        folder: of the run.
        name: of the run, which ``folder`` ends with.
    """
    given, of_user, version = tensorboard_place(logger)
    if of_user != _LIGHTNINGS_NAME or version is not None:
        return
    runs = folder.resolve().parents[len(Path(name).parts) - 1]
    if given in ("", ".") or Path(given).expanduser().resolve() == runs:
        place_tensorboard(logger, str(folder), "tensorboard", "")
    else:
        place_tensorboard(logger, given, str(Path(name).parent), Path(name).name)
