"""What every head promises on every backbone; a new one joins by its entry in ``HEADS`` or ``BACKBONES``.

Every pair is built, trained for a step and evaluated at odd sizes, or refused with a reason. What costs more is asked
of every head on one backbone and of every backbone under one head.
"""

import functools
import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch

from lightning_seg.errors import ConfigError, DataError
from lightning_seg.imports import import_user_code
from lightning_seg.inference.whole import label_maps
from lightning_seg.models.recipe import load_recipe
from lightning_seg.models.segmentor import Segmentor
from lightning_seg.structures import Batch, summarise
from tests.conftest import REPOSITORY
from tests.models.test_segmentor import IGNORE, as_detectron2, make_batch

pytestmark = pytest.mark.usefixtures("one_thread")

ZOO = "Misc/semantic_R_50_FPN_1x.yaml"
NUM_CLASSES = 5
ODD = [(65, 97), (40, 97)]
"""Heights and widths of a batch's images; no stride divides what they are padded to by themselves."""

SMALL = {
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 16,
    "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS": 16,
    "MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS": [8],
    "MODEL.SEM_SEG_HEAD.NORM": "BN",
}
"""For all networks here."""

RESNET18 = {"MODEL.RESNETS.DEPTH": 18, "MODEL.RESNETS.RES2_OUT_CHANNELS": 64}
BOTTLENECKS = {
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 16,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
}
"""ResNet-50 and deeper with an eighth of the channels."""
REGNET = {"DEPTH": 7, "STEM_WIDTH": 8, "W_A": 16.0, "W_0": 8, "W_M": 2.2, "GROUP_WIDTH": 8, "SE_RATIO": 0.25}
SWIN = {"EMBED_DIM": 8, "DEPTHS": [2, 1, 1, 1], "NUM_HEADS": [1, 2, 2, 4], "DROP_PATH_RATE": 0.0}
VIT = {"EMBED_DIM": 32, "DEPTH": 2, "NUM_HEADS": 2, "WINDOW_BLOCKS": [0], "WINDOW_SIZE": 4, "DROP_PATH_RATE": 0.0}
MVIT = {"EMBED_DIM": 8, "LAST_BLOCKS": [0, 1, 2, 3], "DROP_PATH_RATE": 0.0}


def resnet(out_features: list[str], builder: str = "build_resnet_backbone", **settings: Any) -> dict[str, Any]:
    keys = {f"MODEL.RESNETS.{key}": value for key, value in settings.items()}
    return {"MODEL.BACKBONE.NAME": builder, "MODEL.RESNETS.OUT_FEATURES": out_features, **keys}


def timm(name: str, builder: str = "build_timm_backbone", **settings: Any) -> dict[str, Any]:
    keys = {f"MODEL.TIMM.{key}": value for key, value in settings.items()}
    return {"MODEL.BACKBONE.NAME": builder, "MODEL.TIMM.NAME": name, "MODEL.FPN.IN_FEATURES": [], **keys}


def detectron2(builder: str, group: str, **settings: Any) -> dict[str, Any]:
    keys = {f"MODEL.{group}.{key}": value for key, value in settings.items()}
    return {"MODEL.BACKBONE.NAME": builder, "MODEL.FPN.IN_FEATURES": [], **keys}


RES = ["res2", "res3", "res4", "res5"]
STAGES = {"stage1": 2, "stage2": 4, "stage3": 8, "stage4": 16, "stage5": 32}
PYRAMID = {"p2": 4, "p3": 8, "p4": 16, "p5": 32}

