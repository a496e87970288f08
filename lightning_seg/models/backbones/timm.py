"""Makes any timm model with feature levels a Detectron2 backbone."""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import Backbone
from torch import Tensor

from lightning_seg.errors import FOREIGN, ConfigError
from lightning_seg.models.backbones.pyramid import build_fpn, build_simple_pyramid
from lightning_seg.models.backbones.timm_names import require_known

if TYPE_CHECKING:
    from detectron2.config import CfgNode

ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
"""Arguments with which timm's models take images of any size, in the order in which they are tried: ViT, Swin, CNN."""

WHOLE = 32
"""Pixels that the sides of an input are a multiple of where the coarsest stride of the chosen levels does not do."""


class TimmBackbone(Backbone):  # type: ignore[misc]  # Detectron2 has no types
    """``timm.create_model(name, features_only=True)`` with random weights; it returns levels by name.

    Level i of timm's ``feature_info``, counted from 0, is ``stage{i + 1}``. Names go by position, since strides repeat
    with dilation and in a ViT. A CNN's stem at stride 2 is ``stage1``; ConvNeXt and Swin begin with stride 4; the
    levels of a ViT are its blocks.

    Args:
        name: of a model of timm, with or without a tag.
        out_indices: positions in ``feature_info``, which may be negative; empty for timm's default: all of a CNN, the
            last few blocks of a ViT. Layers after the last position are left out.
        output_stride: pixels per feature of the coarsest level; below 32, the model dilates.
        drop_path_rate: of stochastic depth, 0 to 1.
        in_channels: of the image.

    Raises:
        DependencyError: if timm is not installed.
        ConfigError: if timm does not know the model, gives no levels of it or refuses the arguments, or if the model
            does not take all sizes that are multiples of its coarsest stride, or of 32.
    """

    def __init__(
        self,
        name: str,
        *,
        out_indices: Sequence[int] = (),
        output_stride: int = 32,
        drop_path_rate: float = 0.0,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        arguments: dict[str, Any] = {"in_chans": in_channels}
        if out_indices:
            arguments["out_indices"] = tuple(out_indices)
        if output_stride != 32:  # many models have only this stride, and no such argument
            arguments["output_stride"] = output_stride
        if drop_path_rate > 0:  # likewise
            arguments["drop_path_rate"] = drop_path_rate
        self.network: Any = _create(name, arguments)
        info = self.network.feature_info
        positions = sorted(position % len(info.info) for position in info.out_indices)
        self.shapes = {
            f"stage{position + 1}": ShapeSpec(channels=channels, stride=stride)
            for position, channels, stride in zip(
                positions, info.channels(positions), info.reduction(positions), strict=True
            )
        }
        self.channels_last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"
        self.divisibility = int(max(shape.stride for shape in self.shapes.values()))
        try:
            _require_promised_shapes(self, name, in_channels)
        except ConfigError as error:  # perhaps of windows that are larger than the coarsest stride
            if self.divisibility >= WHOLE:
                raise
            self.divisibility = WHOLE
            try:
                _require_promised_shapes(self, name, in_channels)
            except ConfigError:
                raise error from None

    @property
    def size_divisibility(self) -> int:
        """Height and width of a batch are padded to a multiple of this, in pixels: the coarsest stride, or 32."""
        return self.divisibility

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each level, from fine to coarse."""
        return dict(self.shapes)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Levels (N, channels, H / stride, W / stride) of normalised images (N, C, H, W); nothing is padded."""
        features = self.network(images)
        if self.channels_last:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        return dict(zip(self.shapes, features, strict=True))


def build_timm_backbone(cfg: "CfgNode", input_shape: ShapeSpec) -> TimmBackbone:
    """The model that ``MODEL.TIMM`` describes; it ignores ``MODEL.BACKBONE.FREEZE_AT``, see the package."""
    return TimmBackbone(
        cfg.MODEL.TIMM.NAME,
        out_indices=cfg.MODEL.TIMM.OUT_INDICES,
        output_stride=cfg.MODEL.TIMM.OUTPUT_STRIDE,
        drop_path_rate=cfg.MODEL.TIMM.DROP_PATH_RATE,
        in_channels=input_shape.channels,
    )


def build_timm_fpn_backbone(cfg: "CfgNode", input_shape: ShapeSpec) -> Backbone:
    """The model that ``MODEL.TIMM`` describes under a pyramid of ``p2``, ``p3`` … of stride 4, 8 …

    If the strides of the levels double, it is Detectron2's FPN. If all levels have one stride, as in a ViT, it is
    SimpleFeaturePyramid over the last level.

    Raises:
        ConfigError: as :class:`TimmBackbone`, :func:`build_fpn` and :func:`build_simple_pyramid` do.
    """
    backbone = build_timm_backbone(cfg, input_shape)
    strides = {shape.stride for shape in backbone.output_shape().values()}
    return build_simple_pyramid(cfg, backbone) if len(strides) == 1 else build_fpn(cfg, backbone)


def _create(name: str, arguments: dict[str, Any]) -> Any:
    require_known(name)
    import timm

    for any_size in ANY_SIZE:
        try:
            network = timm.create_model(name, features_only=True, **any_size, **arguments)
        except TypeError as error:
            if any(argument in str(error) for argument in any_size):
                continue  # it was refused before anything was built
            raise _refusal(name, arguments, error) from error
        except FOREIGN as error:
            raise _refusal(name, arguments, error) from error
        if not hasattr(network, "feature_info"):
            raise _refusal(name, arguments, "it has no feature_info")
        return network
    raise AssertionError("the last way to create a model has no argument that could be refused")


def _refusal(name: str, arguments: dict[str, Any], reason: object) -> ConfigError:
    cause = f"{type(reason).__name__}: {reason}" if isinstance(reason, Exception) else reason
    given = ", ".join(f"{key}={value}" for key, value in arguments.items())
    return ConfigError(
        f"MODEL.TIMM.NAME {name}: timm gives no feature levels (features_only) of it with {given}: {cause}. "
        "Mend MODEL.TIMM.OUT_INDICES, OUTPUT_STRIDE or DROP_PATH_RATE, or choose another model"
    )


def _require_promised_shapes(backbone: TimmBackbone, name: str, in_channels: int) -> None:
    """Refuse models that take only one image size, or whose levels are not as ``feature_info`` says.

    This runs a forward pass on the meta device, which computes only shapes, at a size that no model was made for.
    """
    height, width = 8 * backbone.size_divisibility, 5 * backbone.size_divisibility
    remedy = "choose a model for images of any size, such as a CNN, Swin or ViT"
    probe = copy.deepcopy(backbone).to("meta").eval()
    try:
        with torch.no_grad():
            features = probe(torch.empty(1, in_channels, height, width, device="meta"))
    except Exception as error:  # every model has its own way to refuse a size
        made_for = "×".join(str(side) for side in backbone.network.pretrained_cfg["input_size"][1:])
        raise ConfigError(
            f"MODEL.TIMM.NAME {name} was made for {made_for} pixels and refuses {height}×{width} "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}): {remedy}"
        ) from error
    for level, shape in backbone.output_shape().items():
        expected = (shape.channels, height / shape.stride, width / shape.stride)
        found = tuple(features[level].shape[1:])
        if found != expected:
            raise ConfigError(
                f"MODEL.TIMM.NAME {name} gives {level} (stride {shape.stride}) of {height}×{width} pixels as "
                f"{found}, but {expected} is what its stride promises: {remedy}"
            )


for _build in (build_timm_backbone, build_timm_fpn_backbone):
    BACKBONE_REGISTRY.register(_build)
