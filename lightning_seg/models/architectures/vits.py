"""Builds the plain ViTs of EoMT, DINOv2's and DINOv3's, of the layers of transformers' ``eomt`` and ``eomt_dinov3``."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.errors import ConfigError
from lightning_seg.models.published_layers import layers_of

_COSINE, _SINE = "cosine", "sine"
"""Features that say how DINOv3 turns queries and keys of a patch, (patches, D / heads)."""


class EoMTBackbone(Backbone):  # type: ignore[misc]  # Detectron2 has no types
    """A ViT with DINOv2's position embeddings.

    They are interpolated to any whole number of patches; those of the trained size stay as they are. Its forward
    runs the layers before the queries; EoMT's head runs the others, ``last_blocks``.

    Args:
        config: transformers' config.
        parts: transformers' layers, of :func:`parts_of`.

    Attributes:
        model: transformers' name of the model.
        beginning: of the names of its classes.
        part_names: the rest of the names of those that are used.
    """

    model: ClassVar[str] = "eomt"
    beginning: ClassVar[str] = "Eomt"
    part_names: ClassVar[tuple[str, ...]] = ("Config", "Embeddings", "Layer", "ScaleBlock", "MaskHead")

    @staticmethod
    def settings_of(given: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of transformers' config.

        Args:
            given: those of ``MODEL.EOMT``, whose keys stand here in small letters, and others.

        Raises:
            ConfigError: if a setting is none of this kind of ViT.
        """
        return {key: value for key, value in given.items() if key != "pos_embed_rescale"}

    def __init__(self, config: Any, parts: Any) -> None:
        super().__init__()
        self.patch_size: int = config.patch_size
        self.grid: int = config.image_size // config.patch_size
        self.embeddings = parts.Embeddings(config)
        self.blocks = nn.ModuleList(parts.Layer(config) for _ in range(config.num_hidden_layers))
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.num_first = config.num_hidden_layers - config.num_blocks
        self.channels: int = config.hidden_size
        nn.init.trunc_normal_(self.embeddings.cls_token, std=config.initializer_range)
        self.make_positions(config, parts)

    def make_positions(self, config: Any, parts: Any) -> None:
        """Make what knows of positions."""
        nn.init.trunc_normal_(self.embeddings.position_embeddings.weight, std=config.initializer_range)

    @property
    def size_divisibility(self) -> int:
        return self.patch_size

    @property
    def last_blocks(self) -> nn.ModuleList:
        return self.blocks[self.num_first :]

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"patches": ShapeSpec(channels=self.channels, stride=self.patch_size)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (N, C, H, W) to tokens: ``patches`` (N, D, H / patch, W / patch), and ``prefix`` (N, P, D).

        With DINOv3, also what :func:`turns` reads.
        """
        patches, positions = self.embed(images)
        prefix = torch.cat([self.embeddings.cls_token, self.embeddings.register_tokens], 1).expand(
            images.shape[0], -1, -1
        )
        grid = (patches.shape[-2], patches.shape[-1])
        tokens = torch.cat([prefix, in_line(patches)], 1)
        for block in self.blocks[: self.num_first]:
            tokens = block(tokens, **turns(positions))
        first = prefix.shape[1]
        return {"prefix": tokens[:, :first], "patches": in_grid(tokens[:, first:], grid), **positions}

    def embed(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The patches (N, D, h, w) that the first layer gets, and what all layers get of their positions."""
        patches: Tensor = self.embeddings.patch_embeddings.projection(images)
        return patches + self._positions(patches.shape[-2], patches.shape[-1]), {}

    def _positions(self, height: int, width: int) -> Tensor:
        trained: Tensor = in_grid(self.embeddings.position_embeddings.weight[None], (self.grid, self.grid))
        if not torch.compiler.is_compiling() and (height, width) == (self.grid, self.grid):
            return trained  # as interpolation would give it
        return F.interpolate(trained, size=(height, width), mode="bicubic", align_corners=False)


class EoMTDinov3Backbone(EoMTBackbone):
    """A ViT with DINOv3's rotary positions, which know of no trained size. Training draws a scale of theirs."""

    model = "eomt_dinov3"
    beginning = "EomtDinov3"
    part_names = (*EoMTBackbone.part_names, "RotaryEmbedding")

    @staticmethod
    def settings_of(given: Mapping[str, Any]) -> dict[str, Any]:
        settings = dict(given)
        if settings.pop("use_swiglu_ffn"):
            raise ConfigError(
                "MODEL.EOMT.USE_SWIGLU_FFN is True, but EoMT's ViTs of DINOv3 have none: leave the key out"
            )
        rescale = settings.pop("pos_embed_rescale")
        if rescale < 1:
            raise ConfigError(f"MODEL.EOMT.POS_EMBED_RESCALE is {rescale:g}, but must be at least 1 (none)")
        hidden, least = settings["hidden_size"], 4 * settings["num_attention_heads"]
        if hidden % least:
            raise ConfigError(
                f"MODEL.EOMT.HIDDEN_SIZE is {hidden}, but rotary positions need a multiple of 4 · NUM_ATTENTION_HEADS, "
                f"{least}"
            )
        intermediate = hidden * settings.pop("mlp_ratio")
        return {**settings, "intermediate_size": intermediate, "pos_embed_rescale": rescale if rescale > 1 else None}

    def make_positions(self, config: Any, parts: Any) -> None:
        nn.init.zeros_(self.embeddings.register_tokens)
        self.embeddings.register_parameter("mask_token", None)  # of pretraining
        self.rope_embeddings = parts.RotaryEmbedding(config)

    def embed(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        cosine, sine = self.rope_embeddings(images)
        return self.embeddings.patch_embeddings(images), {_COSINE: cosine, _SINE: sine}


KINDS: dict[str, type[EoMTBackbone]] = {"DINOv2": EoMTBackbone, "DINOv3": EoMTDinov3Backbone}
"""Values of ``MODEL.EOMT.VIT``."""


def kind_of(vit: str) -> type[EoMTBackbone]:
    """The backbone of ``MODEL.EOMT.VIT``.

    Raises:
        ConfigError: if there is no such kind.
    """
    if vit not in KINDS:
        raise ConfigError(f"MODEL.EOMT.VIT is {vit!r}, but one of {', '.join(KINDS)} is needed")
    return KINDS[vit]


def parts_of(kind: type[EoMTBackbone]) -> Any:
    """Transformers' classes for a kind of ViT, by their names without what they begin with.

    Raises:
        DependencyError: if transformers is missing.
    """
    module = layers_of(kind.model, "EoMT")
    return SimpleNamespace(**{name: getattr(module, kind.beginning + name) for name in kind.part_names})


def turns(features: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """What a layer gets beside its tokens: how to turn queries and keys, for DINOv3; nothing for DINOv2."""
    return {"position_embeddings": (features[_COSINE], features[_SINE])} if _COSINE in features else {}


def in_line(patches: Tensor) -> Tensor:
    """Patches (N, D, h, w) as tokens (N, h · w, D)."""
    return patches.flatten(2).transpose(1, 2)


def in_grid(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """The other way round."""
    patches = tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], *grid)
    return patches.contiguous() if torch.compiler.is_compiling() else patches  # else a tracer asks how long a side is
