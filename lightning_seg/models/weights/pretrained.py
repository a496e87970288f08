"""Loads the weights that a segmentor begins with, says what was loaded, and compares the classes."""

from collections.abc import Sequence

from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from lightning_seg.errors import CheckpointError
from lightning_seg.models.segmentor import Segmentor
from lightning_seg.models.weights import load_weights
from lightning_seg.models.weights.keys import ConfigKeys
from lightning_seg.structures import summarise


def load_pretrained(
    segmentor: Segmentor,
    source: str,
    class_names: Sequence[str],
    *,
    fresh_head: bool,
    allow_missing: Sequence[str],
    keys: ConfigKeys,
    bgr: bool,
) -> str | None:
    """Load weights into a segmentor; see :func:`lightning_seg.models.weights.load_weights`.

    Args:
        segmentor: its network, and the parts beside it, get them.
        source: ``model.weights``.
        class_names: of the data.
        fresh_head: as in :func:`load_weights`.
        allow_missing: the same.
        keys: the same.
        bgr: the same.

    Returns:
        The licence of the weights; None if unknown.

    Raises:
        CheckpointError: if they cannot be read, do not fit, or have the classes in another order.
    """
    beside = segmentor.parts_beside()
    report = load_weights(
        segmentor.network,
        source,
        fresh_head=fresh_head,
        allow_missing=allow_missing,
        keys=keys,
        beside=beside,
        bgr=bgr,
    )
    rank_zero_info(str(report))
    if not report.reshaped:
        warn_of_other_classes(report.class_names, class_names, f"model.weights {source}")
    return report.licence


def warn_of_other_classes(stored: Sequence[str] | None, here: Sequence[str], what: str) -> None:
    """Warn if the names of the classes of stored weights are not those of the data.

    Args:
        stored: names in id order; None if nothing says them.
        here: those of the data.
        what: the weights, to begin a message with.

    Raises:
        CheckpointError: if the names are the same in another order: predictions would get the names of other classes.
    """
    if stored is None or list(stored) == list(here):
        return
    if sorted(stored) == sorted(here):
        raise CheckpointError(
            f"{what} has the classes of data.classes in another order, and predictions would get the names of other "
            f"classes: set data.classes to its order, [{', '.join(stored)}]"
        )
    pairs = [
        f"{index}: {old} → {new}" for index, (old, new) in enumerate(zip(stored, here, strict=False)) if old != new
    ]
    rank_zero_warn(
        f"WARNING: {what} calls {len(pairs)} of its classes by other names ({summarise(pairs)}). If they do not mean "
        "the same, give the data.classes that it was trained with"
    )
