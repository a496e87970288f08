"""Losses and logits against Detectron2's own model, to the bit."""

from typing import Any

import pytest
import torch

from lightning_seg.errors import ConfigError
from lightning_seg.models.config import load_config
from lightning_seg.models.segmentor import Segmentor
from tests.conftest import TINY_OVERRIDES

ZOO = "Misc/semantic_R_50_FPN_1x.yaml"
IGNORE = 255


def make_batch(sizes: list[tuple[int, int]], num_classes: int = 5, seed: int = 0) -> list[dict[str, Any]]:
    """RGB samples of the given sizes with some ignored pixels."""
    generator = torch.Generator().manual_seed(seed)
    batch = []
    for height, width in sizes:
        mask = torch.randint(0, num_classes + 1, (height, width), generator=generator)
        mask[mask == num_classes] = IGNORE
        image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
        batch.append({"image": image, "sem_seg": mask.to(torch.uint8), "height": height, "width": width})
    return batch


def as_detectron2(batch: list[dict[str, Any]], image_format: str) -> list[dict[str, Any]]:
    flip = image_format == "BGR"
    return [
        {**sample, "image": sample["image"].flip(0) if flip else sample["image"], "sem_seg": sample["sem_seg"].long()}
        for sample in batch
    ]


def pair(overrides: dict[str, Any], num_classes: int = 5) -> tuple[Segmentor, Any, Any]:
    """Our segmentor and Detectron2's model with the same weights, and Detectron2's config."""
    from detectron2.modeling import build_model

    cfg = load_config(ZOO, overrides)
    torch.manual_seed(0)
    ours = Segmentor(cfg, num_classes=num_classes, ignore_index=IGNORE)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = num_classes
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = IGNORE
    cfg.MODEL.DEVICE = "cpu"
    theirs = build_model(cfg)
    theirs.load_state_dict(ours.network.state_dict())
    return ours, theirs, cfg


@pytest.mark.parametrize(
    "overrides",
    [
        TINY_OVERRIDES,
        {**TINY_OVERRIDES, "MODEL.RESNETS.DEPTH": 34, "INPUT.FORMAT": "RGB", "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT": 0.5},
        {"MODEL.PIXEL_STD": [57.0, 58.0, 59.0]},  # ResNet-50 as the model zoo has it
        {"MODEL.RESNETS.DEPTH": 101},
    ],
)
def test_training_losses_are_detectron2s(overrides: dict[str, Any]) -> None:
    ours, theirs, cfg = pair(overrides)
    batch = make_batch([(64, 96), (50, 71)])
    expected = theirs.train()(as_detectron2(batch, cfg.INPUT.FORMAT))
    found = ours.train().losses(batch)
    assert found.keys() == expected.keys()
    for name in expected:
        assert torch.equal(found[name], expected[name])


def test_evaluation_gives_detectron2s_logits_and_losses() -> None:
    ours, theirs, cfg = pair(TINY_OVERRIDES)
    batch = make_batch([(50, 71)])
    ours.eval()
    theirs.eval()
    with torch.no_grad():
        output = ours.evaluate(batch)
        expected = theirs(as_detectron2(batch, cfg.INPUT.FORMAT))[0]["sem_seg"]
        upsampled = torch.nn.functional.interpolate(
            output.logits, scale_factor=output.stride, mode="bilinear", align_corners=False
        )
    assert torch.equal(upsampled[0, :, :50, :71], expected)
    assert output.input_sizes == [(50, 71)]
    # The same batch in training mode differs only by batch statistics: freeze them to compare.
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    theirs.training = theirs.sem_seg_head.training = True
    losses = theirs(as_detectron2(batch, cfg.INPUT.FORMAT))
    assert torch.equal(output.losses["loss_sem_seg"], losses["loss_sem_seg"].detach())


def test_batch_without_any_label_does_no_harm() -> None:
    ours, _, _ = pair(TINY_OVERRIDES)
    batch = make_batch([(64, 64), (64, 64)])
    for sample in batch:
        sample["sem_seg"].fill_(IGNORE)
    losses = ours.train().losses(batch)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert total.item() == 0
    gradients = [parameter.grad for parameter in ours.parameters() if parameter.grad is not None]
    assert gradients
    assert all((gradient == 0).all() for gradient in gradients)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"MODEL.RESNETS.DEPTH": 18}, r"MODEL\.RESNETS\.DEPTH 18 needs MODEL\.RESNETS\.RES2_OUT_CHANNELS 64"),
        ({"MODEL.META_ARCHITECTURE": "PanopticFPN"}, "SemanticSegmentor is needed"),
        ({"INPUT.FORMAT": "YUV-BT.601"}, "RGB or BGR is needed"),
        ({"MODEL.BACKBONE.NAME": "build_nothing"}, "Detectron2 refuses this model: KeyError"),
        ({"MODEL.RESNETS.DEPTH": 51}, "Detectron2 refuses this model: KeyError: 51"),
    ],
)
def test_refuses_models_that_cannot_work(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Segmentor(load_config(ZOO, overrides), num_classes=5, ignore_index=IGNORE)
