"""What the heads of this project promise beyond the contract of all, in ``tests/models/test_contract.py``."""

from typing import Any

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from torch import Tensor
from torch.nn import functional as F

from lightning_seg.errors import ConfigError
from lightning_seg.models.heads import add_heads_config, register_heads
from lightning_seg.models.heads.head import Head

HEADS: dict[str, dict[str, Any]] = {
    "UNetHead": {"DECODER_CHANNELS": [64, 32, 32]},
    "UPerNetHead": {"CONVS_DIM": 32},
    "SegFormerHead": {"CONVS_DIM": 64, "DROPOUT": 0.0},
    "DPTHead": {"CONVS_DIM": 64, "DROPOUT": 0.0},
}
FINER = {"DPTHead": 2}
"""How many times finer than the finest level the logits are; 1 for the others."""
CHANNELS = [8, 12, 16, 20]
NUM_CLASSES = 5
IGNORE = 250
STRIDES = (4, 8, 16, 32)
SIZE = (47, 71)
"""Of an image that no stride divides; DPTHead needs one whose finest level, doubled, fits."""

each_head = pytest.mark.parametrize("name", HEADS)


def make_head(name: str, strides: tuple[int, ...] = STRIDES, **settings: Any) -> Head:
    """A head built as Detectron2 builds it, on levels named as a ResNet's, given coarsest first."""
    from detectron2.modeling import build_sem_seg_head

    register_heads()
    cfg = get_cfg()
    add_heads_config(cfg)
    names = [f"res{index + 2}" for index in range(len(strides))]
    settings = {
        "NAME": name, "IN_FEATURES": names, "COMMON_STRIDE": min(strides) // FINER.get(name, 1),
        "NUM_CLASSES": NUM_CLASSES, "IGNORE_VALUE": IGNORE, **HEADS[name], **settings,
    }  # fmt: skip
    for key, value in settings.items():
        cfg.merge_from_list([f"MODEL.SEM_SEG_HEAD.{key}", value])
    shapes = {
        level: ShapeSpec(channels=channels, stride=stride)
        for level, channels, stride in reversed(list(zip(names, CHANNELS, strides, strict=False)))
    }
    torch.manual_seed(0)
    return build_sem_seg_head(cfg, shapes)


