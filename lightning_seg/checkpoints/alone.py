"""What a checkpoint holds so that it predicts alone, without the files that it was trained from."""

from typing import Any

from lightning_seg.models.recipe import Recipe, record_config


def complete(checkpoint: dict[str, Any], config: str, recipe: Recipe, data: Any) -> None:
    """Add all that a config says, and how images are read and transformed in evaluation.

    Args:
        checkpoint: Lightning's; changed in place.
        config: ``model.config``.
        recipe: that was made of it.
        data: the trainer's data module, or None.
    """
    if "hyper_parameters" in checkpoint:
        # Without Lightning's own names, which would have load_from_checkpoint parse them as a command does.
        settings = {name: value for name, value in checkpoint["hyper_parameters"].items() if not name.startswith("_")}
        checkpoint["hyper_parameters"] = {**settings, "config": record_config(config, recipe)}
    describe = getattr(data, "describe_evaluation", None)
    if describe is not None:
        checkpoint["evaluation"] = describe()
