"""Trains and evaluates the heads of Detectron2, of its projects and of this project through their own methods.

They return logits at 1/``common_stride`` of the input. An evaluation needs no more: ``inference`` upsamples them.
"""

from torch import Tensor

from lightning_seg.models.adapters.adapter import (
    Adapter,
    Features,
    Found,
    LossFunction,
    Size,
    dense,
    replaced,
    zero_where_nothing_counts,
)
from lightning_seg.models.adapters.foreign import losses_of_forward


class Layered(Adapter):
    """``SemSegFPNHead``, ``DeepLabV3PlusHead`` and this project's heads: ``layers``, then losses or upsampling."""

    def logits(self, features: Features) -> Tensor:
        """(N, K, h, w) at 1/``common_stride``."""
        logits: Tensor = self.head.layers(features)
        return logits

    def training_losses(self, features: Features, targets: Tensor, criterion: LossFunction | None) -> dict[str, Tensor]:
        logits = self.logits(features)
        return zero_where_nothing_counts((criterion or self.own_losses)(logits, targets), logits)

    def evaluate(self, features: Features, input_size: Size) -> list[Found]:
        logits = self.logits(features)
        return dense(logits, self.stride, logits)


class DeepLabV3(Layered):
    """``DeepLabV3Head``, which has no ``layers``."""

    def logits(self, features: Features) -> Tensor:
        logits: Tensor = self.head.predictor(self.head.aspp(features[self.head.in_features[0]]))
        return logits


class PointRend(Adapter):
    """``PointRendSemSegHead``: its main loss is that of a coarse head; in evaluation it refines the coarse logits."""

    def training_losses(self, features: Features, targets: Tensor, criterion: LossFunction | None) -> dict[str, Tensor]:
        return losses_of_forward(self, features, targets, criterion)

    def evaluate(self, features: Features, input_size: Size) -> list[Found]:
        coarse = self.head.coarse_sem_seg_head.layers(features)
        with replaced(self.head.coarse_sem_seg_head, "layers", lambda _: coarse):
            refined: Tensor = self.head(features)[0]
        return dense(refined, self.stride * coarse.shape[-2] // refined.shape[-2], coarse)


def known_adapters() -> dict[type, type[Adapter]]:
    """The adapter for each class of heads whose ``forward`` is known."""
    from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
    from detectron2.projects.deeplab.semantic_seg import DeepLabV3Head, DeepLabV3PlusHead
    from detectron2.projects.point_rend.semantic_seg import PointRendSemSegHead

    from lightning_seg.models.heads.head import Head

    return {
        SemSegFPNHead: Layered,
        DeepLabV3PlusHead: Layered,
        Head: Layered,
        DeepLabV3Head: DeepLabV3,
        PointRendSemSegHead: PointRend,
    }
