"""Compares the settings of a resumed training with its checkpoint's: takes new ones over or refuses them.

docs/resuming.md lists them.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lightning_seg.errors import CheckpointError
from lightning_seg.structures import summarise

_NO_SETTINGS = ("params", "param_names", "initial_lr", "name", "swa_lr")
"""Entries of a parameter group that no user sets."""

_PROGRESS = ("optimizer", "base_lrs", "last_epoch", "_step_count", "_last_lr", "_get_lr_called_within_step")
"""Attributes of a schedule that no user sets. Its rates are among them: they are the optimiser's."""

_ONCE = ("model.weights", "model.fresh_head", "model.allow_missing")
"""Settings that only count before the first step."""

ASIDE = (
    "name", "seed_everything", "data.seed", "data.num_workers", "data.predict", "data.test", "data.cache",
    "trainer.logger", "trainer.enable_", "trainer.log_every_n_steps", "trainer.profiler", "trainer.num_sanity",
    "trainer.default_root_dir", "trainer.fast_dev_run",
)  # fmt: skip
"""Beginnings of settings that change no result, or that the data module compares."""

_ANEW = "or start anew with its weights as model.weights in place of ckpt_path"

_LONGEST = 40
"""How many characters of a value a message shows."""


def record_groups(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The settings and the number of parameters of each group, before a schedule changes the rates."""
    return [
        {name: _plain(value) for name, value in group.items() if name not in _NO_SETTINGS}
        | {"parameters": len(group["params"])}
        for group in optimizer.param_groups
    ]


def record_training(
    groups: Sequence[Mapping[str, Any]], optimizer: Optimizer, scheduler: Any, total_steps: float
) -> dict[str, Any]:
    """Describe the optimiser and the schedule of a run in plain values, for its checkpoints."""
    return {
        "optimizer": type(optimizer).__name__,
        "groups": list(groups),
        "schedule": flatten(_plain(scheduler)),
        "optimiser steps": total_steps,
    }


def training_problems(before: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Why the state of a checkpoint's optimiser or schedule does not fit this run; both are records."""
    if before["optimizer"] != here["optimizer"]:
        return [
            f"the checkpoint's optimiser is {before['optimizer']}, here it is {here['optimizer']}, and its "
            f"state does not fit that: give the same, {_ANEW}"
        ]
    trained = [[group["parameters"] for group in record["groups"]] for record in (before, here)]
    if trained[0] != trained[1]:
        return [
            f"the checkpoint's optimiser trains {sum(trained[0])} tensors in {len(trained[0])} groups, here it would "
            f"be {sum(trained[1])} in {len(trained[1])} (MODEL.BACKBONE.FREEZE_AT, for one, decides that): give the "
            f"same settings, {_ANEW}"
        ]
    plateau = ReduceLROnPlateau.__name__
    if plateau in (before["schedule"]["class"], here["schedule"]["class"]) and (
        changes := [change for change in training_changes(before, here) if not change.startswith("optimiser steps")]
    ):
        return [
            f"{plateau} depends on all validations so far, so a run cannot go on with another rate or schedule "
            f"({'; '.join(changes)}): give the same, {_ANEW}"
        ]
    return []


def training_changes(before: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """The differences between two records whose optimisers fit, each as ``name old → new``."""
    changes: dict[str, str] = {}
    for old, new in zip(before["groups"], here["groups"], strict=True):
        for name in [name for name in new if old.get(name) != new[name]]:
            changes.setdefault(name, f"{'learning rate' if name == 'lr' else name} {_change(old.get(name), new[name])}")
    lines = list(changes.values())
    old_schedule, new_schedule = before["schedule"], here["schedule"]
    names = [name for name in {**old_schedule, **new_schedule} if old_schedule.get(name) != new_schedule.get(name)]
    told = [name for name in names if not name.rpartition(".")[2].startswith("_") and name != "last"]
    if names:
        shown = (
            [_change(old_schedule["class"], new_schedule["class"])]
            if "class" in names
            else [f"{name} {_change(old_schedule.get(name), new_schedule.get(name))}" for name in told]
        )
        lines.append(f"schedule {summarise(shown)}" if shown else "the schedule that the config gives for it")
    if before["optimiser steps"] != here["optimiser steps"]:
        lines.insert(0, f"optimiser steps {_change(before['optimiser steps'], here['optimiser steps'])}")
    return lines


def go_on_with(
    checkpoint: dict[str, Any], optimizer: Optimizer, scheduler: Any, record: Mapping[str, Any]
) -> list[str]:
    """Replace the rates, the other settings and the schedule in a checkpoint by this run's, at the step it reached.

    The optimiser's state stays. If the settings are the same, nothing changes.

    Args:
        checkpoint: Lightning's, before it is loaded; changed in place.
        optimizer: newly made.
        scheduler: newly made; it is stepped to the checkpoint's step.
        record: of optimiser and schedule.

    Returns:
        The changes, each as ``name old → new``.

    Raises:
        CheckpointError: if the state does not fit.
    """
    before = checkpoint.get("training")
    if before is None or not checkpoint.get("optimizer_states"):
        return []
    if problems := training_problems(before, record):
        raise CheckpointError("; ".join(problems))
    changes = training_changes(before, record)
    if not changes or isinstance(scheduler, ReduceLROnPlateau):
        return changes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of steps without the optimiser
        for _ in range(int(checkpoint["global_step"])):
            scheduler.step()
    for stored, group in zip(checkpoint["optimizer_states"][0]["param_groups"], optimizer.param_groups, strict=True):
        stored.update({name: value for name, value in group.items() if name not in ("params", "param_names")})
    checkpoint["lr_schedulers"] = [scheduler.state_dict()]
    return changes


def flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted names, for a checkpoint."""
    return dict(_leaves(settings))


def settings_problems(before: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Which settings have changed but would have no effect in a resumed run; both by dotted names."""
    return [
        f"{name} is {_short(here.get(name))}, in the checkpoint's run it was {_short(before.get(name))}, but only a "
        "new run reads it: give what it was, or start anew with it in place of ckpt_path"
        for name in _ONCE
        if before and before.get(name) != here.get(name)
    ]


def settings_changes(before: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """The differences between two runs' settings by dotted names, each as ``name old → new``."""
    names = [name for name in dict.fromkeys([*before, *here]) if not name.startswith((*_ONCE, *ASIDE))]
    changed = [name for name in names if before.get(name) != here.get(name)] if before else []
    return [f"{name} {_change(before.get(name), here.get(name))}" for name in changed]


def length_problems(step: int, epochs: int, max_epochs: int | None, max_steps: int) -> list[str]:
    """Why a training is already beyond its end; empty if it is not.

    Args:
        step: optimiser steps so far.
        epochs: how many have begun.
        max_epochs: of the trainer; None or -1: no limit.
        max_steps: of the trainer; -1: no limit.
    """
    problems = []
    if max_epochs is not None and -1 < max_epochs < epochs:
        problems.append(f"the checkpoint is in epoch {epochs}, but trainer.max_epochs is {max_epochs}")
    if -1 < max_steps < step:
        problems.append(f"the checkpoint is of step {step}, but trainer.max_steps is {max_steps}")
    return [f"{problem}: give as many or more, or evaluate it with validate" for problem in problems]


def _plain(value: Any, depth: int = 6) -> Any:
    """Turn an object into plain numbers, text, lists and mappings; tensors and what lies deeper become ``…``."""
    plain: Any = "…"
    if value is None or isinstance(value, bool | str):
        plain = value
    elif isinstance(value, int | float):
        plain = int(value) if isinstance(value, int) else float(value)  # from NumPy's types, too
    elif isinstance(value, Tensor | Optimizer) or not depth:
        pass
    elif isinstance(value, Mapping):
        plain = {str(name): _plain(part, depth - 1) for name, part in value.items()}
    elif isinstance(value, Sequence):
        plain = [_plain(part, depth - 1) for part in value]
    elif hasattr(value, "__qualname__"):  # a function or a class
        plain = value.__qualname__
    elif hasattr(value, "__dict__"):
        parts = {name: _plain(part, depth - 1) for name, part in vars(value).items() if name not in _PROGRESS}
        plain = {"class": type(value).__name__, **parts}
    return plain


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            yield from _leaves(part, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _change(old: Any, new: Any) -> str:
    return f"{_short(old)} → {_short(new)}"


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
