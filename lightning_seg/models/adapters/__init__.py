"""Trains and evaluates each kind of head: a known one through its methods, any other through its forward."""

from typing import Any

from lightning_seg.errors import ConfigError
from lightning_seg.models.adapters.adapter import EXAMPLE, Adapter, Found, owner_of_losses, pad_targets
from lightning_seg.models.adapters.foreign import Foreign
from lightning_seg.models.adapters.known import known_adapters
from lightning_seg.models.adapters.plain import Plain

__all__ = ["Adapter", "Found", "adapt", "owner_of_losses", "pad_targets"]


def adapt(head: Any, ignore_index: int) -> Adapter:
    """Choose the adapter of a head by its first class that is known, unless one before it has a ``forward`` of its own.

    Raises:
        ConfigError: if the head has ``losses``, but lacks the attributes that belong to them.
    """
    known = known_adapters()
    kind = next(cls for cls in type(head).__mro__ if cls in known or "forward" in vars(cls))
    if kind in known and "forward" not in vars(head):
        return known[kind](head, ignore_index)
    owner = owner_of_losses(head)
    if not hasattr(owner, "losses"):
        return Plain(head, ignore_index)
    missing = [name for name in ("common_stride", "ignore_value") if not hasattr(owner, name)]
    if missing:
        raise ConfigError(
            f"head {type(owner).__name__} has losses(logits, targets), but no {' and no '.join(missing)} (input pixels "
            f"per logit; the target that does not count): add them as in {EXAMPLE}"
        )
    return Foreign(head, ignore_index)
