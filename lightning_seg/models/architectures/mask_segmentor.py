"""Adds Detectron2's ``SemanticSegmentor`` with the padding of Mask2Former's own project."""

from typing import TYPE_CHECKING, Any

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, SemanticSegmentor
from torch import nn

from lightning_seg.models.heads.mask2former import Mask2FormerHead
from lightning_seg.models.padding import pad_to

if TYPE_CHECKING:
    from detectron2.config import CfgNode


@META_ARCH_REGISTRY.register()
class MaskSegmentor(SemanticSegmentor):  # type: ignore[misc]  # Detectron2 has no types
    """Pads both sides of images to a multiple of ``MODEL.MASK_FORMER.SIZE_DIVISIBILITY``, too.

    Detectron2's own forward does so as well. An exported file names this class, which Detectron2 builds.
    """

    @configurable  # type: ignore[untyped-decorator]
    def __init__(self, *, size_divisibility: int, **parts: Any) -> None:
        super().__init__(**parts)
        pad_to(self.backbone, size_divisibility)

    @classmethod
    def from_config(cls, cfg: "CfgNode") -> dict[str, Any]:
        return {**super().from_config(cfg), "size_divisibility": cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY}


def segmentor_of(cfg: "CfgNode", backbone: Backbone, head: nn.Module) -> SemanticSegmentor:
    """The network of a backbone and a head: Detectron2's, or one that pads for masks where the config says so."""
    parts = {
        "backbone": backbone,
        "sem_seg_head": head,
        "pixel_mean": cfg.MODEL.PIXEL_MEAN,
        "pixel_std": cfg.MODEL.PIXEL_STD,
    }
    multiple = cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY
    if multiple > 1 and isinstance(head, Mask2FormerHead):
        return MaskSegmentor(size_divisibility=multiple, **parts)
    return SemanticSegmentor(**parts)
