"""Adds EoMT: a plain ViT, whose last layers also see queries, each of which gives a class and a mask.

Kerssies et al. 2025, https://arxiv.org/abs/2503.19108. The layers are transformers'.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, SemanticSegmentor
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.errors import ConfigError
from lightning_seg.models.architectures.annealing import Annealing
from lightning_seg.models.architectures.vits import (
    EoMTBackbone,
    in_grid,
    in_line,
    kind_of,
    parts_of,
    turns,
)
from lightning_seg.models.heads.mask_head import MaskHead
from lightning_seg.models.heads.mask_losses import MaskLosses, MaskPrediction, losses_of_config

if TYPE_CHECKING:
    from detectron2.config import CfgNode


class EoMTHead(MaskHead):
    """The queries, what reads classes and masks off them, and the losses.

    Args:
        vit: of the same network; it stays the owner of its layers.
        config: transformers' config.
        parts: transformers' layers.
        losses: the targets' rules and the weights of the losses.
        annealing: how often queries are kept to their masks.
    """

    vit: EoMTBackbone

    def __init__(self, vit: EoMTBackbone, config: Any, parts: Any, losses: MaskLosses, annealing: Annealing) -> None:
        super().__init__(losses, config.patch_size // 2**config.num_upscale_blocks)
        object.__setattr__(self, "vit", vit)  # no submodule: its weights have one name
        self.query = nn.Embedding(config.num_queries, config.hidden_size)
        self.upscale_block = parts.ScaleBlock(config)
        self.mask_head = parts.MaskHead(config)
        self.class_predictor = nn.Linear(config.hidden_size, config.num_labels + 1)
        self.annealing = annealing
        self.step, self.total_steps = 0, float("inf")

    def predictions(self, features: Mapping[str, Tensor]) -> list[MaskPrediction]:
        """What the queries say before each layer that sees them, and after the last; in evaluation the last alone.

        In evaluation, queries are kept to their masks only if annealing is off: with it, a trained network has no masks
        in its attention. So what a checkpoint predicts does not depend on the step.
        """
        patches = features["patches"]
        grid = (patches.shape[-2], patches.shape[-1])
        queries = self.query.weight.expand(patches.shape[0], -1, -1)
        tokens = torch.cat([queries, features["prefix"], in_line(patches)], 1)
        found = []
        shares = self.annealing.shares(self.step, self.total_steps)
        for block, share in zip(self.vit.last_blocks, shares, strict=True):
            kept = None
            if self.training or not self.annealing.enabled:
                found.append(self._predict(tokens, grid))
                kept = self._kept_to_masks(found[-1].masks, tokens, grid, share)
            tokens = block(tokens, kept, **turns(features))
        found.append(self._predict(tokens, grid))
        return found if self.training else found[-1:]

    def _predict(self, tokens: Tensor, grid: tuple[int, int]) -> MaskPrediction:
        tokens = self.vit.layernorm(tokens)
        queries = tokens[:, : self.query.num_embeddings]
        patches = in_grid(tokens[:, -grid[0] * grid[1] :], grid)
        masks = torch.einsum("nqc,nchw->nqhw", self.mask_head(queries), self.upscale_block(patches))
        return MaskPrediction(self.class_predictor(queries), masks)

    def _kept_to_masks(self, masks: Tensor, tokens: Tensor, grid: tuple[int, int], share: float) -> Tensor:
        """What is added to attention, (N, 1, T, T): a query that is kept to its mask does not look beyond it.

        Where it looks, 1 is added, as in transformers: it falls out of the softmax, but for its rounding.
        """
        inside = F.interpolate(masks, size=grid, mode="bilinear").flatten(2) > 0
        if share < 1:
            inside = inside | (torch.rand(inside.shape[:2], device=inside.device) > share)[..., None]
        count, length = inside.shape[1], tokens.shape[1]
        allowed = torch.ones(tokens.shape[0], 1, length, length, dtype=torch.bool, device=tokens.device)
        allowed[:, 0, :count, length - inside.shape[2] :] = inside
        return allowed.to(tokens.dtype).masked_fill(~allowed, torch.finfo(tokens.dtype).min)


@META_ARCH_REGISTRY.register()
class EoMT(SemanticSegmentor):  # type: ignore[misc]
    """Detectron2's ``SemanticSegmentor`` of the two; ``MODEL.EOMT`` describes them.

    Raises:
        ConfigError: if settings do not fit.
        DependencyError: if transformers is missing.
    """

    @configurable  # type: ignore[untyped-decorator]
    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)

    @classmethod
    def from_config(cls, cfg: "CfgNode") -> dict[str, Any]:
        settings = {key.lower(): value for key, value in cfg.MODEL.EOMT.items()}
        power = settings.pop("poly_power")
        annealed = {key: settings.pop(f"attn_mask_annealing_{key}") for key in ("enabled", "start_steps", "end_steps")}
        kind = kind_of(settings.pop("vit"))
        parts = parts_of(kind)
        _refuse_sizes(settings)
        if cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY > 1:
            raise ConfigError(
                f"MODEL.MASK_FORMER.SIZE_DIVISIBILITY is {cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY}, but EoMT pads to "
                "whole patches, MODEL.EOMT.PATCH_SIZE: leave the key out"
            )
        annealing = Annealing(settings["num_blocks"], **annealed, max_iter=cfg.SOLVER.MAX_ITER, power=power)
        settings |= {"num_channels": len(cfg.MODEL.PIXEL_MEAN), "num_labels": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES}
        config = parts.Config(**kind.settings_of(settings), attn_implementation="sdpa")
        backbone = kind(config, parts)
        return {
            "backbone": backbone,
            "sem_seg_head": EoMTHead(backbone, config, parts, losses_of_config(cfg), annealing),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }


def _refuse_sizes(settings: Mapping[str, Any]) -> None:
    least = {"num_upscale_blocks": 0, "num_register_tokens": 0}
    for key, value in settings.items():
        if isinstance(value, int) and not isinstance(value, bool) and value < least.get(key, 1):
            raise ConfigError(f"MODEL.EOMT.{key.upper()} is {value}, but must be at least {least.get(key, 1)}")
    multiples = (
        ("IMAGE_SIZE", "PATCH_SIZE", settings["patch_size"]),
        ("HIDDEN_SIZE", "NUM_ATTENTION_HEADS", settings["num_attention_heads"]),
        ("PATCH_SIZE", "2 ** NUM_UPSCALE_BLOCKS", 2 ** settings["num_upscale_blocks"]),
    )
    for key, name, divisor in multiples:
        if settings[key.lower()] % divisor:
            raise ConfigError(
                f"MODEL.EOMT.{key} is {settings[key.lower()]}, but a multiple of {name}, {divisor}, is needed"
            )
    if settings["num_blocks"] > settings["num_hidden_layers"]:
        raise ConfigError(
            f"MODEL.EOMT.NUM_BLOCKS is {settings['num_blocks']}, but there are only NUM_HIDDEN_LAYERS "
            f"{settings['num_hidden_layers']}"
        )