def make_features(
    size: tuple[int, int] = SIZE, strides: tuple[int, ...] = STRIDES, batch: int = 2
) -> dict[str, Tensor]:
    """What a backbone gives for an image of ``size``: each level's sides are rounded up."""
    generator = torch.Generator().manual_seed(7)
    return {
        f"res{index + 2}": torch.randn(batch, channels, *(-(-side // stride) for side in size), generator=generator)
        for index, (channels, stride) in enumerate(zip(CHANNELS, strides, strict=False))
    }


def make_targets(size: tuple[int, int] = SIZE, batch: int = 2) -> Tensor:
    """Class ids with a tenth of the pixels ignored."""
    generator = torch.Generator().manual_seed(8)
    targets = torch.randint(0, NUM_CLASSES, (batch, *size), generator=generator)
    return targets.masked_fill(torch.rand(targets.shape, generator=generator) < 0.1, IGNORE)


@each_head
@pytest.mark.parametrize("strides", [STRIDES, (4, 8, 8, 8), (8, 8, 16, 16), (2, 4, 16, 32), (4, 32)])
@pytest.mark.parametrize("size", [(32, 64), SIZE])
def test_logits_have_the_finest_levels_size(name: str, strides: tuple[int, ...], size: tuple[int, int]) -> None:
    head = make_head(name, strides).eval()
    features = make_features(size, strides)
    with torch.no_grad():
        logits = head.layers(features)
        upsampled, losses = head(features)
    height, width = features["res2"].shape[-2:]
    finer = FINER.get(name, 1)
    stride = strides[0] // finer
    assert logits.shape == (2, NUM_CLASSES, height * finer, width * finer)
    assert upsampled.shape == (2, NUM_CLASSES, height * strides[0], width * strides[0])
    assert torch.equal(upsampled, F.interpolate(logits, scale_factor=stride, mode="bilinear", align_corners=False))
    assert losses == {}
    assert head.common_stride == stride


@each_head
@pytest.mark.parametrize("size", [(32, 64), SIZE])
def test_loss_is_cross_entropy_of_the_upsampled_logits(name: str, size: tuple[int, int]) -> None:
    head = make_head(name, LOSS_WEIGHT=0.5)
    features, targets = make_features(size), make_targets(size)
    nothing, losses = head(features, targets)
    assert nothing is None
    assert losses.keys() == {"loss_sem_seg"}
    logits = F.interpolate(head.layers(features), scale_factor=head.common_stride, mode="bilinear", align_corners=False)
    of_pixels = logits[:, :, : size[0], : size[1]].log_softmax(dim=1).movedim(1, -1)[targets != IGNORE]
    expected = -of_pixels.gather(1, targets[targets != IGNORE][:, None]).mean()
    torch.testing.assert_close(losses["loss_sem_seg"], 0.5 * expected)


@each_head
@pytest.mark.parametrize("norm", ["GN", "BN", "LN", ""])
@pytest.mark.parametrize("batch", [1, 2])
def test_gradient_reaches_every_parameter(name: str, norm: str, batch: int) -> None:
    head = make_head(name, NORM=norm)
    _, losses = head(make_features(batch=batch), make_targets(batch=batch))
    losses["loss_sem_seg"].backward()
    for key, parameter in head.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@each_head
def test_mixed_precision_upsamples_logits_in_float32(name: str) -> None:
    head, targets = make_head(name), make_targets()
    with torch.autocast("cpu", torch.bfloat16):
        logits = head.layers(make_features())
        mixed = head.losses(logits, targets)["loss_sem_seg"]
    assert logits.dtype == torch.bfloat16
    assert torch.equal(mixed, head.losses(logits.float(), targets)["loss_sem_seg"])


@each_head
def test_every_level_reaches_the_logits(name: str) -> None:
    head, features = make_head(name, NORM="").eval(), make_features()
    expected = head.layers(features)
    for level, feature in features.items():
        for image in range(2):
            changed = feature.clone()
            changed[image] += torch.randn(feature.shape[1:], generator=torch.Generator().manual_seed(9))
            moved = (head.layers({**features, level: changed}) - expected).abs().amax(dim=(1, 2, 3))
            assert moved[image] > 1e-3, level
            assert moved[1 - image] == 0, "images must not mix"


@pytest.mark.parametrize(("name", "reach"), [("UNetHead", 2), ("UPerNetHead", 2), ("SegFormerHead", 0)])
def test_finest_level_is_in_its_place(name: str, reach: int) -> None:
    """A head that ends with two 3×3 convolutions over the finest level moves the 5×5 around a cell."""
    head, features = make_head(name, NORM="").eval(), make_features()
    expected = head.layers(features)
    for row, column in ((0, 0), (6, 10), (11, 17)):
        changed = features["res2"].clone()
        changed[:, :, row, column] += 3
        moved = (head.layers({**features, "res2": changed}) != expected).any(dim=1).any(dim=0)
        inside = torch.zeros_like(moved)
        inside[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1] = True
        assert moved[row, column]
        assert not (moved & ~inside).any()


@each_head
def test_levels_of_one_stride_keep_the_order_of_in_features(name: str) -> None:
    strides = (4, 8, 8, 8)
    assert make_head(name, strides).in_features == ["res2", "res3", "res4", "res5"]
    assert make_head(name, strides, IN_FEATURES=["res5", "res2", "res4"]).in_features == ["res2", "res5", "res4"]


@each_head
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"COMMON_STRIDE": 8}, r"COMMON_STRIDE is 8, but \w+ ends .* res2, whose stride is 4: set COMMON_STRIDE"),
        ({"IN_FEATURES": ["res3", "res4"]}, r"COMMON_STRIDE is [42], but .* res3, whose stride is 8"),
        ({"IN_FEATURES": []}, "IN_FEATURES is empty"),
        ({"NORM": "GM"}, "NORM is 'GM', but one of 'BN', 'SyncBN'"),
        ({"CONVS_DIM": 48, "DECODER_CHANNELS": [64, 48, 32]}, r"has 48 channels, which the 32 groups of GN do not"),
        ({"CONVS_DIM": -32, "DECODER_CHANNELS": [64, -32, 32]}, r"-32.*, but whole numbers above 0 are needed"),
    ],
)  # fmt: skip
def test_refuses_settings(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_head(name, **settings)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("UNetHead", {"DECODER_CHANNELS": [64, 32]}, "has 2 numbers, but the 4 levels of IN_FEATURES take 3 steps"),
        ("UNetHead", {"IN_FEATURES": ["res2"]}, "IN_FEATURES is res2 alone"),
        ("UPerNetHead", {"POOL_SCALES": [1, 0]}, r"POOL_SCALES is \(1, 0\), but whole numbers above 0"),
        ("SegFormerHead", {"DROPOUT": 1.0}, r"SEM_SEG_HEAD\.DROPOUT is 1\.0, but a number from 0 to below 1"),
        ("DPTHead", {"DROPOUT": -0.1}, r"SEM_SEG_HEAD\.DROPOUT is -0\.1, but a number from 0 to below 1"),
        ("DPTHead", {"COMMON_STRIDE": 4}, r"DPTHead ends 2 times finer than .* is 4: set COMMON_STRIDE to 2"),
        ("UPerNetHead", {"POOL_SCALES": []}, r"POOL_SCALES is \(\), but whole numbers above 0"),
    ],
)
def test_refuses_settings_of_its_own(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_head(name, **settings)


@each_head
def test_refuses_targets_of_another_size(name: str) -> None:
    with pytest.raises(ConfigError, match=r"logits of (12×18 at stride 4|24×36 at stride 2), which .* input of 40×71"):
        make_head(name)(make_features(), make_targets((40, 71)))


def test_unet_is_the_plain_computation() -> None:
    """The paper's expanding path by bare operators; at these sizes nearest upsampling repeats cells and crops."""
    head, x = make_head("UNetHead", NORM="").eval(), make_features()
    weights = head.state_dict()
    current = x["res5"]
    for step, level in enumerate(["res4", "res3", "res2"]):
        height, width = x[level].shape[-2:]
        repeated = current.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)[:, :, :height, :width]
        current = torch.cat([repeated, x[level]], dim=1)
        for conv in range(2):
            key = f"steps.{step}.{conv}"
            current = F.conv2d(current, weights[f"{key}.weight"], weights[f"{key}.bias"], padding=1).clamp(min=0)
    expected = F.conv2d(current, weights["predictor.weight"], weights["predictor.bias"])
    torch.testing.assert_close(head.layers(x), expected)


