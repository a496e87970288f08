"""Translates published Mask2Former files, of its own project and of transformers, to the names of the network here.

The project's names follow from its modules (``mask2former/modeling`` in facebookresearch/Mask2Former), of its first
version and of later ones. Those of Detectron2's ResNet and of its Swin are the same here.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from lightning_seg.errors import CheckpointError

_QUERIES = "sem_seg_head.transformer_module.queries_features.weight"
_PUBLISHED_QUERIES = {
    "model.transformer_module.queries_features.weight",
    "sem_seg_head.predictor.query_feat.weight",
    "sem_seg_head.predictor.static_query.weight",
}
_UNUSED = re.compile(r"^criterion\.|^backbone\.(swin\.)?layernorm\.")
"""A setting of the loss, and a norm after transformers' Swin that no level goes through."""

PUBLISHED_DIVISIBILITY = 32
"""``MODEL.MASK_FORMER.SIZE_DIVISIBILITY`` of all published networks."""

_NUMBER = "_number_"
"""Stands for any number in a name that is counted."""


def _one_more(match: re.Match[str]) -> str:
    return f".conv{int(match[1]) + 1}."


def _two_more(match: re.Match[str]) -> str:
    return f"backbone.res{int(match[1]) + 2}."


def _one_less(match: re.Match[str]) -> str:
    return f"backbone.norm{int(match[1]) - 1}."


_NAMES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    # the project's own: pixel decoder
    (r"^sem_seg_head\.(?!pixel_decoder\.|predictor\.)", "sem_seg_head.pixel_decoder."),
    (r"^(sem_seg_head\.pixel_decoder)\.input_proj\.", r"\1.input_projections."),
    (r"^(sem_seg_head\.pixel_decoder)\.transformer\.", r"\1."),
    (r"^(sem_seg_head\.pixel_decoder)\.mask_features\.", r"\1.mask_projection."),
    (r"^(sem_seg_head\.pixel_decoder\.(?:adapter|layer)_\d+)\.weight$", r"\1.0.weight"),
    (r"^(sem_seg_head\.pixel_decoder\.(?:adapter|layer)_\d+)\.norm\.", r"\1.1."),
    (r"^(sem_seg_head\.pixel_decoder\.encoder\.layers\.\d+)\.norm1\.", r"\1.self_attn_layer_norm."),
    # and transformer decoder
    (r"^sem_seg_head\.predictor\.class_embed\.", "sem_seg_head.class_predictor."),
    (r"^sem_seg_head\.predictor\.(?:query_feat|static_query)\.", "sem_seg_head.transformer_module.queries_features."),
    (r"^sem_seg_head\.predictor\.query_embed\.", "sem_seg_head.transformer_module.queries_embedder."),
    (r"^sem_seg_head\.predictor\.input_proj\.", "sem_seg_head.transformer_module.input_projections."),
    (r"^sem_seg_head\.predictor\.level_embed\.", "sem_seg_head.transformer_module.level_embed."),
    (r"^sem_seg_head\.predictor\.decoder_norm\.", "sem_seg_head.transformer_module.decoder.layernorm."),
    (
        r"^sem_seg_head\.predictor\.mask_embed\.layers\.(\d+)\.",
        r"sem_seg_head.transformer_module.decoder.mask_predictor.mask_embedder.\1.0.",
    ),
    (
        r"^sem_seg_head\.predictor\.transformer_(self|cross)_attention_layers\.(\d+)\.norm\.",
        r"sem_seg_head.transformer_module.decoder.layers.\2.\1_attn_layer_norm.",
    ),
    (
        r"^sem_seg_head\.predictor\.transformer_(self|cross)_attention_layers\.(\d+)\.(?:self|multihead)_attn\.",
        r"sem_seg_head.transformer_module.decoder.layers.\2.\1_attn.",
    ),
    (
        r"^sem_seg_head\.predictor\.transformer_ffn_layers\.(\d+)\.norm\.",
        r"sem_seg_head.transformer_module.decoder.layers.\1.final_layer_norm.",
    ),
    (
        r"^sem_seg_head\.predictor\.transformer_ffn_layers\.(\d+)\.",
        r"sem_seg_head.transformer_module.decoder.layers.\1.",
    ),
    (r"^(sem_seg_head\..*\.layers\.\d+)\.linear(\d)\.", r"\1.fc\2."),
    (r"^(sem_seg_head\.pixel_decoder\.encoder\.layers\.\d+)\.norm2\.", r"\1.final_layer_norm."),
    # transformers'
    (r"^model\.pixel_level_module\.decoder\.", "sem_seg_head.pixel_decoder."),
    (r"^model\.transformer_module\.", "sem_seg_head.transformer_module."),
    (r"^class_predictor\.", "sem_seg_head.class_predictor."),
    (r"^model\.pixel_level_module\.encoder\.", "backbone."),
    # its ResNet
    (r"^backbone\.embedder\.embedder\.convolution\.", "backbone.stem.conv1."),
    (r"^backbone\.embedder\.embedder\.normalization\.", "backbone.stem.conv1.norm."),
    (r"^backbone\.encoder\.stages\.(\d+)\.layers\.", _two_more),
    (r"^(backbone\.res.*)\.shortcut\.convolution\.", r"\1.shortcut."),
    (r"^(backbone\.res.*)\.shortcut\.normalization\.", r"\1.shortcut.norm."),
    (r"(?<=\d)\.layer\.(\d)\.(?=convolution\.|normalization\.)", _one_more),
    (r"^(backbone\.res.*\.conv\d)\.convolution\.", r"\1."),
    (r"^(backbone\.res.*\.conv\d)\.normalization\.", r"\1.norm."),
    # its Swin, by the names of older versions and of newer ones
    (r"^backbone\.swin\.", "backbone."),
    (r"^backbone\.embeddings\.patch_embeddings\.projection\.", "backbone.patch_embed.proj."),
    (r"^backbone\.embeddings\.norm\.", "backbone.patch_embed.norm."),
    (r"^backbone\.encoder\.layers\.", "backbone.layers."),
    (r"^(backbone\.layers\..*)\.attention\.(?:self\.query|q_proj)\.", r"\1.attn.q."),
    (r"^(backbone\.layers\..*)\.attention\.(?:self\.key|k_proj)\.", r"\1.attn.k."),
    (r"^(backbone\.layers\..*)\.attention\.(?:self\.value|v_proj)\.", r"\1.attn.v."),
    (r"^(backbone\.layers\..*)\.attention\.(?:output\.dense|o_proj)\.", r"\1.attn.proj."),
    (r"^(backbone\.layers\..*)\.attention\.(?:self|relative_position_bias)\.(relative_\w+)$", r"\1.attn.\2"),
    (r"^(backbone\.layers\..*)\.intermediate\.dense\.", r"\1.mlp.fc1."),
    (r"^(backbone\.layers\..*\d)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"^(backbone\.layers\..*)\.layernorm_before\.", r"\1.norm1."),
    (r"^(backbone\.layers\..*)\.layernorm_after\.", r"\1.norm2."),
    (r"^backbone\.hidden_states_norms\.stage(\d+)\.", _one_less),
)
"""Published names and ours, tried one after the other. Rows of one project leave the other's names as they are."""

