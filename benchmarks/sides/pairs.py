"""Networks that are made here and by another library, and in which named parts they differ."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).parents[2] / "configs/detectron2"
ZOO = "Misc/semantic_R_50_FPN_1x.yaml"
STAGES = ["stage1", "stage2", "stage3", "stage4"]
ALWAYS = {"MODEL.BACKBONE.FREEZE_AT": 0, "SOLVER.BASE_LR": 0.001, "SOLVER.WARMUP_ITERS": 0}


@dataclass(frozen=True)
class Pair:
    """A network on both sides.

    Attributes:
        key: that ``--only`` takes.
        name: of the network.
        peer: the other library and its loop.
        needs: modules that the other side imports, and where each comes from.
        config: Detectron2's config here.
        overrides: of it.
        beside_here: parts here, by module name, that the comparison of parameters and FLOPs leaves out.
        beside_peer: the same of the other side.
        differs: what these parts are.
    """

    key: str
    name: str
    peer: str
    needs: dict[str, str]
    config: str
    overrides: dict[str, Any]
    beside_here: tuple[str, ...] = ()
    beside_peer: tuple[str, ...] = ()
    differs: str = "in nothing"

    @property
    def by_trainer(self) -> bool:
        """Whether the other side is trained by transformers' Trainer."""
        return "transformers" in self.needs

    def missing(self) -> list[str]:
        """What to install before the other side can run."""
        return [origin for module, origin in self.needs.items() if importlib.util.find_spec(module) is None]


SMP = {"segmentation_models_pytorch": "segmentation-models-pytorch"}
_PAIRS = [
    Pair(
        "unet",
        "U-Net, ResNet-34",
        "segmentation_models_pytorch's Unet, a plain Lightning loop",
        SMP,
        ZOO,
        {
            "MODEL.BACKBONE.NAME": "build_timm_backbone",
            "MODEL.TIMM.NAME": "resnet34",
            "MODEL.SEM_SEG_HEAD.NAME": "UNetHead",
            "MODEL.SEM_SEG_HEAD.IN_FEATURES": [*STAGES, "stage5"],
            "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 2,
            "MODEL.SEM_SEG_HEAD.DECODER_CHANNELS": [256, 128, 64, 32],
            "MODEL.SEM_SEG_HEAD.NORM": "BN",
        },
        ("segmentor.network.sem_seg_head.predictor",),
        ("decoder.blocks.4", "segmentation_head"),
        "the peer has one more step, at full size, with 16 channels; here logits of stride 2 are upsampled",
    ),
    Pair(
        "fpn",
        "Semantic FPN, ResNet-50",
        "segmentation_models_pytorch's FPN, a plain Lightning loop",
        SMP,
        ZOO,
        {"MODEL.RESNETS.NORM": "BN", "MODEL.RESNETS.STRIDE_IN_1X1": False},
        tuple(f"segmentor.network.backbone.fpn_output{level}" for level in (2, 3, 4, 5)),
        (),
        "Detectron2's pyramid ends in a 3×3 convolution of 256 channels a level, which the peer's has not",
    ),
    Pair(
        "deeplab",
        "DeepLabV3, ResNet-50, output stride 8",
        "torchvision's deeplabv3_resnet50, a plain Lightning loop",
        {"torchvision": "torchvision"},
        str(CONFIGS / "deeplab_v3_R_103.yaml"),
        {
            "MODEL.RESNETS.DEPTH": 50,
            "MODEL.RESNETS.NORM": "BN",
            "MODEL.RESNETS.STEM_TYPE": "basic",
            "MODEL.RESNETS.STEM_OUT_CHANNELS": 64,
            "MODEL.RESNETS.RES4_DILATION": 2,
            "MODEL.RESNETS.RES5_DILATION": 4,
            "MODEL.RESNETS.RES5_MULTI_GRID": [1, 1, 1],
            "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 8,
            "MODEL.SEM_SEG_HEAD.ASPP_DILATIONS": [12, 24, 36],
            "MODEL.SEM_SEG_HEAD.NORM": "BN",
            "MODEL.SEM_SEG_HEAD.LOSS_TYPE": "cross_entropy",
            "INPUT.CROP.ENABLED": False,
        },
        (),
        ("classifier.1", "classifier.2"),
        "the peer has one more 3×3 convolution after the pyramid pooling",
    ),
    Pair(
        "segformer",
        "SegFormer, MiT-b0",
        "transformers' SegformerForSemanticSegmentation, its Trainer",
        {"transformers": "transformers", "accelerate": "accelerate"},
        ZOO,
        {
            "MODEL.BACKBONE.NAME": "build_mit_backbone",
            "MODEL.SEM_SEG_HEAD.NAME": "SegFormerHead",
            "MODEL.SEM_SEG_HEAD.IN_FEATURES": STAGES,
            "MODEL.SEM_SEG_HEAD.CONVS_DIM": 256,
            "MODEL.SEM_SEG_HEAD.NORM": "BN",
        },
        ("segmentor.network.sem_seg_head.fusions",),
        ("decode_head.linear_fuse",),
        "levels are fused before they are upsampled here, after it there: the same logits for a quarter of the work",
    ),
]
PAIRS = {pair.key: pair for pair in _PAIRS}
