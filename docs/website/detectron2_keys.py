"""Says what the keys of Detectron2's own config mean that have an effect on a semantic model here."""

from collections.abc import Iterator

from docs.website.keys import plain
from lightning_seg.models.config import DATA_KEYS, default_config, leaves
from lightning_seg.models.unused import YAML_REPLACED

MEANINGS = {
    "MODEL.META_ARCHITECTURE": "`SemanticSegmentor`, `EoMT`, your own; of a detector, backbone and head are used",
    "MODEL.WEIGHTS": "path or address of pretrained weights; `model.weights` replaces it",
    "MODEL.PIXEL_MEAN": "is subtracted from the channels, in grey levels and in the order of `INPUT.FORMAT`",
    "MODEL.PIXEL_STD": "divides the channels, likewise",
    "INPUT.FORMAT": "order of the channels that the network wants, `BGR` or `RGB`",
    "INPUT.CROP.ENABLED": "whether DeepLab's heads pool over `INPUT.CROP.SIZE`, not the whole image; no crop is taken",
    "INPUT.CROP.TYPE": "must be `absolute` for that",
    "INPUT.CROP.SIZE": "height and width of the largest pooling window, in pixels of the image",
    "MODEL.BACKBONE.NAME": "builder of the backbone; [models](models.md) lists them",
    "MODEL.BACKBONE.FREEZE_AT": "stages that are not trained: 1: the stem, 2: `res2` too, and so on; 0: none",
    "MODEL.RESNETS.DEPTH": "layers: 18, 34, 50, 101 or 152",
    "MODEL.RESNETS.OUT_FEATURES": "levels that are given on, of `stem`, `res2` … `res5`; strides 4, 4, 8, 16, 32",
    "MODEL.RESNETS.NUM_GROUPS": "groups of the 3×3 convolutions; 32 in ResNeXt",
    "MODEL.RESNETS.WIDTH_PER_GROUP": "channels of a group in `res2`; doubled in every next stage",
    "MODEL.RESNETS.NORM": "kind of norm: `FrozenBN`, `BN`, `SyncBN`, `GN` …",
    "MODEL.RESNETS.STRIDE_IN_1X1": "whether the first 1×1 convolution of a block halves the size, not the 3×3 one",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": "channels of the stem",
    "MODEL.RESNETS.RES2_OUT_CHANNELS": "channels of `res2`, 64 at depth 18 and 34; doubled in every next stage",
    "MODEL.RESNETS.RES5_DILATION": "of `res5`: 1: stride 32; 2: stride 16; 4 with `RES4_DILATION` 2: stride 8",
    "MODEL.RESNETS.RES4_DILATION": "of `res4`, in DeepLab's ResNet: 2 keeps it at stride 8; 1: stride 16",
    "MODEL.RESNETS.RES5_MULTI_GRID": "factors of the dilation of the three blocks of `res5`, in DeepLab's ResNet",
    "MODEL.RESNETS.STEM_TYPE": "stem of DeepLab's ResNet: `deeplab`, three 3×3 convolutions, or `basic`, one of 7×7",
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": "deformable convolutions; not in the Detectron2 that is installed from PyPI",
    "MODEL.RESNETS.DEFORM_MODULATED": "likewise",
    "MODEL.RESNETS.DEFORM_NUM_GROUPS": "likewise",
    "MODEL.FPN.IN_FEATURES": "levels of the backbone that the pyramid is made of, finest first",
    "MODEL.FPN.OUT_CHANNELS": "channels of each level of the pyramid",
    "MODEL.FPN.NORM": "kind of norm; empty: none, with a bias instead",
    "MODEL.FPN.FUSE_TYPE": "how a level and the coarser one are joined: `sum` or `avg`",
    "MODEL.SEM_SEG_HEAD.NAME": "class of the head; [models](models.md) lists them",
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": "levels that the head reads",
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": "channels inside the head",
    "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": "stride of the head's logits, in pixels of the image",
    "MODEL.SEM_SEG_HEAD.NORM": "kind of norm: `GN`, `BN`, `SyncBN` …; empty: none",
    "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT": "multiplies the head's loss",
    "MODEL.SEM_SEG_HEAD.LOSS_TYPE": "loss of DeepLab's heads: `hard_pixel_mining` or `cross_entropy`",
    "MODEL.SEM_SEG_HEAD.PROJECT_FEATURES": "finer levels that DeepLabV3+'s decoder adds",
    "MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS": "channels of each of them in the decoder",
    "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS": "channels of each branch of DeepLab's pyramid of dilations",
    "MODEL.SEM_SEG_HEAD.ASPP_DILATIONS": "dilations of its three 3×3 branches",
    "MODEL.SEM_SEG_HEAD.ASPP_DROPOUT": "share of its outputs that training drops, 0 to 1",
    "MODEL.SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV": "whether DeepLab's 3×3 convolutions are depthwise, then 1×1",
    "MODEL.POINT_HEAD.NAME": "class of PointRend's point head",
    "MODEL.POINT_HEAD.NUM_CLASSES": "set by `data.classes`",
    "MODEL.POINT_HEAD.IN_FEATURES": "levels that are read at the points",
    "MODEL.POINT_HEAD.TRAIN_NUM_POINTS": "points of an image that training computes the loss at",
    "MODEL.POINT_HEAD.OVERSAMPLE_RATIO": "times as many are drawn, to seek the uncertain ones among them",
    "MODEL.POINT_HEAD.IMPORTANCE_SAMPLE_RATIO": "share of the points that are uncertain ones, 0 to 1",
    "MODEL.POINT_HEAD.SUBDIVISION_STEPS": "how often evaluation doubles the size; 2 to the power of it is the stride",
    "MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS": "points that are computed anew after each doubling",
    "MODEL.POINT_HEAD.FC_DIM": "channels of the point head's layers",
    "MODEL.POINT_HEAD.NUM_FC": "layers of it before the last",
    "MODEL.POINT_HEAD.CLS_AGNOSTIC_MASK": "one mask for all classes, which is for instances: leave it out",
    "MODEL.POINT_HEAD.COARSE_PRED_EACH_LAYER": "whether every layer reads the coarse logits again",
    "MODEL.POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME": "class of the head that gives the coarse logits",
    "SOLVER.MAX_ITER": "steps that the schedule is written for; it is stretched to the run's steps",
    "SOLVER.IMS_PER_BATCH": "images of a step that `BASE_LR` is made for; only `model.scale_lr` uses it",
    "SOLVER.BASE_LR": "learning rate of SGD after the warm-up",
    "SOLVER.BASE_LR_END": "last rate of `WarmupCosineLR`",
    "SOLVER.MOMENTUM": "momentum of SGD",
    "SOLVER.NESTEROV": "whether it is Nesterov's",
    "SOLVER.WEIGHT_DECAY": "weight decay",
    "SOLVER.WEIGHT_DECAY_NORM": "that of norms",
    "SOLVER.WEIGHT_DECAY_BIAS": "that of biases; null: `WEIGHT_DECAY`",
    "SOLVER.BIAS_LR_FACTOR": "multiplies the rate of biases",
    "SOLVER.LR_SCHEDULER_NAME": "`WarmupMultiStepLR`, `WarmupCosineLR`, `WarmupStepWithFixedGammaLR`, `WarmupPolyLR`",
    "SOLVER.STEPS": "steps of `MAX_ITER` at which `WarmupMultiStepLR` multiplies the rate by `GAMMA`",
    "SOLVER.GAMMA": "that factor; also of `WarmupStepWithFixedGammaLR`",
    "SOLVER.NUM_DECAYS": "how often `WarmupStepWithFixedGammaLR` multiplies, at equal distances",
    "SOLVER.POLY_LR_POWER": "exponent of `WarmupPolyLR`; 1: a straight line",
    "SOLVER.POLY_LR_CONSTANT_ENDING": "share of `BASE_LR` below which its rate does not fall, 0 to 1; 0: it does",
    "SOLVER.WARMUP_ITERS": "steps of `MAX_ITER` in which the rate rises",
    "SOLVER.WARMUP_FACTOR": "share of `BASE_LR` that it rises from",
    "SOLVER.WARMUP_METHOD": "`linear`: it rises evenly; `constant`: it stays there until the warm-up ends",
    "SOLVER.RESCALE_INTERVAL": "whether the schedule begins after the warm-up, not under it; not of `WarmupPolyLR`",
    "SOLVER.CLIP_GRADIENTS.ENABLED": "whether each parameter's gradient is clipped by itself",
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "`value`: each number of it; `norm`: its length",
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": "the largest value or length",
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": "exponent of the norm that measures it; 2: Euclid's",
}
"""Keys and their meanings in words of this project."""


def detectron2_keys() -> Iterator[tuple[str, str, str]]:
    """Key, default and meaning of each."""
    defaults = dict(leaves(default_config()))
    for key, meaning in MEANINGS.items():
        yield f"`{key}`", f"`{plain(defaults[key])}`", meaning


def replaced_keys() -> Iterator[tuple[str, str]]:
    """Key or group without effect, and the setting that replaces it."""
    for key, setting in (YAML_REPLACED | DATA_KEYS).items():
        if setting is not None:
            yield f"`{key}`", setting or "nothing"