_BLOCKS = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
"""``MODEL.RESNETS.DEPTH`` by the numbers of bottlenecks."""


def is_mask2former(stored: Collection[str], network: Collection[str]) -> bool:
    """Whether a file holds a Mask2Former that was published, and the network is one of this project."""
    return _QUERIES in network and not _PUBLISHED_QUERIES.isdisjoint(stored)


def mask2former_name(name: str) -> str:
    """Translate a name; ``attn.q`` of Swin is a third of the network's ``attn.qkv``.

    >>> mask2former_name("sem_seg_head.predictor.transformer_ffn_layers.3.linear2.weight")
    'sem_seg_head.transformer_module.decoder.layers.3.fc2.weight'
    >>> mask2former_name("model.pixel_level_module.encoder.encoder.stages.1.layers.0.layer.2.normalization.bias")
    'backbone.res3.0.conv3.norm.bias'
    """
    for pattern, ours in _NAMES:
        name = re.sub(pattern, ours, name)
    return name


def mask2former_tensors(stored: Mapping[str, Tensor], network: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The file's tensors by the network's names.

    Queries, keys and values of Swin are joined. Those of the decoder's self-attention are split, as transformers has
    them. Swin's table of relative positions follows from the window; where a file lacks it, it is the network's own.

    Args:
        stored: a file that :func:`is_mask2former`.
        network: the network's tensors.
    """
    renamed = {mask2former_name(name): tensor for name, tensor in stored.items()}
    found: dict[str, Tensor] = {}
    joined: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in renamed.items():
        if _UNUSED.match(name):
            continue
        if part := re.fullmatch(r"(backbone\.layers\..*\.attn)\.([qkv])\.(\w+)", name):
            joined[f"{part[1]}.qkv.{part[3]}"][part[2]] = tensor
        elif part := re.fullmatch(r"(.*\.decoder\.layers\.\d+\.self_attn)\.in_proj_(\w+)", name):
            found |= {
                f"{part[1]}.{one}_proj.{part[2]}": third for one, third in zip("qkv", tensor.chunk(3), strict=True)
            }
        else:
            found[name] = tensor
    found |= {name: torch.cat([parts[one] for one in "qkv" if one in parts]) for name, parts in joined.items()}
    positions = {name: tensor for name, tensor in network.items() if name.endswith(".attn.relative_position_index")}
    return {**positions, **found} if "backbone.patch_embed.proj.weight" in found else found


def refuse_other_settings(
    source: str, stored: Mapping[str, Tensor], network: Mapping[str, Tensor], allow_missing: Sequence[str]
) -> None:
    """Refuse a file of a Mask2Former that other settings describe.

    Args:
        source: what the user gave, for errors.
        stored: the file's tensors by the network's names.
        network: the network's tensors.
        allow_missing: beginnings of names that may stay random; settings of these may differ.

    Raises:
        CheckpointError: names each setting with its value here and the one to set.
    """
    allowed = tuple(allow_missing)
    here = {key: value for key, value, _ in _settings(network)}
    others = [
        f"{key} {value} ({here.get(key, 'something else')} here)"
        for key, value, name in _settings(stored)
        if here.get(key) != value and not name.startswith(allowed)
    ]
    backbones = [one for one in others if one.startswith("MODEL.BACKBONE")]
    if others:
        raise CheckpointError(
            f"{source} is a Mask2Former of other settings than the config's. In model.overrides, set "
            f"{', '.join(backbones or others)}"
        )


def _settings(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str | int | bool | tuple[int, ...], str]]:
    """Key and value of each setting that shapes and names show, and a name that it decides."""
    head, decoder = "sem_seg_head.pixel_decoder", "sem_seg_head.transformer_module"
    for key, name, axis in (
        ("MODEL.SEM_SEG_HEAD.CONVS_DIM", f"{head}.level_embed", 1),
        ("MODEL.SEM_SEG_HEAD.MASK_DIM", f"{head}.mask_projection.weight", 0),
        ("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_DIM_FEEDFORWARD", f"{head}.encoder.layers.0.fc1.weight", 0),
        ("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", f"{decoder}.queries_features.weight", 0),
        ("MODEL.MASK_FORMER.HIDDEN_DIM", f"{decoder}.queries_features.weight", 1),
        ("MODEL.MASK_FORMER.DIM_FEEDFORWARD", f"{decoder}.decoder.layers.0.fc1.weight", 0),
        ("MODEL.SWIN.EMBED_DIM", "backbone.patch_embed.proj.weight", 0),
        ("MODEL.SWIN.PATCH_SIZE", "backbone.patch_embed.proj.weight", 2),
        ("MODEL.RESNETS.STEM_OUT_CHANNELS", "backbone.stem.conv1.weight", 0),
    ):
        if name in tensors:
            yield key, tensors[name].shape[axis], name
    layers = f"{head}.encoder.layers"
    yield "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", _count(tensors, f"{layers}.{_NUMBER}.fc1.weight"), layers
    layers = f"{decoder}.decoder.layers"
    yield "MODEL.MASK_FORMER.DEC_LAYERS", _count(tensors, f"{layers}.{_NUMBER}.fc1.weight") + 1, layers
    projection = f"{decoder}.input_projections.0.weight"
    if f"{head}.level_embed" in tensors:
        same = tensors[f"{head}.level_embed"].shape[1] == tensors[f"{decoder}.level_embed.weight"].shape[1]
        yield "MODEL.MASK_FORMER.ENFORCE_INPUT_PROJ", projection in tensors and same, projection
        levels = tensors[f"{head}.level_embed"].shape[0]
        offsets = tensors.get(f"{head}.encoder.layers.0.self_attn.sampling_offsets.bias")
        if offsets is not None:  # two coordinates of four points
            heads = offsets.shape[0] // (8 * levels)
            yield "MODEL.MASK_FORMER.NHEADS", heads, f"{head}.encoder"
        finer = sum(re.fullmatch(rf"{re.escape(head)}\.adapter_\d+\.0\.weight", name) is not None for name in tensors)
        yield "the number of MODEL.SEM_SEG_HEAD.IN_FEATURES", levels + finer, f"{head}.adapter"
    yield from _swin_settings(tensors)
    yield from _resnet_settings(tensors)


def _swin_settings(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str | int | tuple[int, ...], str]]:
    if "backbone.patch_embed.proj.weight" not in tensors:
        return
    name = "backbone.layers"
    yield "MODEL.BACKBONE.NAME", "build_swin_backbone", name
    depths = tuple(_count(tensors, f"{name}.{stage}.blocks.{_NUMBER}.norm1.weight") for stage in range(4))
    tables = [tensors.get(f"{name}.{stage}.blocks.0.attn.relative_position_bias_table") for stage in range(4)]
    yield "MODEL.SWIN.DEPTHS", tuple(depth for depth in depths if depth), name
    yield "MODEL.SWIN.NUM_HEADS", tuple(table.shape[1] for table in tables if table is not None), name
    if tables[0] is not None:
        yield "MODEL.SWIN.WINDOW_SIZE", (int(tables[0].shape[0] ** 0.5) + 1) // 2, name


def _resnet_settings(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str | int, str]]:
    if "backbone.stem.conv1.weight" not in tensors:
        return
    yield "MODEL.BACKBONE.NAME", "build_resnet_backbone", "backbone.res"
    blocks = tuple(_count(tensors, f"backbone.res{stage}.{_NUMBER}.conv3.weight") for stage in range(2, 6))
    if blocks in _BLOCKS:
        yield "MODEL.RESNETS.DEPTH", _BLOCKS[blocks], "backbone.res"
    if "backbone.res2.0.shortcut.weight" in tensors:
        yield "MODEL.RESNETS.RES2_OUT_CHANNELS", tensors["backbone.res2.0.shortcut.weight"].shape[0], "backbone.res2"


def _count(tensors: Collection[str], name: str) -> int:
    """How many names there are with a number in this place."""
    pattern = re.compile(re.escape(name).replace(_NUMBER, r"\d+"))
    return sum(pattern.fullmatch(one) is not None for one in tensors)
