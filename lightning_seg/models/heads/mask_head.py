"""What heads that classify masks share: a forward, as Detectron2 calls it, around the predictions of their queries."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from lightning_seg.models.heads.mask_losses import MaskLosses, MaskPrediction, semantic_scores


class MaskHead(nn.Module, ABC):
    """A head whose queries each give a class and a mask.

    Args:
        losses: the targets' rules and the weights of the losses.
        common_stride: of the masks.
    """

    def __init__(self, losses: MaskLosses, common_stride: int) -> None:
        super().__init__()
        self.criterion = losses
        self.common_stride = common_stride
        self.ignore_value = losses.ignore_value

    @abstractmethod
    def predictions(self, features: Mapping[str, Tensor]) -> list[MaskPrediction]:
        """What the queries say, in each stage that gets losses; the last stage comes last, and alone in evaluation."""

    def forward(
        self, features: Mapping[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """In training, None and the losses; in evaluation, scores (N, K, h · stride, w · stride) and no losses.

        These scores are held whole, with all masks; :mod:`lightning_seg.inference` gives the same by bands.
        """
        predictions = self.predictions(features)
        if self.training:
            assert targets is not None, "training needs targets"
            return None, self.criterion(predictions, targets)
        return semantic_scores(predictions[-1], self.common_stride), {}
