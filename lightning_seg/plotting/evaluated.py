"""Reads the counts of each image that evaluations wrote, and refuses to compare those of different data."""

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightning_seg.errors import ConfigError
from lightning_seg.metrics import comparison as statistics
from lightning_seg.metrics.comparison import Totals
from lightning_seg.metrics.functional import AbsentClasses
from lightning_seg.plotting.runs import Run

_COUNTS_AT_ONCE = 2**22


@dataclass(frozen=True)
class Evaluated:
    """What ``images.npz`` of a run says: names of N images and K classes, and totals (N, K)."""

    run: Run
    names: list[str]
    class_names: list[str]
    totals: Totals

    @property
    def absent_classes(self) -> AbsentClasses:
        """The averaging rule of the evaluation."""
        rule: AbsentClasses = self.run.metrics.get("absent_classes", "detectron2")
        return rule


def read_evaluated(run: Run) -> Evaluated:
    """Read ``images.npz``; never are all its matrices in memory.

    Raises:
        ConfigError: if it is missing, damaged, or of another evaluation than ``metrics.json``.
    """
    file = run.folder / "images.npz"
    if not file.is_file():
        raise ConfigError(f"{run.folder} has no images.npz: run `train.py validate` or `test` with its checkpoint")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            names, classes = arrays["names"].tolist(), arrays["class_names"].tolist()
        totals = _read_totals(file)
        if totals.true.shape[1] != len(classes):
            raise ValueError(f"{len(classes)} names of {totals.true.shape[1]} classes")
    except Exception as error:  # a damaged archive raises what it likes, such as zlib.error
        raise ConfigError(f"{file} is not the images.npz of a run ({type(error).__name__}: {error})") from None
    counts = torch.tensor(run.metrics["confusion_matrix"])
    expected = (counts.diagonal(), counts.sum(1), counts.sum(0))
    sums = (totals.hits.sum(0), totals.true.sum(0), totals.predicted.sum(0))
    if len(names) != len(totals.true) or not all(map(torch.equal, sums, expected)):
        raise ConfigError(f"{file} and metrics.json beside it are of different evaluations: evaluate the run again")
    return Evaluated(run, names, classes, totals)


def _read_totals(file: Path) -> Totals:
    with zipfile.ZipFile(file) as archive, archive.open("matrices.npy") as member:
        np.lib.format.read_magic(member)
        (images, classes, same), by_columns, kind = np.lib.format.read_array_header_1_0(member)
        if classes != same or by_columns or kind.kind not in "iu":
            raise ValueError(f"matrices of {images} × {classes} × {same} values of kind {kind}")
        step = max(1, _COUNTS_AT_ONCE // classes**2)
        parts = [Totals.of_matrices(torch.zeros(0, classes, classes, dtype=torch.int64))]
        for first in range(0, images, step):
            some = min(step, images - first)
            read = np.frombuffer(member.read(some * classes**2 * kind.itemsize), kind)
            matrices = read.reshape(some, classes, classes).astype(np.int64)
            parts.append(Totals.of_matrices(torch.from_numpy(matrices)))
    return Totals(*(torch.cat([getattr(part, name) for part in parts]) for name in ("hits", "true", "predicted")))


def aligned(first: Evaluated, other: Evaluated) -> Evaluated:
    """The other evaluation in the order of the first one's images.

    Raises:
        ConfigError: if they are not of the same data: the message names the image, the class and the counts.
    """
    both = f"{first.run.name} and {other.run.name} cannot be compared"
    if first.class_names != other.class_names:
        raise ConfigError(f"{both}: their classes are {first.class_names} and {other.class_names}")
    if first.absent_classes != other.absent_classes:
        raise ConfigError(f"{both}: model.absent_classes is {first.absent_classes} and {other.absent_classes}")
    for one, another in ((first, other), (other, first)):
        if lacking := sorted(set(one.names) - set(another.names)):
            raise ConfigError(
                f"{both}: {len(lacking)} images of {one.run.name}, such as {lacking[0]}, are not in "
                f"{another.run.name}: evaluate both on the same split, without limits"
            )
    if first.names != other.names:
        if len(set(first.names)) < len(first.names):
            raise ConfigError(f"{both}: several images have one name, and their order differs")
        places = {name: place for place, name in enumerate(other.names)}
        order = torch.tensor([places[name] for name in first.names])
        moved = Totals(*(part[order] for part in (other.totals.hits, other.totals.true, other.totals.predicted)))
        other = Evaluated(other.run, first.names, other.class_names, moved)
    differing = (first.totals.true != other.totals.true).nonzero()
    if len(differing):
        image, index = differing[0].tolist()
        counts = (first.totals.true[image, index].item(), other.totals.true[image, index].item())
        raise ConfigError(
            f"{both}: {first.names[image]} has {counts[0]} true pixels of {first.class_names[index]} in the one and "
            f"{counts[1]} in the other, and {len(set(differing[:, 0].tolist()))} images differ so: evaluate both with "
            "the same masks, data.label_map and data.ignore_index"
        )
    return other


def units_of(names: Sequence[str], group_by: str | None) -> tuple[Tensor, int]:
    """The unit of each image, (N,) int64, and how many there are: its scene, or the image itself.

    Raises:
        ConfigError: if the regular expression is none, or does not find enough scenes.
    """
    if group_by is None:
        return torch.arange(len(names)), len(names)
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise ConfigError(f"--group_by {group_by!r} is no regular expression: {error}") from None
    examples = ", ".join(names[:3])
    if not pattern.groups:
        raise ConfigError(f"--group_by {group_by!r} has no group (…) that names the scene; images are {examples}")
    found = [pattern.search(name) for name in names]
    scenes = [None if match is None else match[1] for match in found]
    if None in scenes:
        lacking = [name for name, scene in zip(names, scenes, strict=True) if scene is None]
        raise ConfigError(
            f"--group_by {group_by!r} finds no scene in {len(lacking)} of {len(names)} images, such as "
            f"{', '.join(lacking[:3])}"
        )
    numbers = {scene: number for number, scene in enumerate(dict.fromkeys(scenes))}
    if len(numbers) < statistics.MIN_UNITS:
        raise ConfigError(
            f"--group_by {group_by!r} finds {len(numbers)} scenes ({', '.join(map(str, numbers))}) in {examples}, …: "
            f"an interval needs at least {statistics.MIN_UNITS}"
        )
    return torch.tensor([numbers[scene] for scene in scenes]), len(numbers)
