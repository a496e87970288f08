"""Learning rates by depth against Detectron2's own rule, and on every backbone."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from detectron2.modeling.backbone import SimpleFeaturePyramid, ViT
from detectron2.modeling.backbone.vit import get_vit_lr_decay_rate
from detectron2.solver.build import get_default_optimizer_params
from torch import nn
from torch.optim import lr_scheduler as schedules

from lightning_seg.errors import ConfigError
from lightning_seg.models.backbones.blocks import ABOVE, STEM, blocks_of, places_in
from lightning_seg.models.config import load_config
from lightning_seg.models.rates import Rates, refuse_levelled, split_groups
from lightning_seg.models.solver import SCHEDULES, build_lr_scheduler, build_optimizer
from tests.models.backbones.building import build
from tests.models.networks import BACKBONES, SMALL, ZOO, overrides_of
from tests.training import make

pytestmark = pytest.mark.usefixtures("one_thread")


class Network(nn.Module):
    """Named as Detectron2's are."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.sem_seg_head = nn.Conv2d(4, 3, 1)


def vit_pyramid() -> Network:
    vit = ViT(img_size=64, embed_dim=16, depth=5, num_heads=2, window_size=2, residual_block_indexes=(1, 4))
    return Network(SimpleFeaturePyramid(vit, "last_feat", 8, scale_factors=(4.0, 2.0, 1.0, 0.5), norm="LN"))


def rates_by_parameter(optimizer: torch.optim.Optimizer) -> dict[int, float]:
    return {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}


@pytest.mark.parametrize("settings", [{}, {"weight_decay_norm": 0.0, "bias_lr_factor": 2.0}])
def test_a_vit_has_the_rates_of_detectron2(settings: dict[str, Any]) -> None:
    network = vit_pyramid()
    rule = partial(get_vit_lr_decay_rate, lr_decay_rate=0.7, num_layers=5)
    groups = partial(get_default_optimizer_params, network, base_lr=0.1, weight_decay=0.05, **settings)
    optimizer = torch.optim.AdamW(groups(), lr=0.1)
    split_groups(optimizer, network.backbone, Rates(layer_decay=0.7))
    found = rates_by_parameter(optimizer)
    for name, parameter in network.named_parameters():
        factor = 2 if name.endswith("bias") and "bias_lr_factor" in settings else 1
        assert found[id(parameter)] == pytest.approx(0.1 * factor * rule(name), rel=1e-12), name
    assert len(set(found.values())) == 7 * len({1, settings.get("bias_lr_factor", 1)})  # 5 blocks, stem, all above
    if not settings:
        theirs = torch.optim.AdamW(groups(lr_factor_func=rule), lr=0.1)
        assert found == rates_by_parameter(theirs)


@pytest.mark.parametrize("name", BACKBONES)
def test_places_of_every_backbone(name: str) -> None:
    backbone = build({**SMALL, **BACKBONES[name][0]})
    places, blocks = places_in(backbone), blocks_of(backbone)
    assert list(places) == [name for name, _ in backbone.named_parameters()]
    for block, module in blocks.items():
        assert {places[f"{block}.{inner}"] for inner, _ in module.named_parameters()} <= {block}
    first = next(iter(blocks))
    outside = {name: place for name, place in places.items() if not any(name.startswith(f"{one}.") for one in blocks)}
    stem = [name for name in outside if any(part in name for part in ("stem", "patch_embed", "pos_embed", "conv1"))]
    assert stem
    between = re.compile(r"\.downsample\.|stages\.[1-9]")  # a stage may begin with a smaller image of the one before
    assert {outside[name] for name in stem if not between.search(name)} == {STEM}
    assert all(place in blocks for name, place in outside.items() if ".downsample." in name)
    pyramid = [name for name in outside if name.startswith(("fpn_", "simfp_", "top_block"))]
    assert bool(pyramid) == ("FPN" in name or "pyramid" in name)
    assert {outside[name] for name in pyramid} <= {ABOVE}
    factors = Rates(layer_decay=0.5).factors(backbone)
    assert list(factors) == [STEM, *blocks, ABOVE]
    assert factors[first] == 0.5 ** len(blocks)


def small() -> tuple[Any, nn.Module]:
    backbone = nn.ModuleDict(
        {"stem": nn.Conv2d(3, 4, 1), "blocks": nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(3))}
    )
    return load_config(ZOO, {"SOLVER.BASE_LR": 0.4, "SOLVER.WARMUP_ITERS": 3, "SOLVER.MAX_ITER": 20}), Network(backbone)


def test_without_factors_the_optimiser_stays_as_it_is() -> None:
    cfg, network = small()
    optimizer = build_optimizer(cfg, network)
    before, groups = optimizer.state_dict(), list(optimizer.param_groups)
    split_groups(optimizer, network.backbone, Rates())
    assert optimizer.state_dict() == before
    assert all(found is group for found, group in zip(optimizer.param_groups, groups, strict=True))


def test_groups_are_named_and_keep_their_settings() -> None:
    _, network = small()
    head = list(network.sem_seg_head.named_parameters())
    stem = list(network.backbone["stem"].named_parameters())
    optimizer = torch.optim.SGD(
        [
            {"params": [head[0], stem[0]], "weight_decay": 0.3},
            {"params": [head[1], stem[1]], "momentum": 0.5, "lr": 0.8},
        ],
        lr=0.4,
    )
    split_groups(optimizer, network.backbone, Rates(backbone=0.1))
    described = [
        (group["name"], group["param_names"], group["lr"], group["weight_decay"], group["momentum"])
        for group in optimizer.param_groups
    ]
    assert described == [
        ("backbone", ["weight"], 0.4 * 0.1, 0.3, 0.0),
        ("head", ["weight"], 0.4, 0.3, 0.0),
        ("backbone_1", ["bias"], 0.8 * 0.1, 0, 0.5),
        ("head_1", ["bias"], 0.8, 0, 0.5),
    ]
    assert [id(parameter) for group in optimizer.param_groups for parameter in group["params"]] == [
        id(parameter) for pair in zip(stem, head, strict=True) for _, parameter in pair
    ]


