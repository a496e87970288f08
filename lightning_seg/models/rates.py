"""Lets learning rates differ by depth, and weight decay between norms and other layers."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_seg.errors import ConfigError
from lightning_seg.models.backbones.blocks import ABOVE, STEM, blocks_of, places_in

_HEAD = "head"

_POSITIONS = ("relative_position_bias_table", "absolute_pos_embed")
"""Tables of positions, which Mask2Former's own project spares from decay."""

_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)
"""The classes that Detectron2's ``get_default_optimizer_params`` takes for norms."""

_PER_PARAMETER = ("params", "param_names")
"""Entries of torch's parameter groups that are lists with an item for each parameter."""


@dataclass(frozen=True)
class Rates:
    """Factors for learning rates, and what decays.

    Args:
        backbone: for all of Detectron2's backbone, which includes a feature pyramid.
        layer_decay: the factor from one block to the one before it. With n blocks, the i-th (from 1) has the factor
            ``layer_decay ** (n + 1 - i)``. What comes before the first block has that of i = 0, what comes after the
            last block has 1. This is the rule of ``get_vit_lr_decay_rate`` in ``detectron2/modeling/backbone/vit.py``.
        decay_norms: whether weight decay also holds for what :func:`undecayed` names.

    Raises:
        ConfigError: if a factor is out of its range.
    """

    backbone: float = 1.0
    layer_decay: float = 1.0
    decay_norms: bool = True

    def __post_init__(self) -> None:
        if not self.backbone > 0:
            raise ConfigError(
                f"model.backbone_lr_factor is {self.backbone:g}, but must be above 0: to keep stages as they are, set "
                "MODEL.BACKBONE.FREEZE_AT"
            )
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(
                f"model.layer_decay is {self.layer_decay:g}, but must be above 0 and at most 1 (ViTs: 0.65 to 0.9)"
            )

    @property
    def differ(self) -> bool:
        return self != Rates()

    def factors(self, backbone: nn.Module) -> dict[str, float]:
        """The factor of each place of a backbone, from the image on, see :func:`places_in`.

        Raises:
            ConfigError: if there is a decay, but the backbone has no blocks.
        """
        if self.layer_decay == 1:
            return {ABOVE: self.backbone}
        try:
            places = [STEM, *blocks_of(backbone), ABOVE]
        except ConfigError as error:
            raise ConfigError(f"model.layer_decay needs blocks: {error}") from error
        return {
            place: self.backbone * self.layer_decay ** (len(places) - 1 - depth) for depth, place in enumerate(places)
        }


def undecayed(network: nn.Module) -> set[nn.Parameter]:
    """Parameters that Mask2Former's own project spares from weight decay: of norms, embeddings and tables of positions.

    Its rule is in ``train_net.py``. Norms are those of Detectron2's ``get_default_optimizer_params``.
    """
    return {
        parameter
        for module in network.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, (*_NORMS, nn.Embedding)) or name in _POSITIONS
    }


def split_groups(
    optimizer: Optimizer, backbone: nn.Module, rates: Rates, spared: Collection[nn.Parameter] = ()
) -> None:
    """Split an optimiser's parameter groups by the places of the backbone and multiply their rates, in place.

    All other settings of a group stay. Each part is named (``name``) after its place, and gets the number of its former
    group unless that was the first. If all factors are 1 and all decays, nothing changes.

    Args:
        optimizer: newly made.
        backbone: of the network whose parameters it has.
        rates: factors by place.
        spared: parameters without weight decay, which have groups of their own.

    Raises:
        ConfigError: if there are such, but the optimiser has no weight decay.
    """
    if not rates.differ:
        return
    if spared and not all("weight_decay" in group for group in optimizer.param_groups):
        raise ConfigError(
            f"model.decay_norms is False, but {type(optimizer).__name__} has no weight_decay to spare them from: leave "
            "it out, or choose another optimiser"
        )
    factors = rates.factors(backbone)
    places = places_in(backbone) if rates.layer_decay < 1 else {}
    place_of = {parameter: places.get(name, ABOVE) for name, parameter in backbone.named_parameters()}
    split: list[dict[str, Any]] = []
    for number, group in enumerate(optimizer.param_groups):
        members: dict[tuple[str, bool], list[int]] = {}
        for index, parameter in enumerate(group["params"]):
            members.setdefault((place_of.get(parameter, _HEAD), parameter in spared), []).append(index)
        places_here = [(place, spare) for place in (*factors, _HEAD) for spare in (False, True)]
        for place, spare in [one for one in places_here if one in members]:
            part = {key: [group[key][i] for i in members[place, spare]] for key in _PER_PARAMETER if key in group}
            part |= {"weight_decay": 0.0} if spare else {}
            name = f"{place}_undecayed" if spare else place
            name = f"{name}_{number}" if number else name
            split.append({**group, **part, "lr": group["lr"] * factors.get(place, 1.0), "name": name})
    optimizer.param_groups[:] = split


def refuse_levelled(scheduler: LRScheduler, before: list[float]) -> None:
    """Refuse a schedule that sets every group's rate by itself, as ``OneCycleLR`` does with one ``max_lr``.

    Args:
        scheduler: newly made.
        before: the groups' rates before it was made.

    Raises:
        ConfigError: if the ratios of the rates have changed.
    """
    after = [group["lr"] for group in scheduler.optimizer.param_groups]
    largest = max(range(len(before)), key=before.__getitem__)
    products = [(rate * before[largest], old * after[largest]) for rate, old in zip(after, before, strict=True)]
    if any(abs(found - wanted) > 1e-6 * abs(wanted) for found, wanted in products):
        raise ConfigError(
            f"model.lr_scheduler: {type(scheduler).__name__} sets the rate of every parameter group itself, and so "
            "undoes model.backbone_lr_factor and model.layer_decay: choose one that multiplies rates"
        )
