"""Texts of lazy configs."""

OPTIMIZER = """
optimizer = LazyConfig.load(str(zoo / "optim.py")).AdamW
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.1),
    warmup_length=0.3,
    warmup_factor=0.01,
)
"""

TINY = """
from importlib.resources import files
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler

zoo = files("detectron2") / "model_zoo" / "configs" / "common"
model = LazyConfig.load(str(zoo / "models" / "panoptic_fpn.py")).model
del model.backbone.bottom_up.stages.stride_in_1x1  # ResNet-18's blocks have no such convolution
model.backbone.bottom_up.stages.depth = 18
model.backbone.bottom_up.stages.norm = model.backbone.bottom_up.stem.norm = "BN"
model.backbone.out_channels = 16
model.sem_seg_head.conv_dims = 16
model.sem_seg_head.norm = "BN"
train = dict(init_checkpoint="", max_iter=7)
"""