BACKBONES: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "resnet18": ({**resnet(RES), **RESNET18}, dict(zip(RES, (4, 8, 16, 32), strict=True))),
    "resnet18, one level": ({**resnet(["res5"]), **RESNET18}, {"res5": 32}),
    "resnet50, dilated": (
        {**BOTTLENECKS, **resnet(RES, RES5_DILATION=2)},
        dict(zip(RES, (4, 8, 16, 16), strict=True)),
    ),
    "resnet50, stem of DeepLab": (
        {**BOTTLENECKS, **resnet(["res2", "res5"], "build_resnet_deeplab_backbone", RES4_DILATION=2, RES5_DILATION=4)},
        {"res2": 4, "res5": 8},
    ),
    "timm resnet": (timm("test_resnet"), STAGES),
    "timm resnet, dilated": (
        timm("test_resnet", OUTPUT_STRIDE=8, OUT_INDICES=[1, 4]),
        {"stage2": 4, "stage5": 8},
    ),
    "timm efficientnet": (timm("test_efficientnet"), STAGES),
    "timm convnext": (timm("test_convnext"), dict(zip(STAGES, (4, 8, 16, 32), strict=False))),
    "timm mambaout, NHWC": (timm("test_mambaout"), dict(zip(STAGES, (4, 8, 16, 32), strict=False))),
    "timm vit": (timm("test_vit"), {"stage4": 16, "stage5": 16, "stage6": 16}),
    "regnet": (detectron2("build_regnet_backbone", "REGNET", **REGNET), {"s1": 4, "s2": 8, "s3": 16, "s4": 32}),
    "swin": (detectron2("build_swin_backbone", "SWIN", **SWIN), {"p0": 4, "p1": 8, "p2": 16, "p3": 32}),
    "swin, patches of 3": (
        detectron2("build_swin_backbone", "SWIN", PATCH_SIZE=3, **SWIN),
        {"p0": 3, "p1": 6, "p2": 12, "p3": 24},
    ),
    "mvit": (
        detectron2("build_mvit_backbone", "MVIT", **MVIT),
        {"scale2": 4, "scale3": 8, "scale4": 16, "scale5": 32},
    ),
    "resnet18 FPN": ({**resnet(RES, "build_resnet_fpn_backbone"), **RESNET18}, {**PYRAMID, "p6": 64}),
    "resnet50 FPN of RetinaNet": (
        {
            **BOTTLENECKS,
            **resnet(RES[1:], "build_retinanet_resnet_fpn_backbone"),
            "MODEL.FPN.IN_FEATURES": RES[1:],
        },
        {"p3": 8, "p4": 16, "p5": 32, "p6": 64, "p7": 128},
    ),
    "timm resnet FPN": (timm("test_resnet", "build_timm_fpn_backbone"), PYRAMID),
    "timm vit pyramid": (timm("test_vit", "build_timm_fpn_backbone"), PYRAMID),
    "regnet FPN": (detectron2("build_regnet_fpn_backbone", "REGNET", **REGNET), PYRAMID),
    "swin FPN": (detectron2("build_swin_fpn_backbone", "SWIN", **SWIN), PYRAMID),
    "vit pyramid": (detectron2("build_vit_pyramid_backbone", "VIT", **VIT), PYRAMID),
    "mvit FPN": (detectron2("build_mvit_fpn_backbone", "MVIT", **MVIT), PYRAMID),
}
"""Overrides of a small variant, and the stride of each of its levels from fine to coarse."""

Choice = Callable[[list[str]], list[str]]
HEADS: dict[str, tuple[Choice, dict[str, Any]]] = {
    "SemSegFPNHead": (lambda levels: levels, {}),
    "DeepLabV3Head": (lambda levels: levels[-1:], {}),
    "DeepLabV3PlusHead": (lambda levels: list(dict.fromkeys([levels[0], levels[-1]])), {}),
    "PointRendSemSegHead": (lambda levels: levels, {"MODEL.POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME": "SemSegFPNHead"}),
    "UNetHead": (lambda levels: levels, {"MODEL.SEM_SEG_HEAD.DECODER_CHANNELS": [16, 16, 16, 16]}),
    "UPerNetHead": (lambda levels: levels, {}),
    "TwoConvolutions": (lambda levels: levels[:1], {}),
}
"""Which levels a head reads of those that a backbone has, and settings of its own."""

REFUSED = {
    ("resnet18, one level", "DeepLabV3PlusHead"): "PROJECT_CHANNELS has 1 numbers and IN_FEATURES is res5",
    ("resnet18, one level", "UNetHead"): "IN_FEATURES is res5 alone, but UNetHead joins two levels or more",
    ("swin, patches of 3", "PointRendSemSegHead"): r"SUBDIVISION_STEPS is 2 .*COMMON_STRIDE 3, .* powers of two",
}
"""The only pairs that cannot work, and the reason that a user reads."""

PAIRS = [(backbone, head) for backbone in BACKBONES for head in HEADS]
FEW = [*(("regnet FPN", head) for head in HEADS), *((backbone, "SemSegFPNHead") for backbone in BACKBONES)]
"""Every head and every backbone."""

each_pair = pytest.mark.parametrize(("backbone", "head"), PAIRS)
each_of_few = pytest.mark.parametrize(("backbone", "head"), list(dict.fromkeys(FEW)))


