"""Downloads checkpoints from W&B: ``--ckpt_path wandb://ENTITY/PROJECT/model-ID:best``."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning_seg.errors import CheckpointError, describe
from lightning_seg.files import DRAFT_SUFFIX
from lightning_seg.loggers.wandb_run import RUN_ID_FILE
from lightning_seg.loggers.wandb_server import why_unreachable

SCHEME = "wandb://"


def downloaded(given: str, root: Path) -> str:
    """The path of a checkpoint: what begins with :data:`SCHEME` is downloaded, anything else is given back.

    Raises:
        CheckpointError: as of :func:`fetch_checkpoint`.
    """
    return str(fetch_checkpoint(given, root)) if given.startswith(SCHEME) else given


def fetch_checkpoint(address: str, root: Path) -> Path:
    """Download a checkpoint that ``log_model`` uploaded, unless that version is there already.

    It goes to a folder that is laid out as a run folder, so that an evaluation of it adds to the W&B run that trained
    it. All processes of a run may call this at once.

    Args:
        address: ``wandb://`` and the artifact's name with an alias (``best``, ``last``) or version.
        root: of all runs.

    Raises:
        CheckpointError: if W&B cannot be reached or lacks the artifact, or if that does not hold one checkpoint.
    """
    import wandb

    name = address.removeprefix(SCHEME)
    if reason := why_unreachable():
        raise CheckpointError(f"{address} cannot be downloaded: {reason}")
    try:
        artifact = wandb.Api().artifact(name, type="model")
        # The alias `best` moves to other versions; a version never changes.
        folder = root / "wandb" / f"{name.partition(':')[0]}_{artifact.version}"
        if not folder.is_dir():
            _download(artifact, folder)
    except Exception as error:
        raise CheckpointError(
            f"{address} cannot be downloaded: {describe(error)}; expected {SCHEME}ENTITY/PROJECT/model-ID:best"
        ) from error
    files = sorted((folder / "checkpoints").glob("*.ckpt"))
    if len(files) != 1:
        raise CheckpointError(f"{address} holds {len(files)} .ckpt files, but must hold one")
    return files[0]


def _download(artifact: Any, folder: Path) -> None:
    """Download into a draft beside the folder, which then becomes the folder, whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(suffix=DRAFT_SUFFIX, dir=folder.parent) as made:
        draft = Path(made, "run")
        artifact.download(root=str(draft / "checkpoints"))
        run_id = artifact.name.partition(":")[0].removeprefix("model-")
        (draft / RUN_ID_FILE).write_text(run_id + "\n")
        try:
            draft.replace(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
