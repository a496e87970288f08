"""Adds Mask2Former's head: queries that each say where something is, and what it is. Its layers are transformers'."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from lightning_seg.errors import ConfigError
from lightning_seg.models.heads.head import GROUPS, check_common_stride
from lightning_seg.models.heads.mask_head import MaskHead
from lightning_seg.models.heads.mask_initialisation import initialise
from lightning_seg.models.heads.mask_losses import MaskLosses, MaskPrediction, losses_of_config
from lightning_seg.models.published_layers import layers_of

if TYPE_CHECKING:
    from detectron2.config import CfgNode

ENCODED_LEVELS = 3
"""Levels that the deformable attention of the pixel decoder reads, as published."""


@SEM_SEG_HEADS_REGISTRY.register()
class Mask2FormerHead(MaskHead):
    """Mask2Former's pixel decoder, transformer decoder and losses (Cheng et al. 2022, https://arxiv.org/abs/2112.01527).

    The pixel decoder encodes the three coarsest levels by deformable attention and adds finer ones as a feature pyramid
    does. The transformer decoder refines queries, each of which gives a class and a mask of the finest level's size. A
    pixel's score of class k is Σ_q p_qk · σ(mask_q).

    Args:
        input_shape: channels and stride of each level.
        num_classes: K.
        common_stride: of the masks; must be the finest level's.
        losses: the targets' rules and the weights of the losses.
        encoded: names of the levels that deformable attention reads; none: the three coarsest.
        conv_dims: channels of the pixel decoder, a multiple of 32 of at least 64.
        mask_dims: channels of the features that masks are made of.
        hidden_dims: channels of a query.
        num_queries: Q.
        num_heads: of each attention.
        encoder_layers: of deformable attention.
        encoder_feedforward: hidden channels of their feed-forward networks.
        decoder_layers: of the transformer decoder, at least 1. ``DEC_LAYERS`` of the config is one more: it also counts
            the queries before the first layer, which are trained too.
        decoder_feedforward: hidden channels of their feed-forward networks.
        dropout: share of outputs that training drops in the pixel decoder.
        pre_norm: whether norms stand before a layer, not after it.
        project: whether levels are projected even where their channels fit the queries'.
        deep_supervision: whether the queries before and after each layer get losses, too.

    Raises:
        ConfigError: if there are fewer than three levels, or settings do not fit.
        DependencyError: if transformers is missing.
    """

    @configurable  # type: ignore[untyped-decorator]  # Detectron2 has no types
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        num_classes: int,
        common_stride: int,
        losses: MaskLosses,
        encoded: Sequence[str] = (),
        conv_dims: int = 256,
        mask_dims: int = 256,
        hidden_dims: int = 256,
        num_queries: int = 100,
        num_heads: int = 8,
        encoder_layers: int = 6,
        encoder_feedforward: int = 1024,
        decoder_layers: int = 9,
        decoder_feedforward: int = 2048,
        dropout: float = 0.0,
        pre_norm: bool = False,
        project: bool = False,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__(losses, common_stride)
        self.in_features = sorted(input_shape, key=lambda name: input_shape[name].stride)
        levels = [input_shape[name] for name in self.in_features]
        _refuse_levels(self.in_features, levels, encoded)
        check_common_stride(type(self).__name__, common_stride, self.in_features[0], levels[0].stride)
        _refuse_sizes(conv_dims, hidden_dims, num_heads, encoder_layers, decoder_layers, num_queries)
        parts = layers_of("mask2former", "Mask2FormerHead")
        settings = {
            "num_labels": num_classes,
            "feature_size": conv_dims,
            "mask_feature_size": mask_dims,
            "hidden_dim": hidden_dims,
            "num_queries": num_queries,
            "num_attention_heads": num_heads,
            "encoder_layers": encoder_layers,
            "encoder_feedforward_dim": encoder_feedforward,
            "decoder_layers": decoder_layers + 1,
            "dim_feedforward": decoder_feedforward,
            "pre_norm": pre_norm,
            "enforce_input_projection": project,
            # Only the number of finer levels follows from these; sizes are taken from the features.
            "feature_strides": tuple(2**place for place in range(len(levels))),
            "common_stride": 1,
        }
        config = parts.Mask2FormerConfig(**settings, dropout=dropout)
        self.pixel_decoder = parts.Mask2FormerPixelDecoder(config, [level.channels for level in levels])
        config = parts.Mask2FormerConfig(**settings, dropout=0.0)  # more would also skip whole layers
        self.transformer_module = parts.Mask2FormerTransformerModule(in_features=conv_dims, config=config)
        # Before 5.24, transformers keeps them in a list, where no optimiser, checkpoint or device finds them.
        self.transformer_module.input_projections = nn.ModuleList(self.transformer_module.input_projections)
        self.class_predictor = nn.Linear(hidden_dims, num_classes + 1)
        initialise(self.pixel_decoder, self.transformer_module)
        self.deep_supervision = deep_supervision

    @classmethod
    def from_config(cls, cfg: "CfgNode", input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """The arguments, from ``cfg.MODEL.SEM_SEG_HEAD`` and ``cfg.MODEL.MASK_FORMER``."""
        head, masks = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
        if head.NORM != "GN":
            raise ConfigError(
                f"MODEL.SEM_SEG_HEAD.NORM is {head.NORM!r}, but Mask2FormerHead has GN alone, as published: "
                "set it to GN"
            )
        return {
            "input_shape": {name: input_shape[name] for name in head.IN_FEATURES},
            "num_classes": head.NUM_CLASSES,
            "common_stride": head.COMMON_STRIDE,
            "losses": losses_of_config(cfg),
            "encoded": head.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES,
            "conv_dims": head.CONVS_DIM,
            "mask_dims": head.MASK_DIM,
            "hidden_dims": masks.HIDDEN_DIM,
            "num_queries": masks.NUM_OBJECT_QUERIES,
            "num_heads": masks.NHEADS,
            "encoder_layers": head.TRANSFORMER_ENC_LAYERS,
            "encoder_feedforward": head.TRANSFORMER_ENC_DIM_FEEDFORWARD,
            "decoder_layers": masks.DEC_LAYERS - 1,
            "decoder_feedforward": masks.DIM_FEEDFORWARD,
            "dropout": masks.DROPOUT,
            "pre_norm": masks.PRE_NORM,
            "project": masks.ENFORCE_INPUT_PROJ,
            "deep_supervision": masks.DEEP_SUPERVISION,
        }

    def predictions(self, features: Mapping[str, Tensor]) -> list[MaskPrediction]:
        """What the queries say before the first layer and after each, the last one's last; or the last alone.

        Only the last is given in evaluation, and without deep supervision.
        """
        if features[self.in_features[0]].is_meta:
            self.pixel_decoder.eval()  # in training it looks at numbers, to clamp them
        decoded = self.pixel_decoder([features[name] for name in self.in_features])
        found = self.transformer_module(decoded.multi_scale_features, decoded.mask_features)
        states, masks = found.intermediate_hidden_states, found.masks_queries_logits
        kept = slice(None) if self.training and self.deep_supervision else slice(-1, None)
        return [
            MaskPrediction(self.class_predictor(state.transpose(0, 1)), mask)
            for state, mask in zip(states[kept], masks[kept], strict=True)
        ]


def _refuse_levels(names: Sequence[str], levels: Sequence[ShapeSpec], encoded: Sequence[str]) -> None:
    key = "MODEL.SEM_SEG_HEAD.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES"
    if len(levels) < ENCODED_LEVELS:
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.IN_FEATURES is {', '.join(names)}, but Mask2FormerHead needs three levels or more: "
            "name more, or choose a backbone that gives more, such as a feature pyramid"
        )
    coarsest = list(names[-ENCODED_LEVELS:])
    if encoded and sorted(encoded) != sorted(coarsest):
        raise ConfigError(
            f"{key} is {', '.join(encoded)}, but deformable attention reads the three coarsest of IN_FEATURES, "
            f"{', '.join(coarsest)}: name these, or leave the key out"
        )


def _refuse_sizes(
    conv_dims: int, hidden_dims: int, num_heads: int, encoder_layers: int, decoder_layers: int, num_queries: int
) -> None:
    if conv_dims % GROUPS or conv_dims < 2 * GROUPS:  # one channel of one pixel has no statistics
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.CONVS_DIM is {conv_dims}, but Mask2FormerHead needs a multiple of {GROUPS}, the "
            f"groups of its GN, of at least {2 * GROUPS}"
        )
    for key, channels in (("MODEL.SEM_SEG_HEAD.CONVS_DIM", conv_dims), ("MODEL.MASK_FORMER.HIDDEN_DIM", hidden_dims)):
        if num_heads < 1 or channels % num_heads or channels % 2:
            raise ConfigError(
                f"{key} is {channels} and MODEL.MASK_FORMER.NHEADS {num_heads}, but an even number of channels that "
                "the heads divide is needed: mend either"
            )
    if encoder_layers < 1:
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS is {encoder_layers}, but must be at least 1 (6 as published)"
        )
    if decoder_layers < 1:
        raise ConfigError(
            f"MODEL.MASK_FORMER.DEC_LAYERS is {decoder_layers + 1}, but must be at least 2 (10 as published): it "
            "counts the queries before the first layer, too"
        )
    if num_queries < 1:
        raise ConfigError(f"MODEL.MASK_FORMER.NUM_OBJECT_QUERIES is {num_queries}, but must be at least 1")
