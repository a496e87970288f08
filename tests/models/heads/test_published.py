"""SegFormerHead and DPTHead give what transformers' heads give with the same weights."""

from typing import Any

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from lightning_seg.errors import ConfigError
from lightning_seg.models.heads.dpt import DPTHead
from lightning_seg.models.heads.head import Head
from lightning_seg.models.heads.segformer import SegFormerHead
from tests.models.heads.test_heads import CHANNELS, NUM_CLASSES, make_features

VIT = {f"stage{block}": ShapeSpec(channels=24, stride=16) for block in (3, 6, 9, 12)}
DIMS = (8, 12, 16, 20)


def shaken(module: nn.Module) -> None:
    """Give every parameter and statistic a random value, so that none is left out of a comparison."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            lowest = 0.5 if name.endswith("running_var") else -0.18
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.4 + lowest)


def copied(theirs: nn.Module, ours: nn.Module, names: dict[str, str]) -> None:
    """Copy all weights: beginnings of their names become those of ours; a linear layer becomes a 1×1 convolution."""
    wanted, given = ours.state_dict(), dict[str, Tensor]()
    for name, tensor in theirs.state_dict().items():
        old = next((old for old in names if name.startswith(old)), None)
        if old is not None:
            key = names[old] + name.removeprefix(old)
            given[key] = tensor.reshape(wanted[key].shape)
    ours.load_state_dict(given)


def segformer(dropout: float = 0.1) -> tuple[nn.Module, Head]:
    from transformers import SegformerConfig
    from transformers.models.segformer.modeling_segformer import SegformerDecodeHead

    config = SegformerConfig(
        hidden_sizes=CHANNELS, decoder_hidden_size=32, num_labels=NUM_CLASSES, classifier_dropout_prob=dropout
    )
    theirs: nn.Module = SegformerDecodeHead(config)
    shaken(theirs)
    shapes = {
        f"res{place + 2}": ShapeSpec(channels=channels, stride=4 * 2**place) for place, channels in enumerate(CHANNELS)
    }
    ours = SegFormerHead(shapes, num_classes=NUM_CLASSES, conv_dims=32, dropout=dropout, common_stride=4, norm="BN")
    fused = theirs.linear_fuse.weight.chunk(4, dim=1)[::-1]  # theirs begins with the coarsest
    for place, (fusion, part) in enumerate(zip(ours.fusions, fused, strict=True)):
        fusion.weight.data.copy_(part)
        names = {f"linear_projections.{place}.proj.": "projections."}
        copied(theirs, nn.ModuleDict({"projections": ours.projections[place]}), names)
    copied(theirs.batch_norm, ours.norm, {"": ""})
    copied(theirs.classifier, ours.predictor, {"": ""})
    return theirs, ours


@pytest.mark.parametrize("size", [(64, 96), (47, 71)])
@pytest.mark.parametrize("training", [False, True])
def test_segformer_is_that_of_transformers(size: tuple[int, int], training: bool) -> None:
    theirs, ours = segformer(dropout=0.0)
    features = make_features(size)
    expected = theirs.train(training)(list(features.values()))
    found = ours.train(training).layers(features)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.norm.running_var, theirs.batch_norm.running_var, rtol=1e-5, atol=1e-5)


def dpt(batch_norm: bool = True, **settings: Any) -> tuple[nn.Module, nn.Module]:
    from transformers import DPTConfig
    from transformers.models.dpt.modeling_dpt import DPTNeck, DPTSemanticSegmentationHead

    config = DPTConfig(
        hidden_size=24, neck_hidden_sizes=list(DIMS), fusion_hidden_size=32, num_labels=NUM_CLASSES,
        use_batch_norm_in_fusion_residual=batch_norm, readout_type="ignore", **settings,
    )  # fmt: skip
    neck, head = DPTNeck(config), DPTSemanticSegmentationHead(config)
    for module in (neck, head):
        shaken(module)
        module.eval()
    return neck, head


def of_transformers(neck: nn.Module, head: nn.Module, ours: DPTHead) -> None:
    """Give ``ours`` the weights of a neck and a head; the coarsest level has nothing to be added to."""
    names = {}
    for place in range(4):
        theirs, mine = f"fusion_stage.layers.{3 - place}.", str(place)
        names[f"reassemble_stage.layers.{place}.projection."] = f"reassemblies.{mine}.0."
        names[f"reassemble_stage.layers.{place}.resize."] = f"reassemblies.{mine}.1."
        names[f"convs.{place}."] = f"convs.{mine}."
        names[f"{theirs}projection."] = f"projections.{mine}."
        units = {"residual_layer2": "refinements"} | ({"residual_layer1": "additions"} if place < 3 else {})
        for unit, own in units.items():
            for conv in range(2):
                names[f"{theirs}{unit}.convolution{conv + 1}."] = f"{own}.{mine}.convs.{conv}."
                names[f"{theirs}{unit}.batch_norm{conv + 1}."] = f"{own}.{mine}.convs.{conv}.norm."
    if not ours.reassemblies:
        names = {old: new for old, new in names.items() if not old.startswith("reassemble")}
    both = nn.ModuleDict({"neck": neck, "head": head})
    all_names = {f"neck.{old}": new for old, new in names.items()}
    all_names |= {"head.head.0.": "smoothing.", "head.head.1.": "smoothing.norm.", "head.head.4.": "predictor."}
    copied(both, ours, all_names)


def test_dpt_on_a_pyramid_is_that_of_transformers() -> None:
    from transformers import Swinv2Config

    backbone = Swinv2Config(out_features=["stage1", "stage2", "stage3", "stage4"])  # for it, they have no reassembly
    neck, head = dpt(backbone_config=backbone)
    shapes = {f"p{place}": ShapeSpec(channels=DIMS[place], stride=4 * 2**place) for place in range(4)}
    ours = DPTHead(shapes, num_classes=NUM_CLASSES, conv_dims=32, common_stride=2, norm="BN").eval()
    of_transformers(neck, head, ours)
    features = {name: torch.randn(2, shape.channels, 64 // shape.stride, 96 // shape.stride) for name, shape in
                shapes.items()}  # fmt: skip
    with torch.no_grad():
        expected = head(neck(list(features.values())))
        found = ours.layers(features)
    upsampled = nn.functional.interpolate(found, scale_factor=2, mode="bilinear", align_corners=True)  # theirs does
    torch.testing.assert_close(upsampled, expected, rtol=1e-5, atol=1e-5)


def test_dpt_on_a_plain_vit_is_that_of_transformers() -> None:
    neck, head = dpt()
    ours = DPTHead(VIT, num_classes=NUM_CLASSES, conv_dims=32, reassemble_dims=DIMS, common_stride=2, norm="BN").eval()
    of_transformers(neck, head, ours)
    features = {name: torch.randn(2, 24, 4, 6) for name in VIT}
    tokens = [torch.cat([torch.randn(2, 1, 24), level.flatten(2).mT], dim=1) for level in features.values()]
    with torch.no_grad():
        expected = head(neck(tokens, 4, 6))
        found = ours.layers(features)
    upsampled = nn.functional.interpolate(found, scale_factor=2, mode="bilinear", align_corners=True)
    torch.testing.assert_close(upsampled, expected, rtol=1e-5, atol=1e-5)


def test_dpt_reassembles_an_odd_grid() -> None:
    ours = DPTHead(VIT, num_classes=NUM_CLASSES, conv_dims=32, reassemble_dims=DIMS, common_stride=2)
    assert ours.layers({name: torch.randn(1, 24, 5, 3) for name in VIT}).shape == (1, NUM_CLASSES, 40, 24)


@pytest.mark.parametrize(
    ("levels", "dims", "message"),
    [
        (
            VIT,
            (8, 16),
            r"REASSEMBLE_DIMS has 2 numbers and IN_FEATURES is stage3 \(16\), .*, but four numbers",
        ),
        ({**VIT, "stage12": ShapeSpec(channels=24, stride=32)}, DIMS, "four levels of one stride, as of a plain ViT"),
        (VIT, (8, 0, 8, 8), "REASSEMBLE_DIMS is .*, but whole numbers above 0"),
        (
            {name: ShapeSpec(channels=24, stride=14) for name in VIT},
            DIMS,
            "DPTHead ends 8 times finer than .*stage3, whose stride is 14, which is no whole number of pixels",
        ),
    ],
)
def test_dpt_refuses_what_it_cannot_reassemble(levels: Any, dims: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DPTHead(levels, num_classes=NUM_CLASSES, conv_dims=32, reassemble_dims=dims, common_stride=2)
