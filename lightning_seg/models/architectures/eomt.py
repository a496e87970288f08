"""Adds EoMT: a plain ViT, whose last layers also see queries, each of which gives a class and a mask.

Kerssies et al. 2025, https://arxiv.org/abs/2503.19108. The layers are transformers'.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, SemanticSegmentor
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.errors import ConfigError
from lightning_seg.models.architectures.annealing import Annealing
from lightning_seg.models.heads.mask_head import MaskHead
from lightning_seg.models.heads.mask_losses import MaskLosses, MaskPrediction, losses_of_config
from lightning_seg.models.published_layers import layers_of

if TYPE_CHECKING:
    from detectron2.config import CfgNode


class EoMTBackbone(Backbone):  # type: ignore[misc]  # Detectron2 has no types
    """The ViT. Its forward runs the layers before the queries; :class:`EoMTHead` runs the others, ``last_blocks``.

    Position embeddings are interpolated to any whole number of patches; those of the trained size stay as they are.

    Args:
        config: transformers' ``EomtConfig``.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        parts = layers_of("eomt", "EoMT")
        self.patch_size: int = config.patch_size
        self.grid: int = config.image_size // config.patch_size
        self.embeddings = parts.EomtEmbeddings(config)
        self.blocks = nn.ModuleList(parts.EomtLayer(config) for _ in range(config.num_hidden_layers))
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.num_first = config.num_hidden_layers - config.num_blocks
        self.channels: int = config.hidden_size
        for embedding in (self.embeddings.cls_token, self.embeddings.position_embeddings.weight):
            nn.init.trunc_normal_(embedding, std=config.initializer_range)

    @property
    def size_divisibility(self) -> int:
        return self.patch_size

    @property
    def last_blocks(self) -> nn.ModuleList:
        return self.blocks[self.num_first :]

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"patches": ShapeSpec(channels=self.channels, stride=self.patch_size)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (N, C, H, W) to tokens: ``patches`` (N, D, H / patch, W / patch), and ``prefix`` (N, P, D)."""
        patches = self.embeddings.patch_embeddings.projection(images)
        height, width = patches.shape[-2:]
        patches = patches + self._positions(height, width)
        prefix = torch.cat([self.embeddings.cls_token, self.embeddings.register_tokens], 1).expand(
            images.shape[0], -1, -1
        )
        tokens = torch.cat([prefix, _in_line(patches)], 1)
        for block in self.blocks[: self.num_first]:
            tokens = block(tokens)
        first = prefix.shape[1]
        return {"prefix": tokens[:, :first], "patches": _in_grid(tokens[:, first:], (height, width))}

    def _positions(self, height: int, width: int) -> Tensor:
        trained: Tensor = _in_grid(self.embeddings.position_embeddings.weight[None], (self.grid, self.grid))
        if not torch.compiler.is_compiling() and (height, width) == (self.grid, self.grid):
            return trained  # as interpolation would give it
        return F.interpolate(trained, size=(height, width), mode="bicubic", align_corners=False)


class EoMTHead(MaskHead):
    """The queries, what reads classes and masks off them, and the losses.

    Args:
        vit: of the same network; it stays the owner of its layers.
        config: transformers' ``EomtConfig``.
        losses: the targets' rules and the weights of the losses.
        annealing: how often queries are kept to their masks.
    """

    vit: EoMTBackbone

    def __init__(self, vit: EoMTBackbone, config: Any, losses: MaskLosses, annealing: Annealing) -> None:
        super().__init__(losses, config.patch_size // 2**config.num_upscale_blocks)
        parts = layers_of("eomt", "EoMT")
        object.__setattr__(self, "vit", vit)  # no submodule: its weights have one name
        self.query = nn.Embedding(config.num_queries, config.hidden_size)
        self.upscale_block = parts.EomtScaleBlock(config)
        self.mask_head = parts.EomtMaskHead(config)
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
        tokens = torch.cat([queries, features["prefix"], _in_line(patches)], 1)
        found = []
        shares = self.annealing.shares(self.step, self.total_steps)
        for block, share in zip(self.vit.last_blocks, shares, strict=True):
            kept = None
            if self.training or not self.annealing.enabled:
                found.append(self._predict(tokens, grid))
                kept = self._kept_to_masks(found[-1].masks, tokens, grid, share)
            tokens = block(tokens, kept)
        found.append(self._predict(tokens, grid))
        return found if self.training else found[-1:]

    def _predict(self, tokens: Tensor, grid: tuple[int, int]) -> MaskPrediction:
        tokens = self.vit.layernorm(tokens)
        queries = tokens[:, : self.query.num_embeddings]
        patches = _in_grid(tokens[:, -grid[0] * grid[1] :], grid)
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
        _refuse_sizes(settings)
        annealing = Annealing(settings["num_blocks"], **annealed, max_iter=cfg.SOLVER.MAX_ITER, power=power)
        config = layers_of("eomt", "EoMT").EomtConfig(
            **settings,
            num_channels=len(cfg.MODEL.PIXEL_MEAN),
            num_labels=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            attn_implementation="sdpa",
        )
        backbone = EoMTBackbone(config)
        return {
            "backbone": backbone,
            "sem_seg_head": EoMTHead(backbone, config, losses_of_config(cfg), annealing),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }


def _in_line(patches: Tensor) -> Tensor:
    """Patches (N, D, h, w) as tokens (N, h · w, D)."""
    return patches.flatten(2).transpose(1, 2)


def _in_grid(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """The other way round."""
    patches = tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], *grid)
    return patches.contiguous() if torch.compiler.is_compiling() else patches  # else a tracer asks how long a side is


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
