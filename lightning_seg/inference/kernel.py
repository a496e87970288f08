"""The two passes from logits to class ids, as plain PyTorch or compiled, to the same bits.

Both forms multiply and add in the same order, and inductor keeps the compiler from fusing the two into one rounding.
So a process may change from one to the other at any time, and processes that do so at different times agree.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from lightning_seg.errors import describe
from lightning_seg.inference.taps import Taps

WORTH_COMPILING = 2**31
"""Pixels × classes, some fifty images of 1024×2048 with 19 classes, that take plain PyTorch as long as compiling."""

_SMALLEST = 2**14
"""Logits of a band below which the compiled form gains nothing."""

_PIECE = (2**20, 2**27)
"""Interpolated logits that the plain form holds at once: what stays in a CPU's cache, and what keeps a GPU busy."""

Function = Callable[..., Tensor]


def label_dtype(num_classes: int) -> torch.dtype:
    """The smallest integer type that holds every class id: uint8 up to 256 classes."""
    return torch.uint8 if num_classes <= 256 else torch.int16 if num_classes <= 2**15 else torch.int32


def interpolate_columns(logits: Tensor, indices: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Interpolate (K, rows, w) float32 along the last axis to (K, rows, width).

    On a CPU, ``index_select`` along the last axis takes several times as long as ``gather``.
    """
    total = logits.gather(2, indices[0].expand(*logits.shape[:2], -1)).mul_(weights[0])
    for index, weight in zip(indices[1:], weights[1:], strict=True):
        total.add_(logits.gather(2, index.expand(*logits.shape[:2], -1)).mul_(weight))
    return total


def interpolate_rows(logits: Tensor, indices: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Interpolate (K, rows, width) float32 along the middle axis to (K, height, width)."""
    total = logits.index_select(1, indices[0]).mul_(weights[0][:, None])
    for index, weight in zip(indices[1:], weights[1:], strict=True):
        total.add_(logits.index_select(1, index).mul_(weight[:, None]))
    return total


def best_class(logits: Tensor, indices: Sequence[Tensor], weights: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """The class with the highest interpolated logit, the first of equals, (height, width)."""
    num_classes, _, width = logits.shape
    step = max(1, _PIECE[logits.device.type == "cuda"] // (num_classes * width))
    pieces = []
    for start in range(0, len(indices[0]), step):
        part = slice(start, start + step)
        full = interpolate_rows(logits, [index[part] for index in indices], [weight[part] for weight in weights])
        pieces.append(first_best(full, dtype))
    return torch.cat(pieces)


def first_best(full: Tensor, dtype: torch.dtype) -> Tensor:
    """The class of (K, height, width) with the highest value, the first of equals, (height, width).

    On a CPU, plain PyTorch's argmax over the outermost axis takes several times as long as these steps.
    """
    if full.device.type == "cuda":
        return full.argmax(0).to(dtype)
    ids = torch.arange(len(full), dtype=dtype, device=full.device)[:, None, None]
    return torch.where(full < full.amax(0), len(full) - 1, ids).amin(0)


def _best_class_in_one_loop(
    logits: Tensor, indices: Sequence[Tensor], weights: Sequence[Tensor], dtype: torch.dtype
) -> Tensor:
    return interpolate_rows(logits, indices, weights).argmax(0).to(dtype)


class JustInTime:
    """Runs the plain form until as much work is done as compiling is worth, then the compiled one.

    Small runs never wait for a compiler, and one graph serves all sizes. On a GPU, and where compiling fails, it stays
    with the plain form.

    Args:
        threshold: pixels × classes after which to compile.
    """

    def __init__(self, threshold: int = WORTH_COMPILING) -> None:
        self.threshold = threshold
        self.work = 0
        self.failed = False
        self._compiled: tuple[Function, Function] | None = None

    def label_band(self, logits: Tensor, columns: Taps, rows: Taps) -> Tensor:
        """Class ids of a band of rows, (height, width) of :func:`label_dtype`.

        Args:
            logits: (K, h, w) float32, contiguous.
            columns: for each pixel of a row.
            rows: for each row of the band, with indices into ``logits``.
        """
        dtype = label_dtype(len(logits))
        large = logits.numel() >= _SMALLEST and min(*logits.shape, len(rows.weights[0]), len(columns.weights[0])) > 1
        self.work += len(logits) * len(rows.weights[0]) * len(columns.weights[0])
        if large and self.work > self.threshold and logits.device.type == "cpu" and not self.failed:
            interpolate, best = self._compile()
            try:
                return best(interpolate(logits, *columns), *rows, dtype)
            except Exception as error:  # there are many: no compiler, a broken one, no headers of Python …
                self.failed = True
                reason = describe(error).splitlines()[0]
                rank_zero_warn(
                    f"evaluation goes on without a compiled kernel, to the same results, because of {reason}"
                )
        return best_class(interpolate_columns(logits, *columns), *rows, dtype)

    def _compile(self) -> tuple[Function, Function]:
        if self._compiled is None:
            rank_zero_info("Compiling the kernel of the evaluation: some seconds, once on this machine")
            settings: dict[str, Any] = {"dynamic": True, "fullgraph": True}
            self._compiled = (
                torch.compile(interpolate_columns, **settings),
                torch.compile(_best_class_in_one_loop, **settings),
            )
        return self._compiled


just_in_time = JustInTime()
"""Of this process: compiled code, and what it takes to make it, belong to no model."""
