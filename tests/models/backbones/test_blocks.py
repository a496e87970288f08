"""The blocks of every backbone are found by their names."""

from typing import Any

import pytest
from torch import nn

from lightning_seg.errors import ConfigError
from lightning_seg.models.backbones.blocks import blocks_of
from lightning_seg.models.recipe import load_recipe
from tests.models.networks import BACKBONES, SMALL, ZOO

_FEWEST = 2


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_has_blocks(name: str) -> None:
    overrides, levels = BACKBONES[name]
    coarsest = max(levels, key=lambda level: levels[level])
    settings: dict[str, Any] = {
        **SMALL,
        **overrides,
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": [coarsest],
        "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": levels[coarsest],
    }
    network = load_recipe(ZOO, settings).build_network(num_classes=3, ignore_index=255)
    blocks = blocks_of(network.backbone)
    assert len(blocks) >= _FEWEST
    parameters = [parameter for block in blocks.values() for parameter in block.parameters()]
    assert len(parameters) == len({id(parameter) for parameter in parameters}), "blocks overlap"


def test_a_backbone_without_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Sequential has no modules named as blocks are.*blocks\.0"):
        blocks_of(nn.Sequential(nn.Conv2d(3, 4, 1)))
