"""Adds whole architectures to Detectron2's registry, for ``MODEL.META_ARCHITECTURE``.

This file declares the keys of the config, and imports no architecture before :func:`register_architectures`.
"""

from typing import TYPE_CHECKING, Any

from lightning_seg.errors import ConfigError

if TYPE_CHECKING:
    from detectron2.config import CfgNode

EOMT = "EoMT"
"""A plain ViT that segments. It builds its backbone and head itself, and so does not read ``MODEL.BACKBONE``."""


def add_architectures_config(cfg: "CfgNode") -> None:
    """Declare, in place, the keys of EoMT: names of transformers' configs and of EoMT's own project.

    The defaults are a ViT-S/16 of the published semantic models. The losses have the keys of ``MODEL.MASK_FORMER``.
    """
    from detectron2.config import CfgNode

    eomt = cfg.MODEL.EOMT = CfgNode()
    # DINOv2 or DINOv3: the one has position embeddings, the other rotary positions.
    eomt.VIT = "DINOv2"
    # DINOv3's training multiplies positions by up to this, or divides them; 1: neither.
    eomt.POS_EMBED_RESCALE = 2.0
    # The height and width that the position embeddings are made for; other sizes interpolate them.
    eomt.IMAGE_SIZE = 512
    # Side of a patch, in pixels.
    eomt.PATCH_SIZE = 16
    # Channels of a patch.
    eomt.HIDDEN_SIZE = 384
    # Layers of the ViT.
    eomt.NUM_HIDDEN_LAYERS = 12
    # Heads of each attention.
    eomt.NUM_ATTENTION_HEADS = 6
    # Hidden channels of a layer's feed-forward network, as a multiple of HIDDEN_SIZE.
    eomt.MLP_RATIO = 4
    # Whether that network is gated, as in DINOv2's giant ViT.
    eomt.USE_SWIGLU_FFN = False
    # What multiplies the output of each part of a layer before training.
    eomt.LAYERSCALE_VALUE = 1.0
    # Share of the samples for which training skips a part of a layer.
    eomt.DROP_PATH_RATE = 0.0
    # Tokens that stand for no patch, beside the class token.
    eomt.NUM_REGISTER_TOKENS = 4
    # Each doubles the size of the masks.
    eomt.NUM_UPSCALE_BLOCKS = 2
    # How many of the last layers see the queries.
    eomt.NUM_BLOCKS = 3
    # Queries: the classes and masks that an image gets at most.
    eomt.NUM_QUERIES = 100
    # Whether training keeps ever fewer queries to their masks, and evaluation none; else all are kept, always.
    eomt.ATTN_MASK_ANNEALING_ENABLED = True
    # Steps at which a layer begins to keep fewer, one for each of NUM_BLOCKS. Counted as SOLVER.STEPS are, and
    # stretched to the run as these. Empty: as published, from 1/6 to 5/6 of the run.
    eomt.ATTN_MASK_ANNEALING_START_STEPS = ()
    # Steps at which a layer keeps none.
    eomt.ATTN_MASK_ANNEALING_END_STEPS = ()
    # Exponent of the fall between the two; 1: a straight line.
    eomt.POLY_POWER = 0.9


def register_architectures() -> None:
    """Register these architectures for ``MODEL.META_ARCHITECTURE``; a second call does nothing."""
    from lightning_seg.models.architectures import eomt, mask_segmentor  # noqa: F401


def architecture_of(name: str) -> Any:
    """The class for ``MODEL.META_ARCHITECTURE``; None if it does not derive from ``SemanticSegmentor``.

    Raises:
        ConfigError: if it does, but its own forward would not be used.
    """
    from detectron2.modeling import META_ARCH_REGISTRY, SemanticSegmentor

    register_architectures()
    if name not in META_ARCH_REGISTRY:
        return None
    found = META_ARCH_REGISTRY.get(name)
    if not (isinstance(found, type) and issubclass(found, SemanticSegmentor)):
        return None
    if getattr(found, "forward", None) is not SemanticSegmentor.forward:
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE {name} has a forward of its own, which would not be called: its backbone and its "
            "sem_seg_head are. Move what it does into one of the two"
        )
    return found
