"""Lists the keys of Detectron2 configs that have no effect here, and the settings that replace them."""

from collections.abc import Iterable, Mapping, Sequence

from lightning_seg.errors import ConfigError

BATCH = "data.batch_size"
"""Sets the batch. The config's own batch only counts for ``model.scale_lr``, since its rate is made for that batch."""

YAML_REPLACED = {
    "SOLVER.IMS_PER_BATCH": BATCH,
    "SOLVER.REFERENCE_WORLD_SIZE": "model.scale_lr",
    "SOLVER.CHECKPOINT_PERIOD": "every_n_steps of lightning_seg.callbacks.LastCheckpoint in trainer.callbacks",
    "SOLVER.AMP": "trainer.precision",
    "TEST.EVAL_PERIOD": "trainer.check_val_every_n_epoch or trainer.val_check_interval",
    "TEST.AUG": "model.inference",
    "TEST": "",
    "INPUT.FORMAT": None,
    "INPUT": "data.train_transforms and data.eval_transforms",
    "DATALOADER.NUM_WORKERS": "data.num_workers",
    "DATALOADER.SAMPLER_TRAIN": "data.sampler",
    "DATALOADER": "data",
    "DATASETS": "data.train, data.val and data.test",
    "OUTPUT_DIR": "trainer.default_root_dir",
    "SEED": "seed_everything",
    "CUDNN_BENCHMARK": "trainer.benchmark",
    "VIS_PERIOD": "",
    "MODEL.DEVICE": "trainer.accelerator and trainer.devices",
}
"""Keys or groups of a YAML config and their replacements; "": there is none; None: the key counts, unlike its group."""

YAML_OPTIMIZER = (
    "BASE_LR", "BIAS_LR_FACTOR", "MOMENTUM", "NESTEROV", "WEIGHT_DECAY", "WEIGHT_DECAY_BIAS", "WEIGHT_DECAY_NORM",
)  # fmt: skip
"""Keys of ``SOLVER`` that the config's optimiser is built from."""

CROP_FREE = (
    "SemSegFPNHead", "PointRendSemSegHead", "UNetHead", "UPerNetHead", "SegFormerHead", "DPTHead", "Mask2FormerHead",
)  # fmt: skip
"""Heads that do not read ``INPUT.CROP``; Detectron2's DeepLab heads read it."""

LAZY_REPLACED = {
    "dataloader.train.total_batch_size": BATCH,
    "dataloader.train.num_workers": "data.num_workers",
    "dataloader": "data",
    "train.init_checkpoint": None,
    "train.max_iter": None,
    "train.output_dir": "trainer.default_root_dir",
    "train.amp": "trainer.precision",
    "train.seed": "seed_everything",
    "train.device": "trainer.accelerator and trainer.devices",
    "train.checkpointer": "every_n_steps of lightning_seg.callbacks.LastCheckpoint in trainer.callbacks",
    "train.eval_period": "trainer.check_val_every_n_epoch or trainer.val_check_interval",
    "train.log_period": "trainer.log_every_n_steps",
    "train": "trainer",
}
"""The same for a LazyConfig."""


def replacement(key: str, keys: Mapping[str, str | None]) -> str | None:
    """The replacement of a key: that of the longest entry of ``keys`` that contains it; None if the key counts.

    >>> replacement("INPUT.MIN_SIZE_TRAIN", YAML_REPLACED)
    'data.train_transforms and data.eval_transforms'
    >>> replacement("INPUT.FORMAT", YAML_REPLACED) is None
    True
    """
    parts = key.split(".")
    groups = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((keys[group] for group in groups if group in keys), None)


def refuse_unused(unused: Mapping[str, str]) -> None:
    """Raise a ConfigError if there are overrides without effect.

    Args:
        unused: the overrides' keys, and the replacement of each; "" if there is none.
    """
    if unused:
        told = (f"model.overrides.{key} has no effect here: {_remedy(name)}" for key, name in unused.items())
        raise ConfigError("; ".join(told))


def unused_notice(keys: Iterable[str]) -> Sequence[str]:
    """One line that lists the keys in a config's own file that have no effect; empty if there are none."""
    listed = ", ".join(sorted(keys))
    return [f"The groups data and trainer replace these keys of the Detectron2 config: {listed}"] if listed else []


def _remedy(name: str) -> str:
    return f"set {name} instead" if name else "leave it out"
