"""The passes from logits, or from masks, to class ids, as plain PyTorch or compiled, to the same bits.

Both forms multiply and add in the same order, and inductor keeps the compiler from fusing the two into one rounding.
So a process may change from one to the other at any time, and processes that do so at different times agree.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from lightning_seg.errors import describe
from lightning_seg.inference.taps import Taps
from lightning_seg.inference.temperature import Confidences

WORTH_COMPILING = 2**31
"""Pixels × classes, some fifty images of 1024×2048 with 19 classes, that take plain PyTorch as long as compiling."""

_SMALLEST = 2**14
"""Logits of a band below which the compiled form gains nothing."""

_PIECE = (2**20, 2**24)
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


def best_class(
    logits: Tensor,
    indices: Sequence[Tensor],
    weights: Sequence[Tensor],
    dtype: torch.dtype,
    confidences: Confidences | None = None,
    forms: tuple[Function, Function] | None = None,
) -> Tensor:
    """The class with the highest interpolated logit, the first of equals, (height, width).

    Args:
        logits: (K, rows, width) float32.
        indices: of rows, of each pixel of a column.
        weights: of these rows.
        dtype: of the class ids.
        confidences: is told those of the pixels.
        forms: in place of :func:`interpolate_rows` and :func:`first_best`.
    """
    placed, best = forms or (interpolate_rows, first_best)
    pieces = []
    for full in _pieces(placed, logits, indices, weights):
        pieces.append(best(full, dtype))
        if confidences is not None:
            confidences.add_logits(full)
    return torch.cat(pieces)


def best_class_of_masks(
    masks: Tensor,
    indices: Sequence[Tensor],
    weights: Sequence[Tensor],
    probabilities: Tensor,
    dtype: torch.dtype,
    confidences: Confidences | None = None,
    forms: tuple[Function, Function] | None = None,
) -> Tensor:
    """The class with the highest sum of interpolated masks, the first of equals, (height, width).

    Args:
        masks: (Q, rows, width) float32 logits.
        indices: of rows, of each pixel of a column.
        weights: of these rows.
        probabilities: (K, Q) float32, contiguous.
        dtype: of the class ids.
        confidences: is told those of the pixels.
        forms: in place of :func:`interpolated_shares` and :func:`first_best`.
    """
    covered, best = forms or (interpolated_shares, first_best)
    pieces: list[Tensor] = []
    scores = masks.new_empty(0)
    for full in _pieces(covered, masks, indices, weights):
        shares = full.flatten(1)
        if not pieces:
            scores = masks.new_empty(len(probabilities), shares.shape[1])  # once: new memory costs more than sums
        scores = scores[:, : shares.shape[1]].contiguous()
        sums = torch.mm(probabilities, shares, out=scores).view(-1, *full.shape[1:])
        pieces.append(best(sums, dtype))
        if confidences is not None:
            confidences.add_scores(sums)
    return torch.cat(pieces)


def _pieces(form: Function, maps: Tensor, indices: Sequence[Tensor], weights: Sequence[Tensor]) -> Iterator[Tensor]:
    """What ``form`` makes of maps (…, rows, width), as many rows at once as are held, from the top.

    Pieces are those of the plain form whatever computes them, since a sum over classes, or a product of matrices, may
    round by its size.
    """
    step = max(1, _PIECE[maps.device.type == "cuda"] // (len(maps) * maps.shape[2]))
    for start in range(0, len(indices[0]), step):
        part = slice(start, start + step)
        yield form(maps, [index[part] for index in indices], [weight[part].clone() for weight in weights])


def interpolated_shares(masks: Tensor, indices: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """How much of each pixel each mask covers: (Q, height, width) in [0, 1] of (Q, rows, width) logits."""
    return interpolate_rows(masks, indices, weights).sigmoid_()


def scores_of_masks(full: Tensor, probabilities: Tensor) -> Tensor:
    """Scores (K, height, width) of upsampled masks (Q, height, width), which are overwritten.

    Args:
        full: float32 logits.
        probabilities: (K, Q) float32.
    """
    return torch.mm(probabilities, full.sigmoid_().flatten(1)).view(-1, *full.shape[1:])


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


def _shares_in_one_loop(masks: Tensor, indices: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    return interpolate_rows(masks, indices, weights).sigmoid()


def _first_best_in_two_loops(scores: Tensor, dtype: torch.dtype) -> Tensor:
    """Half the time of a compiled argmax, where the scores stay in a CPU's cache."""
    ids = torch.arange(len(scores), dtype=torch.int32)[:, None, None]
    return torch.where(scores < scores.amax(0), len(scores) - 1, ids).amin(0).to(dtype)


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
        self._compiled: dict[Function, Function] = {}

    def label_band(
        self,
        logits: Tensor,
        columns: Taps,
        rows: Taps,
        probabilities: Tensor | None = None,
        confidences: Confidences | None = None,
    ) -> Tensor:
        """Class ids of a band of rows, (height, width) of :func:`label_dtype`.

        Args:
            logits: (K, h, w) float32, contiguous; (Q, h, w) of masks.
            columns: for each pixel of a row.
            rows: for each row of the band, with indices into ``logits``.
            probabilities: of masks: (K, Q) float32, contiguous.
            confidences: is told those of the band. They are computed by plain PyTorch.
        """
        dtype = label_dtype(len(logits if probabilities is None else probabilities))
        height, width = len(rows.weights[0]), len(columns.weights[0])
        large = logits.numel() >= _SMALLEST and min(*logits.shape, height, width) > 1
        # Of masks, most of the work is a product of matrices, which compiling leaves as it is.
        of_pixel = len(logits) if probabilities is None else (len(logits) + len(probabilities)) // 8
        self.work += of_pixel * height * width
        known = 0 if confidences is None else len(confidences.pieces)
        if large and self.work > self.threshold and logits.device.type == "cpu" and not self.failed:
            try:
                wide, best = self._fast(interpolate_columns)(logits, *columns), self._fast(_first_best_in_two_loops)
                if probabilities is not None:
                    shares = self._fast(_shares_in_one_loop) if confidences is None else interpolated_shares
                    return best_class_of_masks(wide, *rows, probabilities, dtype, confidences, (shares, best))
                if confidences is None:
                    return self._fast(_best_class_in_one_loop)(wide, *rows, dtype)
                return best_class(wide, *rows, dtype, confidences, (self._fast(interpolate_rows), best))
            except Exception as error:  # there are many: no compiler, a broken one, no headers of Python …
                self.failed = True
                if confidences is not None:
                    del confidences.pieces[known:]
                reason = describe(error).splitlines()[0]
                rank_zero_warn(
                    f"evaluation goes on without a compiled kernel, to the same results, because of {reason}"
                )
        wide = interpolate_columns(logits, *columns)
        if probabilities is None:
            return best_class(wide, *rows, dtype, confidences)
        return best_class_of_masks(wide, *rows, probabilities, dtype, confidences)

    def _fast(self, function: Function) -> Function:
        """The compiled form of a function."""
        if not self._compiled:
            rank_zero_info("Compiling the kernel of the evaluation: some seconds, once on this machine")
        if function not in self._compiled:
            settings: dict[str, Any] = {"dynamic": True, "fullgraph": True}
            self._compiled[function] = torch.compile(function, **settings)
        return self._compiled[function]


just_in_time = JustInTime()
"""Of this process: compiled code, and what it takes to make it, belong to no model."""
