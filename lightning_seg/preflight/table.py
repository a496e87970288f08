"""Makes the table of a dry run: what would be trained, on what and how."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from lightning_seg.launching.plan import Plan, plan_rows
from lightning_seg.launching.starters import describe_launch
from lightning_seg.module import SegmentationModule
from lightning_seg.structures import summarise


def describe_loggers(loggers: Any, environment: Mapping[str, str]) -> str:
    """Names of the loggers in the trainer's settings, and whether W&B is online."""
    if loggers is False:
        return "none"
    names = ["metrics.csv"]
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        path = getattr(logger, "class_path", None)
        if path is None:
            continue
        name, options = path.rpartition(".")[2], logger.get("init_args") or {}
        if name == "WandbLogger":
            given = (options.get("dict_kwargs") or {}).get("mode") or (logger.get("dict_kwargs") or {}).get("mode")
            mode = "offline" if options.get("offline") else given or environment.get("WANDB_MODE") or "online"
            name = f"W&B {mode}"
        names.append(name)
    return ", ".join(names)


def print_table(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, title="Dry run: nothing is trained", title_justify="left")
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:  # a file has no width of its own
        console.width = 20 + max(len(name) + len(value) for name, value in rows)
    console.print(table)


def run_rows(
    settings: Any,
    model: SegmentationModule,
    plan: Plan,
    folder: Path,
    resumed_step: int | None,
    writable: bool,
    environment: Mapping[str, str],
) -> list[tuple[str, str]]:
    """The rows about the run: names and values."""
    optimisation = model.optimisation
    optimizer = optimisation.build_optimizer(model.segmentor, optimisation.lr_scale(plan.global_batch))
    rates = sorted({group["lr"] for group in optimizer.param_groups})
    shown = " and ".join(f"{rate:g}" for rate in rates) if len(rates) < 4 else f"{rates[0]:g} to {rates[-1]:g}"
    scaled = f" ({optimisation.describe_lr_scale(plan.global_batch)})" if optimisation.scale_lr else ""
    schedule = "the config's schedule" if optimisation.make_lr_scheduler is None else "model.lr_scheduler"
    goes_on = "new" if resumed_step is None else f"goes on after {resumed_step} steps"
    return [
        ("started by", describe_launch(environment, plan.processes)),
        *plan_rows(plan),
        ("learning rate", f"{shown}{scaled}, {type(optimizer).__name__}, {schedule}"),
        ("precision", str(settings.trainer.precision or "32-true")),
        ("weights", settings.ckpt_path or model.weights or "random"),
        ("run folder", f"{folder}: {goes_on}, {'can be written' if writable else 'not writable'}"),
        ("loggers", describe_loggers(settings.trainer.logger, environment)),
    ]


def model_rows(model: SegmentationModule, class_names: Sequence[str]) -> list[tuple[str, str]]:
    """The rows about the model: names and values."""
    segmentor = model.segmentor
    backbone, head = segmentor.network.backbone, segmentor.network.sem_seg_head
    inner = getattr(backbone, "bottom_up", None)
    on = "" if inner is None else f" on {_name(inner)}"
    loss = "the head's own" if segmentor.criterion is None else _name(segmentor.criterion)
    if segmentor.auxiliary is not None:
        loss += f", and {model.hparams['auxiliary_weight']:g} × that of a head on {model.hparams['auxiliary_stage']}"
    return [
        ("head", f"{_name(head)}, {_millions(head)}"),
        ("backbone", f"{_name(backbone)}{on}, {_millions(backbone)}"),
        ("parameters", _millions(segmentor)),
        ("classes", f"{len(class_names)}: {summarise(class_names)}"),
        ("loss", loss),
        ("inference", _name(model.inference)),
    ]


def _name(part: Any) -> str:
    return str(getattr(part, "__name__", type(part).__name__))


def _millions(part: nn.Module) -> str:
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in part.parameters()]
    total, trained = sum(size for size, _ in sizes), sum(size for size, trains in sizes if trains)
    return f"{total / 1e6:.2f} million" + ("" if trained == total else f", {trained / 1e6:.2f} million trained")
