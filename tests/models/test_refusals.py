"""Configs that cannot work are refused when the network is built, in the terms of the config."""

from pathlib import Path
from typing import Any

import pytest
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from lightning_seg.errors import ConfigError
from lightning_seg.models.recipe import load_recipe
from lightning_seg.models.segmentor import Segmentor
from tests.conftest import MODELS, TINY_OVERRIDES
from tests.models.networks import BOTTLENECKS, HEADS, RES, VIT, build_segmentor, detectron2, overrides_of, resnet
from tests.models.samples import IGNORE, ZOO

pytestmark = pytest.mark.usefixtures("one_thread")

HEAD, POINT, RESNETS = "MODEL.SEM_SEG_HEAD.", "MODEL.POINT_HEAD.", "MODEL.RESNETS."
V3, V3_PLUS, POINT_REND = MODELS["DeepLabV3"], MODELS["DeepLabV3Plus"], MODELS["PointRend"]

SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"INPUT.FORMAT": "YUV-BT.601"}, "RGB or BGR is needed"),
    ({"SOLVER.MAX_ITER": 0}, "MAX_ITER is 0, but must be at least 1"),
    (detectron2("build_vit_pyramid_backbone", "VIT", **{**VIT, "PATCH_SIZE": 0}), "this model: ZeroDivisionError"),
    ({"MODEL.META_ARCHITECTURE": "PanopticDeepLab"}, "one of SemanticSegmentor, EoMT, GeneralizedRCNN.* is needed"),
    (
        {"MODEL.META_ARCHITECTURE": "GeneralizedRCNN", "MODEL.BACKBONE.NAME": "build_resnet_backbone"},
        "has no feature pyramid",
    ),
]
RESNET = [
    ({RESNETS + "DEPTH": 51}, "DEPTH is 51, but build_resnet_fpn_backbone knows 18, 34, 50, 101, 152"),
    ({RESNETS + "DEPTH": 18}, r"DEPTH 18 needs MODEL\.RESNETS\.RES2_OUT_CHANNELS 64 \(it is 256\)"),
    ({**V3, RESNETS + "DEPTH": 18}, "DEPTH is 18, but build_resnet_deeplab_backbone knows 50, 101, 152"),
    ({**V3, RESNETS + "DEPTH": 34}, "DEPTH is 34, but build_resnet_deeplab_backbone knows 50, 101, 152"),
    ({**TINY_OVERRIDES, RESNETS + "RES5_DILATION": 2}, r"Must set MODEL\.RESNETS\.RES5_DILATION = 1 for R18/R34"),
    ({**TINY_OVERRIDES, RESNETS + "NUM_GROUPS": 32}, r"Must set MODEL\.RESNETS\.NUM_GROUPS = 1 for R18/R34"),
    ({RESNETS + "DEFORM_ON_PER_STAGE": [False, True, True, True]}, "deformable convolutions, which need .* CUDA"),
    ({RESNETS + "NORM": "BatchNorm"}, "RESNETS.NORM is 'BatchNorm', but one of 'BN', 'SyncBN'"),
    ({"MODEL.FPN.NORM": "bn"}, "FPN.NORM is 'bn', but one of 'BN', 'SyncBN'"),
    ({"MODEL.FPN.IN_FEATURES": ["res2", "res9"]}, r"IN_FEATURES names res9, but MODEL\.RESNETS.OUT_FEATURES has res2"),
]  # fmt: skip
NAMES = [
    ({"MODEL.BACKBONE.NAME": "build_resnet_fpn"}, "not registered; did you mean build_resnet_fpn_backbone"),
    ({"MODEL.BACKBONE.NAME": "nothing"}, r"not registered. There are .*build_swin_backbone.* \(model\.imports\)"),
    (
        {HEAD + "NAME": "SemSegFPN"},
        r"not registered; did you mean .*SemSegFPNHead.*\? There are .*DeepLabV3Head, .*UNetHead",
    ),
    ({HEAD + "NAME": "PanopticDeepLabSemSegHead"}, "not registered"),
    ({**POINT_REND, POINT + "NAME": "Point"}, r"POINT_HEAD\.NAME is 'Point', which is not registered"),
    (
        {**POINT_REND, POINT + "COARSE_SEM_SEG_HEAD_NAME": "FPNHead"},
        "COARSE_SEM_SEG_HEAD_NAME is 'FPNHead', which is not registered",
    ),
]
SEM_SEG_FPN = [
    ({HEAD + "IN_FEATURES": []}, "IN_FEATURES is empty, but the backbone gives p2"),
    ({HEAD + "IN_FEATURES": ["p2", "p9"]}, r"IN_FEATURES names p9, but the backbone gives p2 \(stride 4\), p3"),
    ({HEAD + "COMMON_STRIDE": 8}, "COMMON_STRIDE is 8, .* which p2 of stride 4 never has: set COMMON_STRIDE to 4"),
    ({HEAD + "COMMON_STRIDE": 3}, "COMMON_STRIDE is 3, .* which p2 of stride 4 never has: set COMMON_STRIDE to 4"),
    ({HEAD + "NORM": "GN"}, "CONVS_DIM has 16 channels, which the 32 groups of GN do not divide"),
    ({HEAD + "NORM": "bn"}, "SEM_SEG_HEAD.NORM is 'bn', but one of 'BN', 'SyncBN'"),
]
DEEPLAB = [
    ({**V3, HEAD + "IN_FEATURES": ["res4"]}, r"names res4, but the backbone gives res5 \(stride 16\)"),
    ({**V3, HEAD + "COMMON_STRIDE": 8}, "DeepLabV3Head ends at .* res5, whose stride is 16: set COMMON_STRIDE to 16"),
    ({**TINY_OVERRIDES, HEAD + "NAME": "DeepLabV3Head"}, "is p2, p3, p4, p5, but DeepLabV3Head works on one level"),
    ({**V3, HEAD + "CONVS_DIM": 32}, "CONVS_DIM is 32 and ASPP_CHANNELS 16, .* give both one value"),
    ({**V3, HEAD + "NORM": "GN"}, "ASPP_CHANNELS has 16 channels, which the 32 groups of GN do not divide"),
    ({**V3, "INPUT.CROP.ENABLED": True}, "CROP.TYPE is 'relative_range', but DeepLabV3Head .* 'absolute'"),
    ({**V3, HEAD + "ASPP_DILATIONS": [6, 12]}, "ASPP expects 3 dilations, got 2"),
    ({**V3_PLUS, HEAD + "COMMON_STRIDE": 8}, "DeepLabV3PlusHead ends at .* res2, whose stride is 4"),
    ({**V3_PLUS, HEAD + "PROJECT_CHANNELS": [8, 8]}, "PROJECT_CHANNELS has 2 numbers and IN_FEATURES is res2, res5"),
    (
        {**V3_PLUS, HEAD + "NORM": "GN", HEAD + "ASPP_CHANNELS": 32, HEAD + "CONVS_DIM": 32},
        "PROJECT_CHANNELS has 48 channels, which the 32 groups of GN do not divide",
    ),
]
REFINED = [
    ({**POINT_REND, POINT + "SUBDIVISION_STEPS": 5}, "STEPS is 5 and .* 4, .* must divide .* SUBDIVISION_STEPS to 2$"),
    ({**POINT_REND, POINT + "IN_FEATURES": ["p2", "p3"]}, "IN_FEATURES is p2, p3, but .* reads one level"),
    ({**POINT_REND, POINT + "IN_FEATURES": []}, "POINT_HEAD.IN_FEATURES is empty"),
    ({**POINT_REND, POINT + "IN_FEATURES": ["p9"]}, "POINT_HEAD.IN_FEATURES names p9, but the backbone gives p2"),
    ({**POINT_REND, HEAD + "COMMON_STRIDE": 8}, "COMMON_STRIDE is 8, but SemSegFPNHead"),
    *(
        ({**POINT_REND, POINT + "COARSE_SEM_SEG_HEAD_NAME": name}, rf"{name}, which has no layers\(features\)")
        for name in ("DeepLabV3Head", "PointRendSemSegHead")
    ),
]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        *SETTINGS, *RESNET, *NAMES, *DEEPLAB, *REFINED,
        *(({**TINY_OVERRIDES, **overrides}, message) for overrides, message in SEM_SEG_FPN),
    ],
)  # fmt: skip
def test_refuses(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_segmentor(overrides)


@pytest.mark.parametrize(("classes", "ignore_index"), [(5, 0), (256, 255)])
def test_a_class_is_never_ignored(classes: int, ignore_index: int) -> None:
    with pytest.raises(ConfigError, match=f"ignore_index {ignore_index} is the id of .* outside 0 to {classes - 1}"):
        Segmentor(load_recipe(ZOO, TINY_OVERRIDES), num_classes=classes, ignore_index=ignore_index)


@pytest.mark.parametrize("config", ["mask_rcnn_R_50_FPN_3x_dconv_c3-c5", "panoptic_fpn_R_101_dconv_cascade_gn_3x"])
def test_refuses_deformable_configs_of_the_zoo(config: str) -> None:
    with pytest.raises(ConfigError, match="DEFORM_ON_PER_STAGE"):
        load_recipe(f"Misc/{config}.yaml", {})


@pytest.mark.parametrize("head", HEADS)
def test_every_head_refuses_the_levels_of_another_backbone(head: str) -> None:
    """What happens to who changes the backbone alone."""
    overrides = {**overrides_of("regnet FPN", head), **BOTTLENECKS, **resnet(RES)}
    with pytest.raises(ConfigError, match=r"IN_FEATURES names p\d.*, but the backbone gives res2 \(stride 4\), res3"):
        build_segmentor(overrides)


class _Coarse(nn.Module):
    """A user's head: logits at stride 8 that it says have stride 4."""

    common_stride = 4
    ignore_value = IGNORE

    def __init__(self, cfg: Any, input_shape: Any) -> None:
        super().__init__()
        self.predictor = nn.Conv2d(16, 5, 1)

    def forward(self, features: dict[str, Tensor], targets: Tensor | None) -> tuple[None, dict[str, Tensor]]:
        return None, self.losses(self.predictor(features["p3"]), targets)

    def losses(self, logits: Tensor, targets: Tensor | None) -> dict[str, Tensor]:
        return {"loss": logits.mean()}


class _Broken(_Coarse):
    """Another: it reads a level that is not there."""

    def forward(self, features: dict[str, Tensor], targets: Tensor | None) -> tuple[None, dict[str, Tensor]]:
        return None, self.losses(features["p10"], targets)


class _WithoutLosses(nn.Module):
    """Another: it has nothing at all."""

    def __init__(self, cfg: Any, input_shape: Any) -> None:
        super().__init__()


class _WithoutEvaluation(_Coarse):
    """Another: it always gives losses."""

    common_stride = 8


class _WithoutStride(_WithoutLosses):
    """Another, with half of what losses need."""

    ignore_value = IGNORE

    def forward(self, features: dict[str, Tensor], targets: Tensor | None) -> Any: ...

    def losses(self, logits: Tensor, targets: Tensor) -> Any: ...


class _LossInside(_WithoutLosses):
    """Another, whose loss no criterion could replace."""

    def forward(self, features: dict[str, Tensor], targets: Tensor | None = None) -> Any:
        return None, {"loss": features["p2"].mean()}


class _LossBeside(_WithoutStride):
    """Another: it has losses, and does not call them."""

    common_stride = 4

    def forward(self, features: dict[str, Tensor], targets: Tensor | None = None) -> Any:
        return None, {"loss": features["p2"].mean()}


class _Crooked(_WithoutLosses):
    """Another: it loses a row and a column."""

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        return features["p2"][:, :5, 1:, 1:]


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (_Coarse, r"logits of 24×32 for an input of 192×256, .* common_stride of 4 .*: set it to 8"),
        (_Broken, r"do not fit: KeyError: 'p10' \(models/test_refusals\.py, line \d+: .*features\[\"p10\"\]"),
        (
            _WithoutLosses,
            r"_WithoutLosses\] is missing the required .*; a head that does is examples/custom_head/head\.py",
        ),
        (_WithoutEvaluation, r"gives a tuple in evaluation, but \(logits, \{\}\) .* examples/custom_head/head\.py"),
        (
            _WithoutStride,
            r"has losses\(logits, targets\), but no common_stride .*: add them as in examples/custom_head",
        ),
        (
            _LossInside,
            r"has no losses\(logits, targets\), .* gives a tuple, not logits .* examples/custom_head/head\.py",
        ),
        (_LossBeside, r"forward does not call self\.losses\(logits, targets\) in training, .* examples/custom_head"),
        (_Crooked, r"_Crooked gives logits of 47×63 for an input of 192×256, which no whole stride explains"),
    ],
)
def test_refuses_heads_of_users(head: type[nn.Module], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SEM_SEG_HEADS_REGISTRY._obj_map, head.__name__, head)
    with pytest.raises(ConfigError, match=message):
        build_segmentor({**TINY_OVERRIDES, HEAD + "NAME": head.__name__})


