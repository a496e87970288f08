"""Saves memory: the backward pass computes the activations of blocks again, so the forward pass need not keep them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lightning_seg.models.backbones.blocks import blocks_of


def recompute_blocks(backbone: nn.Module) -> None:
    """In training, let each block keep only its inputs for the backward pass; the bits of the results stay the same.

    Names of modules and tensors stay. The recomputation draws the same random numbers as the forward pass, and does not
    write buffers, such as the running statistics of norms, again.

    Raises:
        ConfigError: if the backbone has no blocks, see :func:`lightning_seg.models.backbones.blocks.blocks_of`.
    """
    for block in blocks_of(backbone).values():
        block.forward = _Recomputed(block)  # an attribute of the instance: copies and pickles have their own


class _Recomputed:
    """Replaces the forward of a block."""

    def __init__(self, block: nn.Module) -> None:
        self.block = block

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not (self.block.training and torch.is_grad_enabled()):
            return self._forward(*args, **kwargs)
        if torch.compiler.is_compiling():  # it writes buffers once, at the end of its graph, and takes no contexts
            return checkpoint(self._forward, *args, use_reentrant=False, **kwargs)
        return checkpoint(self._forward, *args, use_reentrant=False, context_fn=self._contexts, **kwargs)

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        return type(self.block).forward(self.block, *args, **kwargs)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """The contexts of the forward pass and of the recomputation."""
        return nullcontext(), _spare_buffers(self.block)


@contextmanager
def _spare_buffers(block: nn.Module) -> Iterator[None]:
    """Give the block copies of its buffers for a while, since norms write into the buffers that they find."""
    kept = [(module, *named) for module in block.modules() for named in module.named_buffers(recurse=False)]
    for module, name, buffer in kept:
        setattr(module, name, buffer.clone())
    try:
        yield
    finally:
        for module, name, buffer in kept:
            setattr(module, name, buffer)