def overrides_of(backbone: str, head: str) -> dict[str, Any]:
    overrides, strides = BACKBONES[backbone]
    choose, own = HEADS[head]
    levels = choose(list(strides))
    finest = strides[levels[0]]
    return {
        **SMALL,
        **overrides,
        "MODEL.SEM_SEG_HEAD.NAME": head,
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": levels,
        "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": finest,
        "MODEL.POINT_HEAD.IN_FEATURES": levels[:1],
        "MODEL.POINT_HEAD.SUBDIVISION_STEPS": round(math.log2(finest)),
        "MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS": 64,
        "MODEL.POINT_HEAD.TRAIN_NUM_POINTS": 64,
        "MODEL.POINT_HEAD.FC_DIM": 16,
        **own,
    }


def build_segmentor(overrides: dict[str, Any], seed: int = 0) -> Segmentor:
    import_user_code([str(REPOSITORY / "examples" / "custom_head" / "head.py")], "model.imports")
    torch.manual_seed(seed)
    return Segmentor(load_recipe(ZOO, overrides), num_classes=NUM_CLASSES, ignore_index=IGNORE)


@functools.cache
def _built(backbone: str, head: str) -> Segmentor:
    return build_segmentor(overrides_of(backbone, head))


def segmentor_of(backbone: str, head: str) -> Segmentor:
    """A new copy; the expensive guards at construction run once a pair."""
    return (
        deepcopy(_built(backbone, head)) if (backbone, head) in FEW else build_segmentor(overrides_of(backbone, head))
    )


def total_loss(segmentor: Segmentor, batch: Batch) -> torch.Tensor:
    torch.manual_seed(1)  # dropout, PointRend's points
    return torch.stack(list(segmentor.train().losses(batch).values())).sum()