def test_a_lazy_config_is_refused_in_the_same_words(tmp_path: Path) -> None:
    path = tmp_path / "unet.py"
    path.write_text(
        "from importlib.resources import files\n"
        "from detectron2.config import LazyCall as L, LazyConfig\n"
        "from detectron2.layers import ShapeSpec\n"
        "from lightning_seg.models.heads.unet import UNetHead\n"
        'zoo = files("detectron2") / "model_zoo" / "configs" / "common"\n'
        'model = LazyConfig.load(str(zoo / "models" / "panoptic_fpn.py")).model\n'
        "levels = dict(p2=L(ShapeSpec)(channels=256, stride=4), p3=L(ShapeSpec)(channels=256, stride=8))\n"
        "model.sem_seg_head = L(UNetHead)(input_shape=levels, decoder_channels=[32], common_stride=8, num_classes=5)\n"
    )
    with pytest.raises(ConfigError, match=r"^MODEL\.SEM_SEG_HEAD\.COMMON_STRIDE is 8, but UNetHead ends at .* p2"):
        Segmentor(load_recipe(str(path), {}), num_classes=5, ignore_index=IGNORE)


@pytest.mark.parametrize(("kind", "level"), [("C4", "res4"), ("DC5", "res5")])
def test_c4_and_dc5_configs_need_the_level_of_the_head(kind: str, level: str) -> None:
    config = f"COCO-Detection/faster_rcnn_R_50_{kind}_1x.yaml"
    with pytest.raises(ConfigError, match=r"name the backbone's levels in MODEL\.SEM_SEG_HEAD\.IN_FEATURES under"):
        load_recipe(config, {})
    overrides = {
        **BOTTLENECKS,
        "MODEL.META_ARCHITECTURE": "SemanticSegmentor",
        HEAD + "IN_FEATURES": [level],
        HEAD + "COMMON_STRIDE": 16,
    }
    segmentor = Segmentor(load_recipe(config, overrides), num_classes=5, ignore_index=IGNORE)
    assert segmentor.network.sem_seg_head.common_stride == 16
