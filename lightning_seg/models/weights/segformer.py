"""Translates the tensors of transformers' SegFormer, of files old and new, to a MiT backbone and a SegFormerHead."""

import re
from collections.abc import Collection, Mapping

from torch import Tensor

_STEM = "stages.0.patch_embeddings.proj.weight"
_HEAD = "sem_seg_head."

_NAMES = (
    (r"^encoder\.patch_embeddings\.(\d)\.", r"stages.\1.patch_embeddings."),
    (r"^encoder\.block\.(\d)\.", r"stages.\1.blocks."),
    (r"^encoder\.layer_norm\.(\d)\.", r"stages.\1.layer_norm."),
    (r"\.attention\.self\.query\.", ".attention.q_proj."),
    (r"\.attention\.self\.key\.", ".attention.k_proj."),
    (r"\.attention\.self\.value\.", ".attention.v_proj."),
    (r"\.attention\.self\.sr\.", ".attention.sequence_reduction.sequence_reduction."),
    (r"\.attention\.self\.layer_norm\.", ".attention.sequence_reduction.layer_norm."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.mlp\.dense(\d)\.", r".mlp.fc\1."),
    (r"\.layer_norm_1\.", ".layernorm_before."),
    (r"\.layer_norm_2\.", ".layernorm_after."),
    (r"^decode_head\.linear_(?:c|projections)\.(\d)\.proj\.", rf"{_HEAD}projections.\1."),
    (r"^decode_head\.batch_norm\.", f"{_HEAD}norm."),
    (r"^decode_head\.classifier\.", f"{_HEAD}predictor."),
)
"""Published names, those of older versions of transformers first, and ours."""


def is_segformer(stored: Collection[str], network: Collection[str]) -> bool:
    """Whether a file holds transformers' SegFormer, and the network has its encoder."""
    plain = {name.removeprefix("segformer.") for name in stored}
    published = bool(plain & {_STEM, "encoder.patch_embeddings.0.proj.weight"})
    return published and any(name.endswith(_STEM) for name in network)


def segformer_tensors(stored: Mapping[str, Tensor], network: Collection[str]) -> dict[str, Tensor]:
    """The file's tensors by the network's names; linear layers become 1×1 convolutions, the fusion a part a level.

    Args:
        stored: a file that :func:`is_segformer`.
        network: names of the network's tensors.
    """
    prefix = next(name for name in network if name.endswith(_STEM)).removesuffix(_STEM)
    renamed: dict[str, Tensor] = {}
    for published, tensor in stored.items():
        name = published.removeprefix("segformer.")
        for pattern, ours in _NAMES:
            name = re.sub(pattern, ours, name)
        if name == "decode_head.linear_fuse.weight":
            parts = tensor.chunk(tensor.shape[1] // tensor.shape[0], dim=1)
            renamed |= {f"{_HEAD}fusions.{level}.weight": part for level, part in enumerate(reversed(parts))}
        elif name.startswith(f"{_HEAD}projections.") and tensor.ndim == 2:
            renamed[name] = tensor[:, :, None, None]
        else:
            renamed[f"{prefix}{name}" if name.startswith("stages.") else name] = tensor
    return renamed
