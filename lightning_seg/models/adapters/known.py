"""Trains and evaluates the heads of Detectron2, of its projects and of this project through their own methods.

They return logits at 1/``common_stride`` of the input. An evaluation needs no more: ``inference`` upsamples them.
"""

from torch import Tensor

from lightning_seg.models.adapters.adapter import (
    Adapter,
    DenseAdapter,
    Features,
    Found,
    LossFunction,
    Size,
    dense,
    replaced,
    zero_where_nothing_counts,
)
from lightning_seg.models.adapters.foreign import losses_of_forward
from lightning_seg.models.adapters.masks import EoMTMasks, MaskClassification


class Layered(DenseAdapter):
    """``SemSegFPNHead``, ``DeepLabV3PlusHead`` and this project's heads: ``layers``, then losses or upsampling."""

    def layers(self, features: Features) -> Tensor:
        """Logits (N, K, h, w) at 1/``common_stride``."""
        logits: Tensor = self.head.layers(features)
        return logits

    def training_losses(self, features: Features, targets: Tensor, criterion: LossFunction | None) -> dict[str, Tensor]:
        logits = self.layers(features)
        return zero_where_nothing_counts((criterion or self.own_losses)(logits, targets), logits)

    def logits(self, features: Features, input_size: Size) -> tuple[Tensor, int]:
        return self.layers(features), self.stride


class DeepLabV3(Layered):
    """``DeepLabV3Head``, which has no ``layers``."""

    def layers(self, features: Features) -> Tensor:
        logits: Tensor = self.head.predictor(self.head.aspp(features[self.head.in_features[0]]))
        return logits


class PointRend(DenseAdapter):
    """``PointRendSemSegHead``: its main loss is that of a coarse head; in evaluation it refines the coarse logits."""

    def training_losses(self, features: Features, targets: Tensor, criterion: LossFunction | None) -> dict[str, Tensor]:
        return losses_of_forward(self, features, targets, criterion)

    def logits(self, features: Features, input_size: Size) -> tuple[Tensor, int]:
        refined, stride, _ = self._refined(features)
        return refined, stride

    def evaluate(self, features: Features, input_size: Size) -> list[Found]:
        return dense(*self._refined(features))

    def _refined(self, features: Features) -> tuple[Tensor, int, Tensor]:
        """Refined logits, their stride, and the coarse ones."""
        coarse = self.head.coarse_sem_seg_head.layers(features)
        with replaced(self.head.coarse_sem_seg_head, "layers", lambda _: coarse):
            refined: Tensor = self.head(features)[0]
        return refined, self.stride // 2**self.head.subdivision_steps, coarse


def known_adapters() -> dict[type, type[Adapter]]:
    """The adapter for each class of heads whose ``forward`` is known."""
    from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
    from detectron2.projects.deeplab.semantic_seg import DeepLabV3Head, DeepLabV3PlusHead
    from detectron2.projects.point_rend.semantic_seg import PointRendSemSegHead

    from lightning_seg.models.architectures.eomt import EoMTHead
    from lightning_seg.models.heads.head import Head
    from lightning_seg.models.heads.mask2former import Mask2FormerHead

    return {
        SemSegFPNHead: Layered,
        DeepLabV3PlusHead: Layered,
        Head: Layered,
        DeepLabV3Head: DeepLabV3,
        PointRendSemSegHead: PointRend,
        Mask2FormerHead: MaskClassification,
        EoMTHead: EoMTMasks,
    }
