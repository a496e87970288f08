"""Lets a user's file declare config keys for the head or backbone that it registers."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from lightning_seg.errors import ConfigError, describe

if TYPE_CHECKING:
    from detectron2.config import CfgNode

Declaration = TypeVar("Declaration", bound="Callable[[CfgNode], None]")

_declared: "dict[str, Callable[[CfgNode], None]]" = {}


def declares_keys(function: Declaration) -> Declaration:
    """Decorate a function that adds keys and their defaults to a Detectron2 config.

    The keys are then known wherever a config is read: ``model.overrides`` may set them, and a checkpoint keeps those
    that were changed.
    The file of the function must be in ``model.imports``, as that of the head is.

    Args:
        function: gets the whole config before any file is read, and adds to it, as Detectron2's own
            ``add_deeplab_config`` does.

    >>> from detectron2.config import CfgNode
    >>> from lightning_seg.models.config import load_config
    >>> @declares_keys
    ... def add_my_head_config(cfg):
    ...     cfg.MODEL.MY_HEAD = CfgNode({"HIDDEN": 64})
    >>> load_config("Misc/semantic_R_50_FPN_1x.yaml", {"MODEL.MY_HEAD.HIDDEN": 32}).MODEL.MY_HEAD.HIDDEN
    32
    >>> del _declared[f"{__name__}.add_my_head_config"]
    """
    _declared[f"{function.__module__}.{function.__qualname__}"] = function
    return function


def add_own_config(cfg: "CfgNode") -> None:
    """Add the keys of all functions that were decorated.

    Raises:
        ConfigError: if one of the functions fails; names it.
    """
    for name, function in _declared.items():
        try:
            function(cfg)
        except Exception as error:  # it is the user's code: anything may come
            raise ConfigError(
                f"{name}, which declares keys of a config (model.imports), failed: {describe(error)}"
            ) from error
