"""Adds to a checkpoint what it needs to predict alone, without the files of its training."""

from typing import Any

from lightning_seg.models.recipe import Recipe, record_config


def complete(checkpoint: dict[str, Any], config: str, recipe: Recipe, data: Any) -> None:
    """Add the contents of the config, and how images are read and transformed in evaluation.

    Args:
        checkpoint: Lightning's; changed in place.
        config: ``model.config``.
        recipe: made from the config.
        data: the trainer's data module, or None.
    """
    if "hyper_parameters" in checkpoint:
        # Not under Lightning's own names: load_from_checkpoint would parse them as a command does.
        settings = {name: value for name, value in checkpoint["hyper_parameters"].items() if not name.startswith("_")}
        checkpoint["hyper_parameters"] = {**settings, "config": record_config(config, recipe)}
    describe = getattr(data, "describe_evaluation", None)
    if describe is not None:
        checkpoint["evaluation"] = describe()
