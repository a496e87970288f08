"""A segmentation head of one's own: two convolutions on one level of the backbone."""

from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F


@SEM_SEG_HEADS_REGISTRY.register()
class TwoConvolutions(nn.Module):
    """What lightning_seg asks of a head: ``losses`` that ``forward`` calls, ``common_stride`` and ``ignore_value``."""

    def __init__(self, cfg, input_shape: dict[str, ShapeSpec]) -> None:
        super().__init__()
        settings = cfg.MODEL.SEM_SEG_HEAD
        self.level = settings.IN_FEATURES[0]
        self.common_stride = input_shape[self.level].stride  # input pixels per logit
        self.ignore_value = settings.IGNORE_VALUE
        self.hidden = nn.Conv2d(input_shape[self.level].channels, settings.CONVS_DIM, kernel_size=3, padding=1)
        self.predictor = nn.Conv2d(settings.CONVS_DIM, settings.NUM_CLASSES, kernel_size=1)

    def forward(self, features: dict[str, Tensor], targets: Tensor | None = None):
        logits = self.predictor(F.relu(self.hidden(features[self.level])))
        if self.training:
            return None, self.losses(logits, targets)
        return F.interpolate(logits, scale_factor=self.common_stride, mode="bilinear", align_corners=False), {}

    def losses(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        logits = F.interpolate(logits.float(), scale_factor=self.common_stride, mode="bilinear", align_corners=False)
        return {"loss_sem_seg": F.cross_entropy(logits, targets, ignore_index=self.ignore_value)}
