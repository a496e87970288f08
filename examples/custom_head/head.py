"""A segmentation head of one's own: two convolutions on one level of the backbone, with a config key and a loss."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.models.own_keys import declares_keys


@declares_keys
def add_two_convolutions_config(cfg: CfgNode) -> None:
    """The head's own keys with their defaults; all others are Detectron2's."""
    cfg.MODEL.TWO_CONVOLUTIONS = CfgNode({"LABEL_SMOOTHING": 0.0})


@SEM_SEG_HEADS_REGISTRY.register()
class TwoConvolutions(nn.Module):
    """What lightning_seg asks of a head: ``losses`` that ``forward`` calls, ``common_stride`` and ``ignore_value``."""

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        super().__init__()
        settings = cfg.MODEL.SEM_SEG_HEAD
        self.level = settings.IN_FEATURES[0]
        self.common_stride = input_shape[self.level].stride  # input pixels per logit
        self.ignore_value = settings.IGNORE_VALUE
        self.label_smoothing = cfg.MODEL.TWO_CONVOLUTIONS.LABEL_SMOOTHING
        self.hidden = nn.Conv2d(input_shape[self.level].channels, settings.CONVS_DIM, kernel_size=3, padding=1)
        self.predictor = nn.Conv2d(settings.CONVS_DIM, settings.NUM_CLASSES, kernel_size=1)

    def forward(self, features: dict[str, Tensor], targets: Tensor | None = None):
        logits = self.predictor(F.relu(self.hidden(features[self.level])))
        if self.training:
            return None, self.losses(logits, targets)
        return F.interpolate(logits, scale_factor=self.common_stride, mode="bilinear", align_corners=False), {}

    def losses(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of logits (N, K, h, w) and targets (N, H, W), in training and in validation."""
        logits = F.interpolate(logits.float(), scale_factor=self.common_stride, mode="bilinear", align_corners=False)
        loss = F.cross_entropy(logits, targets, ignore_index=self.ignore_value, label_smoothing=self.label_smoothing)
        return {"loss_sem_seg": loss}
