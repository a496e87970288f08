"""Adds a second, simple head on an inner stage; it helps training, and predictions do not use it."""

from typing import Any

from torch import Tensor, nn

from lightning_seg.errors import ConfigError


class AuxiliaryHead(nn.Module):
    """A fully convolutional head: 3×3 convolution, BatchNorm, ReLU, dropout, 1×1 convolution.

    It is the deep supervision of PSPNet (Zhao et al. 2017), with the layers of mmsegmentation's FCNHead with one
    convolution.

    Args:
        backbone: a Detectron2 backbone. For an FPN, the stage is one of its ``bottom_up``.
        stage: name of the stage's output, such as ``res4``.
        num_classes: K.

    Raises:
        ConfigError: if the backbone has no such stage.
    """

    def __init__(self, backbone: Any, stage: str, num_classes: int) -> None:
        super().__init__()
        source = getattr(backbone, "bottom_up", backbone)
        shapes = source.output_shape()
        if stage not in shapes:
            raise ConfigError(
                f"model.auxiliary_stage {stage!r} is no output of {type(source).__name__}: it has {', '.join(shapes)}"
            )
        channels = shapes[stage].channels
        width = max(channels // 4, num_classes)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Dropout2d(0.1),
            nn.Conv2d(width, num_classes, 1),
        )
        self.stage = stage
        self._features: Tensor | None = None
        source.register_forward_hook(self._keep)

    def forward(self) -> Tensor:
        """Logits (N, K, h, w) for the batch that the backbone has just seen; h and w are those of the stage."""
        assert self._features is not None
        features, self._features = self._features, None
        logits: Tensor = self.layers(features)
        return logits

    def _keep(self, module: nn.Module, inputs: Any, outputs: dict[str, Tensor]) -> None:
        self._features = outputs[self.stage] if self.training else None
