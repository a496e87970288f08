"""Names of keys in each kind of config, so that messages about weights name keys that the reader can set."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ConfigKeys:
    """The keys of one kind of config."""

    input_format: str
    pixel_mean: str
    pixel_std: str
    stride_in_1x1: str
    norms: str


YAML_KEYS = ConfigKeys(
    input_format="INPUT.FORMAT",
    pixel_mean="MODEL.PIXEL_MEAN",
    pixel_std="MODEL.PIXEL_STD",
    stride_in_1x1="MODEL.RESNETS.STRIDE_IN_1X1",
    norms="MODEL.RESNETS.NORM",
)
LAZY_KEYS = ConfigKeys(
    input_format="model.input_format",
    pixel_mean="model.pixel_mean",
    pixel_std="model.pixel_std",
    stride_in_1x1="model.backbone.bottom_up.stages.stride_in_1x1",
    norms="model.backbone.bottom_up.stages.norm and model.backbone.bottom_up.stem.norm",
)
"""The keys of a LazyConfig, as the ResNets of Detectron2's model zoo have them."""
