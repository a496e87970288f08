"""Reports which tensors of a file were loaded into a network, and refuses a file that does not fit."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lightning_seg.errors import CheckpointError
from lightning_seg.models.weights.bands import Adapted
from lightning_seg.models.weights.keys import ConfigKeys
from lightning_seg.structures import summarise

Shape = tuple[int, ...]

BACKBONE = "backbone."
"""The prefix of the backbone's tensors in every Detectron2 network."""

_NEW_IN_BACKBONE = ("fpn_lateral", "fpn_output", "top_block", "simfp_")
"""Parts that FPN and SimpleFeaturePyramid add to a backbone; ImageNet weights lack them."""


@dataclass(frozen=True)
class Reshaped:
    """A tensor that was not loaded, because it has another shape in the file."""

    name: str
    stored: Shape
    here: Shape

    def __str__(self) -> str:
        return f"{self.name} is {self.stored} in the file, {self.here} here"


@dataclass(frozen=True)
class WeightsReport:
    """The result of loading weights. BatchNorm's counters, which nothing here uses, are left out.

    Attributes:
        source: what the user gave.
        matched: the network's tensors that were loaded.
        missing: the network's tensors that the file does not have.
        unexpected: the file's tensors that the network does not have, by the file's names after translation.
        reshaped: the network's tensors that have another shape in the file.
        beside: for each part beside the network, such as the auxiliary head, whether it was loaded, in words.
        class_names: the classes that the file names; None if it names none.
        adapted: the loaded tensors that were made of weights for RGB images.
        licence: of the weights, or of those that their training began with; None if unknown.
    """

    source: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[Reshaped, ...]
    beside: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    adapted: tuple[Adapted, ...] = ()
    licence: str | None = None

    def __str__(self) -> str:
        total = len(self.matched) + len(self.missing) + len(self.reshaped)
        lines = [f"weights {self.source}: {len(self.matched)} of {total} tensors loaded"]
        if self.reshaped:
            lines.append(f"of another shape, left random: {summarise(self.reshaped, 3)}")
        if self.missing:
            whole = self.is_bare_backbone and not self.reshaped and not any(map(_is_in_backbones, self.missing))
            why = "the backbone is whole; new beside it, and so" if whole else "not in the file,"
            lines.append(f"{why} left random: {summarise(self.missing, 3)}")
        if self.unexpected:
            lines.append(f"in the file, not used: {summarise(self.unexpected, 3)}")
        if self.licence:
            lines.append(f"their licence: {self.licence}")
        return "\n  ".join([*lines, *map(str, self.adapted), *self.beside])

    @property
    def is_bare_backbone(self) -> bool:
        """Whether nothing in the file belongs to another part of this network."""
        present = (*self.matched, *(one.name for one in self.reshaped))
        return all(name.startswith(BACKBONE) for name in present)


def refuse_misfit(
    report: WeightsReport, network: Sequence[str], *, fresh_head: bool, allow_missing: Sequence[str], keys: ConfigKeys
) -> None:
    """Refuse weights that lack tensors which their kind should have.

    A file that has anything outside the backbone is a whole model, and must have every tensor. A bare backbone must
    have the whole backbone, except for the parts that FPN or SimpleFeaturePyramid add.

    Args:
        report: of the comparison.
        network: all names, in the order of the modules.
        fresh_head: whether a head for other classes may stay random.
        allow_missing: beginnings of names that may stay random.
        keys: of the network's config.

    Raises:
        CheckpointError: names the tensors, their shapes and the setting that allows them.
    """
    if not report.matched:
        raise CheckpointError(
            f"nothing in {report.source} fits this network, which has tensors such as {summarise(network, 3)}; "
            f"the file has {summarise([*report.unexpected, *report.reshaped], 3)}: choose weights of this architecture"
        )
    allowed = tuple(allow_missing)
    reshaped = [one for one in report.reshaped if not one.name.startswith(allowed)]
    head = class_head(reshaped, network)
    others = [one for one in reshaped if one not in head]
    whole = not report.is_bare_backbone
    missing = [name for name in report.missing if not name.startswith(allowed) and (whole or _is_in_backbones(name))]
    if missing or others:
        _refuse(report.source, missing, others, "a whole model" if whole else "a bare backbone", keys)
    if head and not fresh_head:
        raise CheckpointError(
            f"{report.source} has a head for other classes: {summarise(head)}. To train a new head on the other "
            "weights, set model.fresh_head: true (--model.fresh_head true)"
        )


def class_head(reshaped: Collection[Reshaped], network: Sequence[str]) -> list[Reshaped]:
    """The tensors whose shape differs because the number of classes does.

    The last module outside the backbone predicts the classes: its first dimension is their number. Its tensors belong
    to them, and so do other tensors outside the backbone that differ by the same number: PointRend's coarse head, and
    layers that read its logits.
    """
    outside = [name for name in network if not name.startswith(BACKBONE)]
    last = outside[-1].rpartition(".")[0] if outside else ""
    changes = {
        one.here[0] - one.stored[0]
        for one in reshaped
        if one.name.rpartition(".")[0] == last and one.here and one.stored
    } - {0}
    if len(changes) != 1:
        return []
    allowed = {0, *changes}
    return [
        one
        for one in reshaped
        if not one.name.startswith(BACKBONE)
        and len(one.here) == len(one.stored)
        and {here - stored for here, stored in zip(one.here, one.stored, strict=True)} <= allowed
    ]


def _refuse(source: str, missing: Sequence[str], reshaped: Sequence[Reshaped], kind: str, keys: ConfigKeys) -> None:
    reasons = []
    if missing:
        reasons.append(f"{len(missing)} tensors of this network are not in it: {summarise(missing, 3)}")
    if reshaped:
        reasons.append(f"{len(reshaped)} are of another shape: {summarise(reshaped, 3)}")
    names = [*missing, *(one.name for one in reshaped)]
    prefixes = list(dict.fromkeys(".".join(name.split(".")[: _depth(names)]) for name in names))
    hint = ""
    if missing and all(name.endswith(("running_mean", "running_var")) for name in missing):
        hint = f"its batch norms are fused into factors, so set {keys.norms} FrozenBN in model.overrides; "
    raise CheckpointError(
        f"{source} is {kind} that does not fit: {'; '.join(reasons)}. Choose weights of this architecture; {hint}"
        f"to leave these tensors random all the same, set model.allow_missing: [{summarise(prefixes, 4)}]"
    )


def _depth(names: Sequence[str]) -> int:
    """How many parts of a name a prefix should have: the most, up to three, that give at most four prefixes."""
    counts = {depth: len({".".join(name.split(".")[:depth]) for name in names}) for depth in (3, 2, 1)}
    return next((depth for depth, count in counts.items() if count <= 4), 1)


def _is_in_backbones(name: str) -> bool:
    """Whether weights of a backbone alone have a tensor of this name."""
    return name.startswith(BACKBONE) and not any(part.startswith(_NEW_IN_BACKBONE) for part in name.split("."))
