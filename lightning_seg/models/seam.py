"""The one seam through which logits and losses of any Detectron2 head are reached.

Every head of Detectron2, of its projects and of users calls ``self.losses(logits, targets)`` in training, with the
logits at 1/``common_stride`` of the input; ``PointRendSemSegHead`` calls that of its ``coarse_sem_seg_head``. Putting
another function in the place of ``losses`` for one call therefore reaches the logits of all, and a criterion all heads.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

Features = dict[str, Tensor]
LossFunction = Callable[[Tensor, Tensor], dict[str, Tensor]]


def owner_of_losses(head: Any) -> Any:
    """The module whose ``losses``, ``common_stride`` and ``ignore_value`` are the head's."""
    return getattr(head, "coarse_sem_seg_head", head)


def training_losses(
    head: Any, features: Features, targets: Tensor, loss_function: LossFunction | None
) -> dict[str, Tensor]:
    """The head's own losses in training, or those of a function in place of its main one.

    A loss is zero where no pixel counts, see :func:`zero_where_nothing_counts`.

    Args:
        head: in training mode.
        features: of the backbone.
        targets: (N, H, W) int64, padded with the ignore value.
        loss_function: takes logits (N, K, h, w) and targets; null: the head's own.
    """
    owner = owner_of_losses(head)
    own_losses = owner.losses
    seen: list[Tensor] = []

    def losses(logits: Tensor, padded: Tensor) -> dict[str, Tensor]:
        seen.append(logits)
        return (loss_function or own_losses)(logits, padded)

    with _replaced(owner, "losses", losses):
        found: dict[str, Tensor] = head(features, targets)[1]
    return zero_where_nothing_counts(found, seen[0])


def zero_where_nothing_counts(losses: dict[str, Tensor], logits: Tensor) -> dict[str, Tensor]:
    """Detectron2's means over no pixel are NaN, with a zero gradient; make them zero.

    A NaN that comes from the logits stays one.
    """
    finite = logits.isfinite().all()
    return {name: loss.where(~(loss.isnan() & finite), loss.nan_to_num()) for name, loss in losses.items()}


def evaluation_logits(head: Any, features: Features) -> tuple[Tensor, int, Tensor]:
    """The head's logits in evaluation mode, at the lowest resolution that says all.

    Args:
        head: in evaluation mode.
        features: of the backbone.

    Returns:
        The logits (N, K, h, w), how many input pixels one of them stands for, and the logits that the head's own
        main loss is defined on: the same, but for a head that refines them to a finer stride.
    """
    owner = owner_of_losses(head)
    coarse: list[Tensor] = []
    if owner is not head:
        layers = owner.layers

        def keep(given: Features) -> Tensor:
            coarse.append(layers(given))
            return coarse[-1]

        with _replaced(owner, "layers", keep):
            refined: Tensor = head(features)[0]
        return refined, owner.common_stride * coarse[0].shape[-2] // refined.shape[-2], coarse[0]
    if hasattr(owner, "layers"):
        logits: Tensor = owner.layers(features)
    else:

        def capture(given: Tensor, targets: Tensor) -> dict[str, Tensor]:
            coarse.append(given)
            return {}

        with _replaced(owner, "losses", capture), _replaced(owner, "training", True):  # its parts stay in evaluation
            head(features, None)
        logits = coarse[0]
    return logits, owner.common_stride, logits


def pad_targets(targets: Tensor, stride: int, ignore_value: int) -> Tensor:
    """Pad (N, H, W) to whole strides, as far as upsampled logits reach; changes nothing where Detectron2 runs."""
    height, width = targets.shape[-2:]
    return F.pad(targets, (0, -width % stride, 0, -height % stride), value=ignore_value)


@contextmanager
def _replaced(module: nn.Module, name: str, value: Any) -> Iterator[None]:
    """Set an instance attribute and take it away again, whatever happens, so that copies never hold it."""
    before = vars(module).get(name, _replaced)
    vars(module)[name] = value
    try:
        yield
    finally:
        if before is _replaced:
            del vars(module)[name]
        else:
            vars(module)[name] = before