def logits_of(segmentor: Segmentor, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([scores.logits.flatten() for scores in segmentor.eval().scores(batch)])


@each_pair
def test_trains_and_predicts_at_odd_sizes_or_is_refused(backbone: str, head: str) -> None:
    if (backbone, head) in REFUSED:
        with pytest.raises(ConfigError, match=REFUSED[backbone, head]):
            build_segmentor(overrides_of(backbone, head))
        return
    segmentor = segmentor_of(backbone, head)
    batch = make_batch(ODD)
    check_gradients(segmentor, batch)
    check_logits(segmentor, batch)
    check_prediction(segmentor)


def check_gradients(segmentor: Segmentor, batch: Batch) -> None:
    """They reach every trained parameter; the others are frozen and named, and nothing could reach them."""
    frozen = [name for name, parameter in segmentor.named_parameters() if not parameter.requires_grad]
    named = f"the loss does not depend on {len(frozen)} parameters, which are frozen: {summarise(frozen)}"
    assert segmentor.notices == ([named] if frozen else [])
    segmentor.requires_grad_(True)
    total_loss(segmentor, batch).backward()  # type: ignore[no-untyped-call]
    assert [name for name, parameter in segmentor.named_parameters() if parameter.grad is None] == frozen
    assert all(parameter.grad.isfinite().all() for parameter in segmentor.parameters() if parameter.grad is not None)


def check_logits(segmentor: Segmentor, batch: Batch) -> None:
    """They stand for exactly the padded input, up to the stride of a logit."""
    seen: list[torch.Size] = []
    hook = segmentor.network.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    with torch.no_grad():
        output = segmentor.eval().evaluate(batch)
    hook.remove()
    head = segmentor.network.sem_seg_head
    common_stride = getattr(head, "coarse_sem_seg_head", head).common_stride
    assert len(seen) == len(output.scores) == len(batch)
    for shape, scores in zip(seen, output.scores, strict=True):
        reach = [math.ceil(side / common_stride) * common_stride for side in shape[-2:]]
        assert len(scores.logits) == NUM_CLASSES
        assert list(scores.reach) == reach
        assert scores.logits.isfinite().all()
    assert output.input_sizes == ODD
    assert all(loss.isfinite() for loss in output.losses.values())


def check_prediction(segmentor: Segmentor) -> None:
    """At the stored size, and Detectron2's own wherever that runs."""
    batch = make_batch(ODD[:1])
    batch[0].update(height=83, width=61)
    segmentor.eval()
    with torch.no_grad():
        output = segmentor.evaluate(batch)
        found = label_maps(output.scores, output.input_sizes, [(83, 61)])[0]
        assert found.shape == (83, 61)
        theirs = as_detectron2(batch, "BGR" if segmentor.bgr else "RGB")
        if segmentor.whole_levels:
            with pytest.raises(RuntimeError, match="must match the size"):
                segmentor.network(theirs)
        else:
            assert torch.equal(found, segmentor.network(theirs)[0]["sem_seg"].argmax(0))


@each_of_few
def test_the_seed_decides_weights_and_losses(backbone: str, head: str) -> None:
    first, again = segmentor_of(backbone, head), build_segmentor(overrides_of(backbone, head))
    for (name, tensor), other in zip(first.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(tensor, other), name
    batch = make_batch(ODD)
    assert torch.equal(total_loss(first, batch), total_loss(again, batch))


@each_of_few
def test_mixed_precision_stays_near(backbone: str, head: str) -> None:
    segmentor, batch = segmentor_of(backbone, head), make_batch(ODD)
    expected = logits_of(segmentor, batch)
    with torch.autocast("cpu", torch.bfloat16):
        found = logits_of(segmentor, batch)
    assert (found.float() - expected).norm() < 0.15 * expected.norm()
    loss = total_loss(segmentor, batch)
    with torch.autocast("cpu", torch.bfloat16):
        mixed_loss = total_loss(segmentor, batch)
    mixed_loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(mixed_loss, loss, rtol=0.1, atol=0)


@each_of_few
def test_copies_and_states_give_the_same_logits(backbone: str, head: str) -> None:
    segmentor, batch = segmentor_of(backbone, head), make_batch(ODD)
    total_loss(segmentor, batch)  # moves the running statistics
    twin, restored = deepcopy(segmentor), deepcopy(segmentor)
    for tensor in restored.state_dict().values():
        tensor.zero_()
    restored.load_state_dict(segmentor.state_dict())
    expected = logits_of(segmentor, batch)
    assert torch.equal(logits_of(twin, batch), expected)
    assert torch.equal(logits_of(restored, batch), expected)


@each_of_few
def test_a_batch_without_any_label_does_no_harm(backbone: str, head: str) -> None:
    segmentor, batch = segmentor_of(backbone, head), make_batch(ODD)
    for sample in batch:
        sample["sem_seg"].fill_(IGNORE)
    loss = total_loss(segmentor, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    gradients = [parameter.grad for parameter in segmentor.parameters() if parameter.requires_grad]
    assert all(gradient is not None and (gradient == 0).all() for gradient in gradients)
    assert all(part.item() == 0 for part in segmentor.eval().evaluate(batch).losses.values())


@pytest.mark.parametrize("coarse", ["SemSegFPNHead", "DeepLabV3PlusHead", "UNetHead", "UPerNetHead"])
def test_pointrend_refines_the_logits_of_other_heads(coarse: str) -> None:
    choose, own = HEADS[coarse]
    segmentor = build_segmentor(
        {
            **overrides_of("regnet FPN", "PointRendSemSegHead"),
            **own,
            "MODEL.POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME": coarse,
            "MODEL.SEM_SEG_HEAD.IN_FEATURES": choose(list(PYRAMID)),
        }
    )
    batch = make_batch(ODD)
    check_gradients(segmentor, batch)
    check_logits(segmentor, batch)
    check_prediction(segmentor)


@pytest.mark.parametrize("steps", range(6))
def test_pointrend_may_stop_before_the_size_of_the_image(steps: int) -> None:
    """Detectron2 would stretch the prediction."""
    overrides = overrides_of("resnet18, one level", "PointRendSemSegHead")
    segmentor = build_segmentor({**overrides, "MODEL.POINT_HEAD.SUBDIVISION_STEPS": steps})
    check_logits(segmentor, make_batch(ODD))
    assert segmentor.scores(make_batch(ODD))[0].stride == 32 // 2**steps


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"image": torch.zeros(1, 65, 97)},
            r"image a\.jpg is a tensor of shape \(1, 65, 97\), but \(3, height, width\)",
        ),
        ({"image": torch.zeros(4, 65, 97)}, r"image a\.jpg is a tensor of shape \(4, 65, 97\)"),
        ({"image": torch.zeros(65, 97)}, r"image a\.jpg is a tensor of shape \(65, 97\)"),
        ({"sem_seg": torch.zeros(64, 97)}, r"mask of image a\.jpg has shape \(64, 97\), but the image \(65, 97\)"),
        ({"sem_seg": torch.zeros(1, 65, 97)}, r"mask of image a\.jpg has shape \(1, 65, 97\)"),
    ],
)
def test_refuses_misshapen_samples(change: dict[str, torch.Tensor], message: str) -> None:
    segmentor, batch = segmentor_of("regnet FPN", "SemSegFPNHead"), make_batch(ODD)
    batch[0].update(file_name="a.jpg", **change)
    for use in (segmentor.train().losses, segmentor.eval().evaluate):
        with pytest.raises(DataError, match=message):
            use(batch)
