"""Blocks that are recomputed in the backward pass train as those that are not, to the bit, in less memory."""

import io
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from lightning_seg.errors import ConfigError
from lightning_seg.models.backbones.blocks import blocks_of
from lightning_seg.models.recipe import load_recipe
from lightning_seg.models.recompute import recompute_blocks
from lightning_seg.models.segmentor import Segmentor
from tests.models.memory import saved_bytes
from tests.models.networks import BACKBONES, SMALL, ZOO
from tests.models.samples import IGNORE, make_batch

pytestmark = pytest.mark.usefixtures("one_thread")

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "BatchNorm": ("resnet18 FPN", {}),
    "Detectron2's SyncBN of several processes": ("resnet18 FPN", {"MODEL.RESNETS.NORM": "naiveSyncBN"}),
    "two frozen stages": ("resnet18 FPN", {"MODEL.BACKBONE.FREEZE_AT": 3}),
    "timm's norms with an activation": ("timm efficientnet", {}),
    "timm convnext, drop path": ("timm convnext", {"MODEL.TIMM.DROP_PATH_RATE": 0.5}),
    "ViT, drop path": ("vit pyramid", {"MODEL.VIT.DROP_PATH_RATE": 0.5, "MODEL.VIT.DEPTH": 8}),
    "Swin, drop path": ("swin FPN", {"MODEL.SWIN.DROP_PATH_RATE": 0.5}),
}


def build(name: str, *, recomputed: bool) -> Segmentor:
    backbone, settings = NETWORKS[name]
    overrides, levels = BACKBONES[backbone]
    coarsest = max(levels, key=lambda level: levels[level])
    torch.manual_seed(0)
    segmentor = Segmentor(
        load_recipe(
            ZOO,
            {
                **SMALL,
                **overrides,
                "MODEL.SEM_SEG_HEAD.IN_FEATURES": [coarsest],
                "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": levels[coarsest],
                **settings,
            },
        ),
        num_classes=5,
        ignore_index=IGNORE,
        activation_checkpointing=recomputed,
    )
    return segmentor.train()


def train(segmentor: Segmentor) -> list[torch.Tensor]:
    """Losses and gradients of three steps, then everything that a checkpoint holds."""
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(segmentor.parameters(), lr=0.01, momentum=0.9)
    found = []
    for step in range(3):
        loss = torch.stack(list(segmentor.losses(make_batch([(64, 96), (64, 96)], seed=step)).values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        found += [loss.detach(), *(p.grad.clone() for p in segmentor.parameters() if p.grad is not None)]
    return found + [tensor.clone() for tensor in segmentor.state_dict().values()]


@pytest.mark.parametrize("name", NETWORKS)
def test_trains_to_the_same_bits(name: str) -> None:
    plain, recomputed = build(name, recomputed=False), build(name, recomputed=True)
    assert list(recomputed.state_dict()) == list(plain.state_dict())
    expected, found = train(plain), train(recomputed)
    assert len(found) == len(expected)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", ["BatchNorm", "timm convnext, drop path", "ViT, drop path"])
def test_keeps_less(name: str) -> None:
    found, expected = (saved_bytes(build(name, recomputed=recomputed)) for recomputed in (True, False))
    assert found < 0.6 * expected


def test_copies_and_pickles_recompute_their_own_blocks() -> None:
    segmentor = build("BatchNorm", recomputed=True)
    file = io.BytesIO()
    torch.save(segmentor.network.backbone, file)
    file.seek(0)
    copies = [deepcopy(segmentor).network.backbone, torch.load(file, weights_only=False)]
    averaged = torch.optim.swa_utils.AveragedModel(segmentor).module.network.backbone
    image = torch.rand(1, 3, 64, 64)
    expected = segmentor.network.backbone(image)["p2"]
    for backbone in [*copies, averaged]:
        backbone.train()
        assert torch.equal(backbone(image)["p2"], expected)
        blocks = list(blocks_of(backbone).values())
        assert all(block.forward.block is block for block in blocks)
        with torch.no_grad():
            blocks[0].conv1.weight.zero_()
        assert not torch.equal(backbone(image)["p2"], expected)
    assert torch.equal(segmentor.network.backbone(image)["p2"], expected)


def test_evaluation_recomputes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("lightning_seg.models.recompute.checkpoint", refuse)
    segmentor = build("BatchNorm", recomputed=True)
    segmentor.eval().evaluate(make_batch([(64, 96)]))
    with torch.no_grad():
        segmentor.train().losses(make_batch([(64, 96), (64, 96)]))


def test_a_backbone_without_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="no modules named as blocks are"):
        recompute_blocks(nn.Sequential(nn.Conv2d(3, 4, 1)))