def test_unet_uses_the_first_decoder_channels() -> None:
    head = make_head("UNetHead", (2, 4), DECODER_CHANNELS=[96, 7])  # 7 would not do for GN
    assert [step[1].weight.shape[0] for step in head.steps] == [96]


def test_upernet_is_the_plain_computation() -> None:
    """The papers' pyramids by bare operators."""
    head, x = make_head("UPerNetHead", NORM="").eval(), make_features()
    weights = head.state_dict()

    def conv(key: str, inputs: Tensor) -> Tensor:
        weight = weights[f"{key}.weight"]
        return F.conv2d(inputs, weight, weights[f"{key}.bias"], padding=weight.shape[-1] // 2).clamp(min=0)

    def resize(inputs: Tensor, level: str) -> Tensor:
        return F.interpolate(inputs, x[level].shape[-2:], mode="bilinear", align_corners=False)

    pooled = [F.adaptive_avg_pool2d(x["res5"], cells) for cells in (1, 2, 3, 6)]
    assert torch.allclose(pooled[0], x["res5"].mean(dim=(2, 3), keepdim=True))
    branches = [resize(conv(f"pyramid.branches.{index}.1", cells), "res5") for index, cells in enumerate(pooled)]
    five = conv("pyramid.fusion", torch.cat([x["res5"], *branches], dim=1))
    four = conv("laterals.2", x["res4"]) + resize(five, "res4")
    three = conv("laterals.1", x["res3"]) + resize(four, "res3")
    two = conv("laterals.0", x["res2"]) + resize(three, "res2")
    smooth = [conv("smoothings.0", two), conv("smoothings.1", three), conv("smoothings.2", four), five]
    fused = conv("fusion", torch.cat([resize(level, "res2") for level in smooth], dim=1))
    expected = F.conv2d(fused, weights["predictor.weight"], weights["predictor.bias"])
    torch.testing.assert_close(head.layers(x), expected)
