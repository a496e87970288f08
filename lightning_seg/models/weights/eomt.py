"""Renames weights for EoMT: those of transformers' whole model, and those of timm's ViTs, such as DINOv2."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from lightning_seg.errors import DependencyError

_CLASS = "backbone.embeddings.cls_token"
_REGISTERS = "backbone.embeddings.register_tokens"
_PATCHES = "backbone.embeddings.patch_embeddings.projection.weight"
_POSITIONS = "backbone.embeddings.position_embeddings.weight"

_STATE = ("attn_mask_probs", "criterion.empty_weight")
"""What transformers stores beside weights: how far the annealing is, and a setting."""

_OF_TIMM = (
    (re.compile(r"\.attn\.proj\."), ".attention.out_proj."),
    (re.compile(r"\.ls(\d)\.gamma$"), r".layer_scale\1.lambda1"),
    (re.compile(r"^norm\."), "layernorm."),
    (re.compile(r"^patch_embed\.proj\."), "embeddings.patch_embeddings.projection."),
)


def eomt_tensors(stored: Mapping[str, Tensor], network: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """A file's tensors by the names of EoMT; None if the network is another, or the file neither of the two.

    timm's patches and position embeddings are resampled to the network's sizes, as timm does.

    Raises:
        DependencyError: if timm is needed for that and missing.
    """
    if _CLASS not in network:
        return None
    if "attn_mask_probs" in stored:
        return {eomt_name(name): tensor for name, tensor in stored.items() if name not in _STATE}
    if {"blocks.0.attn.qkv.weight", "pos_embed", "cls_token"} <= set(stored):
        return _from_timm(stored, network)
    return None


def eomt_name(name: str) -> str:
    """Translate a name of transformers' ``EomtForUniversalSegmentation``.

    >>> eomt_name("layers.3.norm1.weight"), eomt_name("class_predictor.bias")
    ('backbone.blocks.3.norm1.weight', 'sem_seg_head.class_predictor.bias')
    """
    if name.startswith(("embeddings.", "layers.", "layernorm.")):
        return f"backbone.{re.sub(r'^layers', 'blocks', name)}"
    return f"sem_seg_head.{name}"


def _from_timm(stored: Mapping[str, Tensor], network: Mapping[str, Tensor]) -> dict[str, Tensor]:
    try:
        from timm.layers import resample_abs_pos_embed, resample_patch_embed
    except ImportError as error:
        raise DependencyError(
            f"a ViT of timm is fitted to EoMT's patches by timm, which cannot be imported ({error}): "
            "pip install 'lightning_seg[timm]'"
        ) from error
    found: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if (joined := re.fullmatch(r"(blocks\.\d+\.attn)\.qkv\.(\w+)", name)) is not None:
            block = joined[1].replace("attn", "attention")
            parts = zip("qkv", tensor.chunk(3), strict=True)
            found.update({f"backbone.{block}.{part}_proj.{joined[2]}": chunk for part, chunk in parts})
        elif name not in ("cls_token", "reg_token", "pos_embed"):
            own = name
            for pattern, replacement in _OF_TIMM:
                own = pattern.sub(replacement, own)
            found[f"backbone.{own}"] = tensor
    prefix = stored["pos_embed"].shape[1] - int(stored["pos_embed"].shape[1] ** 0.5) ** 2
    of_prefix, positions = stored["pos_embed"][:, :prefix], stored["pos_embed"][:, prefix:]
    tokens = torch.cat([stored["cls_token"], stored.get("reg_token", stored["cls_token"][:, :0])], 1)
    tokens = torch.cat([tokens[:, :prefix] + of_prefix, tokens[:, prefix:]], 1)
    found[_CLASS], found[_REGISTERS] = tokens[:, :1], tokens[:, 1:]
    side = int(network[_POSITIONS].shape[0] ** 0.5)
    found[_POSITIONS] = resample_abs_pos_embed(positions, [side, side], num_prefix_tokens=0)[0]
    if _PATCHES in found:
        found[_PATCHES] = resample_patch_embed(found[_PATCHES], list(network[_PATCHES].shape[-2:]))
    return found