def test_mask2former_decays_as_published() -> None:
    """Its rule is of modules; the names below are written by hand."""
    spared_here = re.compile(
        r"norm|\.(queries_\w+|level_embed)\.weight$|\.relative_position_bias_table$"
        r"|pixel_decoder\.(input_projections\.\d|adapter_\d|layer_\d)\.1\."
    )
    overrides = overrides_of("swin", "Mask2FormerHead")
    adamw = partial(torch.optim.AdamW, lr=1.0, weight_decay=0.05)
    module = make(overrides, decay_norms=False, backbone_lr_factor=0.1, optimizer=adamw)
    optimizer = module.optimisation.build_optimizer(module.segmentor)
    group_of = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    names = {"backbone": 0, "backbone_undecayed": 0, "head": 0, "head_undecayed": 0}
    assert [group["name"] for group in optimizer.param_groups] == list(names)
    for name, parameter in module.segmentor.network.named_parameters():
        group = group_of[id(parameter)]
        assert group["weight_decay"] == (0 if spared_here.search(name) else 0.05), name
        assert group["lr"] == (0.1 if name.startswith("backbone") else 1)
        assert group["name"].startswith("backbone" if name.startswith("backbone") else "head")
        names[group["name"]] += 1
    assert all(names.values())


def test_the_configs_own_optimiser_spares_the_same() -> None:
    """``decay_norms`` by itself changes no rate."""
    _, network = small()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.4, weight_decay=0.3)
    spared = {network.sem_seg_head.bias}
    split_groups(optimizer, network.backbone, Rates(decay_norms=False), spared)
    assert [(group["name"], group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [
        ("backbone", 0.4, 0.3), ("head", 0.4, 0.3), ("head_undecayed", 0.4, 0.0),
    ]  # fmt: skip


def test_an_optimiser_without_decay_is_refused() -> None:
    _, network = small()
    optimizer, spared = torch.optim.Rprop(network.parameters()), {network.sem_seg_head.bias}
    with pytest.raises(ConfigError, match=r"decay_norms is False, but Rprop has no weight_decay to spare them from"):
        split_groups(optimizer, network.backbone, Rates(decay_norms=False), spared)


TORCHS: dict[str, Callable[[Any], Any]] = {
    "CosineAnnealingLR": lambda optimizer: schedules.CosineAnnealingLR(optimizer, 20),
    "PolynomialLR": lambda optimizer: schedules.PolynomialLR(optimizer, 20),
    "SequentialLR": lambda optimizer: schedules.SequentialLR(
        optimizer, [schedules.LinearLR(optimizer, 0.1), schedules.StepLR(optimizer, 4)], milestones=[5]
    ),
    "LambdaLR": lambda optimizer: schedules.LambdaLR(optimizer, lambda step: step / 20),
}


@pytest.mark.parametrize("name", [*SCHEDULES, *TORCHS])
def test_schedules_keep_the_ratios(name: str) -> None:
    cfg, network = small()
    cfg.SOLVER.LR_SCHEDULER_NAME = name
    optimizer = build_optimizer(cfg, network)
    split_groups(optimizer, network.backbone, Rates(backbone=0.1, layer_decay=0.5))
    before = [group["lr"] for group in optimizer.param_groups]
    assert [rate / 0.4 for rate in before] == pytest.approx([0.1 * 0.5**4, *(0.1 * 0.5**k for k in (3, 2, 1)), 1.0])
    scheduler = TORCHS[name](optimizer) if name in TORCHS else build_lr_scheduler(cfg, optimizer, 20)
    refuse_levelled(scheduler, before)
    seen = set()
    for _ in range(19):
        optimizer.step()
        found = [group["lr"] for group in optimizer.param_groups]
        assert found == pytest.approx([rate * found[-1] / before[-1] for rate in before], rel=1e-9)
        seen.add(round(found[-1], 9))
        scheduler.step()
    assert len(seen) > 3


def test_a_schedule_that_levels_the_rates_is_refused() -> None:
    cfg, network = small()
    optimizer = build_optimizer(cfg, network)
    split_groups(optimizer, network.backbone, Rates(backbone=0.1))
    before = [group["lr"] for group in optimizer.param_groups]
    with pytest.raises(ConfigError, match=r"OneCycleLR sets the rate of every parameter group itself"):
        refuse_levelled(schedules.OneCycleLR(optimizer, max_lr=0.1, total_steps=5), before)


@pytest.mark.parametrize(
    ("backbone", "decay", "message"),
    [
        (0, 1, r"backbone_lr_factor is 0, but must be above 0.*FREEZE_AT"),
        (float("nan"), 1, "backbone_lr_factor is nan"),
        (1, 0, r"layer_decay is 0, but must be above 0 and at most 1"),
        (1, 1.1, r"layer_decay is 1\.1"),
    ],
)
def test_factors_out_of_range_are_refused(backbone: float, decay: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Rates(backbone, decay)


def test_a_backbone_without_blocks_has_no_layer_decay() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 1))
    assert Rates(backbone=0.1).factors(plain) == {ABOVE: 0.1}
    with pytest.raises(ConfigError, match=r"model\.layer_decay needs blocks: Sequential has no modules named"):
        Rates(layer_decay=0.9).factors(plain)
