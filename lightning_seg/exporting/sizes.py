"""Keeps sizes free in code that makes tensors of them, whoever wrote it, while a graph is traced."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import SymFloat, SymInt, Tensor
from torch.overrides import TorchFunctionMode


class FreeSizes(TorchFunctionMode):
    """Lets calls of torch that the tracer answers with the numbers of its example give way to equal ones that it keeps.

    ``torch.tensor([height, width])`` becomes a stack, and evenly spaced numbers between sizes are counted first. What
    convolutions read is contiguous: else the tracer asks whether a size is 1, to choose an order of memory.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in _CONVOLUTIONS and args:
            args = (args[0].contiguous(), *args[1:])
        elif func in (torch.tensor, torch.as_tensor) and args and _free(args[0]):
            return stacked(args[0], **given)
        elif func is torch.linspace and _free([args, given.get("steps")]):
            return spaced(*args, **given)
        elif func is torch.arange and len(args) == 2 and isinstance(args[0], float) and isinstance(args[1], SymInt):
            start, end = args
            return torch.arange(end - math.floor(start), **given) + start
        return func(*args, **given)


def stacked(values: Any, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
    """``torch.tensor`` of numbers, or of nested lists of numbers, some of which are sizes."""
    if isinstance(values, list | tuple):
        return torch.stack([stacked(value, dtype, device) for value in values])
    whole = isinstance(values, int | SymInt)
    return torch.scalar_tensor(values, dtype=dtype or (torch.int64 if whole else torch.float32), device=device)


def spaced(start: Any, end: Any, steps: Any, **kwargs: Any) -> Tensor:
    """``torch.linspace`` of so many steps as a size says."""
    found: Tensor = torch.arange(steps, **kwargs) * ((end - start) / torch.sym_max(steps - 1, 1)) + start
    return found


_CONVOLUTIONS = (torch.conv2d, torch.conv_transpose2d)


def _free(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_free(one) for one in value)
    return isinstance(value, SymInt | SymFloat)
