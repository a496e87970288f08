"""Renames weights for EoMT: transformers' whole models, timm's ViTs (DINOv2, DINOv3 …), transformers' DINOv3."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from lightning_seg.errors import CheckpointError, DependencyError

_CLASS = "backbone.embeddings.cls_token"
_REGISTERS = "backbone.embeddings.register_tokens"
_POSITIONS = "backbone.embeddings.position_embeddings.weight"
"""DINOv2's alone."""

_STATE = ("attn_mask_probs", "criterion.empty_weight")
"""What transformers stores beside weights: how far the annealing is, and a setting."""

_OF_TIMM = (
    (re.compile(r"\.ls(\d)\.gamma$"), r".layer_scale\1.lambda1"),
    (re.compile(r"\.gamma_(\d)$"), r".layer_scale\1.lambda1"),
    (re.compile(r"^norm\."), "layernorm."),
)

_OF_DINOV2 = (
    (re.compile(r"\.attn\.proj\."), ".attention.out_proj."),
    (re.compile(r"^patch_embed\.proj\."), "embeddings.patch_embeddings.projection."),
)

_OF_DINOV3 = (
    (re.compile(r"\.attn\.proj\."), ".attention.o_proj."),
    (re.compile(r"\.attn\.([qkv])_bias$"), r".attention.\1_proj.bias"),
    (re.compile(r"\.mlp\.fc1\."), ".mlp.up_proj."),
    (re.compile(r"\.mlp\.fc2\."), ".mlp.down_proj."),
    (re.compile(r"^patch_embed\.proj\."), "embeddings.patch_embeddings."),
)


def eomt_tensors(stored: Mapping[str, Tensor], network: Mapping[str, Tensor], source: str) -> dict[str, Tensor] | None:
    """A file's tensors by the names of EoMT; None if the network is another, or the file none of those.

    timm's patches and position embeddings are resampled to the network's sizes, as timm does. DINOv3's biases of
    queries and values are 0, and timm leaves them out.

    Args:
        stored: the file's tensors.
        network: the network's tensors.
        source: what the user gave, for errors.

    Raises:
        CheckpointError: if the file has the other kind of ViT.
        DependencyError: if timm is needed and missing.
    """
    whole, of_timm = "attn_mask_probs" in stored, {"blocks.0.attn.qkv.weight", "cls_token"} <= set(stored)
    of_transformers = {"embeddings.cls_token", "embeddings.register_tokens"} <= set(stored)
    if _CLASS not in network or not (whole or of_timm or of_transformers):
        return None
    given = "DINOv3" if {"pos_embed", "embeddings.position_embeddings.weight"}.isdisjoint(stored) else "DINOv2"
    if (given == "DINOv2") != (_POSITIONS in network):
        raise CheckpointError(f"{source} is a ViT of {given}'s kind: in model.overrides, set MODEL.EOMT.VIT to {given}")
    if whole:
        return {eomt_name(name): tensor for name, tensor in stored.items() if name not in _STATE}
    if of_timm:
        return _from_timm(stored, network)
    return {_dinov3_name(name): tensor for name, tensor in stored.items() if name != "embeddings.mask_token"}


def eomt_name(name: str) -> str:
    """Translate a name of transformers' ``EomtForUniversalSegmentation`` or ``EomtDinov3ForUniversalSegmentation``.

    >>> eomt_name("layers.3.norm1.weight"), eomt_name("class_predictor.bias")
    ('backbone.blocks.3.norm1.weight', 'sem_seg_head.class_predictor.bias')
    """
    if name.startswith(("embeddings.", "layers.", "layernorm.")):
        return f"backbone.{re.sub(r'^layers', 'blocks', name)}"
    return f"sem_seg_head.{name}"


def _dinov3_name(name: str) -> str:
    """Translate a name of transformers' ``DINOv3ViTModel``, of older versions or newer ones."""
    return f"backbone.{re.sub(r'^norm[.]', 'layernorm.', re.sub(r'^(model[.])?layer[.]', 'blocks.', name))}"


def _from_timm(stored: Mapping[str, Tensor], network: Mapping[str, Tensor]) -> dict[str, Tensor]:
    try:
        from timm.layers import resample_abs_pos_embed, resample_patch_embed
    except ImportError as error:
        raise DependencyError(
            f"a ViT of timm is fitted to EoMT's patches by timm, which cannot be imported ({error}): "
            "pip install 'lightning_seg[timm]'"
        ) from error
    names = (*_OF_TIMM, *(_OF_DINOV2 if _POSITIONS in network else _OF_DINOV3))
    found: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if (joined := re.fullmatch(r"(blocks\.\d+\.attn)\.qkv\.(\w+)", name)) is not None:
            block = joined[1].replace("attn", "attention")
            parts = zip("qkv", tensor.chunk(3), strict=True)
            found.update({f"backbone.{block}.{part}_proj.{joined[2]}": chunk for part, chunk in parts})
        elif name not in ("cls_token", "reg_token", "pos_embed") and not name.startswith("rope."):
            own = name
            for pattern, replacement in names:
                own = pattern.sub(replacement, own)
            found[f"backbone.{own}"] = tensor
    tokens = torch.cat([stored["cls_token"], stored.get("reg_token", stored["cls_token"][:, :0])], 1)
    if "pos_embed" in stored:
        prefix = stored["pos_embed"].shape[1] - int(stored["pos_embed"].shape[1] ** 0.5) ** 2
        of_prefix, positions = stored["pos_embed"][:, :prefix], stored["pos_embed"][:, prefix:]
        tokens = torch.cat([tokens[:, :prefix] + of_prefix, tokens[:, prefix:]], 1)
        side = int(network[_POSITIONS].shape[0] ** 0.5)
        found[_POSITIONS] = resample_abs_pos_embed(positions, [side, side], num_prefix_tokens=0)[0]
    else:
        biases = [name for name in network if re.search(r"^backbone\.blocks\.\d+\.attention\.[qv]_proj\.bias$", name)]
        found = {**{name: torch.zeros_like(network[name]) for name in biases}, **found}
    found[_CLASS], found[_REGISTERS] = tokens[:, :1], tokens[:, 1:]
    patches = next(
        name for name in network if name.startswith("backbone.embeddings.patch_") and name.endswith("weight")
    )
    if patches in found:
        found[patches] = resample_patch_embed(found[patches], list(network[patches].shape[-2:]))
    return found
