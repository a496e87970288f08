"""The blocks that a backbone repeats: what learning rates fall by, and what is recomputed or sharded as one."""

import re

from torch import nn

from lightning_seg.errors import ConfigError

_BLOCK = re.compile(r"(^|\.)((res|layer)\d+\.\d+|s\d+\.b\d+|blocks\.\d+(\.\d+)?)$")
"""Names of blocks in Detectron2's and timm's ResNets, in RegNets, and in transformers and most others."""


def blocks_of(backbone: nn.Module) -> dict[str, nn.Module]:
    """Residual and transformer blocks by name, in the order in which the backbone has them.

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
