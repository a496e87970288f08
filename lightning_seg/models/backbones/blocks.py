"""Finds the blocks that a backbone repeats: rates decay from block to block; each is recomputed or sharded as one."""

import re

from torch import nn

from lightning_seg.errors import ConfigError

STEM, ABOVE = "backbone_stem", "backbone"
"""The places of parameters that are in no block: before the first one, and after the last."""

_BLOCK = re.compile(r"(^|\.)((res|layer)\d+\.\d+|s\d+\.b\d+|blocks\.\d+(\.\d+)?)$")
"""Names of blocks in Detectron2's and timm's ResNets, in RegNets, and in transformers and most others."""


def blocks_of(backbone: nn.Module) -> dict[str, nn.Module]:
    """Residual and transformer blocks by name, in the order of the backbone.

    Raises:
        ConfigError: if no module has the name of a block.
    """
    found: dict[str, nn.Module] = {}
    for name, module in backbone.named_modules():
        inside_another = any(name.startswith(f"{block}.") for block in found)
        if _BLOCK.search(name) and not isinstance(module, nn.Sequential | nn.ModuleList) and not inside_another:
            found[name] = module
    if not found:
        raise ConfigError(
            f"{type(backbone).__name__} has no modules named as blocks are (blocks.0, res2.0, layer1.0, s1.b1): name "
            "those of your backbone blocks.0, blocks.1, …"
        )
    return found


def places_in(backbone: nn.Module) -> dict[str, str]:
    """The place of each parameter on the way from image to head: :data:`STEM`, a block's name, or :data:`ABOVE`.

    Parameters between two blocks belong to the first of them. A pyramid around the network lies above the blocks, and
    so do the residual branches that Detectron2's ViT adds to pretrained blocks (``.residual.``), since both are new.

    Returns:
        A place by the parameter's name, in the order of ``backbone.named_parameters()``.

    Raises:
        ConfigError: as in :func:`blocks_of`.
    """
    blocks = list(blocks_of(backbone))
    inner = [f"{name}." for name, module in backbone.named_modules() if name and hasattr(module, "output_shape")]
    network = max((name for name in inner if all(block.startswith(name) for block in blocks)), key=len, default="")
    places: dict[str, str] = {}
    place = STEM
    for name, _ in backbone.named_parameters():
        block = next((block for block in blocks if name.startswith(f"{block}.")), None)
        if block is not None:
            place = block
        elif place == blocks[-1]:
            place = ABOVE
        places[name] = place if name.startswith(network) and ".residual." not in name else ABOVE
    return places
