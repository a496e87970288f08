"""Computes cross-entropies of bilinearly upsampled logits, and never holds the upsampled logits.

The functions equal those of the same names in :mod:`lightning_seg.losses.functional` up to rounding, but take
``logits`` (N, K, h, w) of any height and width. These are upsampled to ``target`` (N, H, W) as
``F.interpolate(mode="bilinear", align_corners=False)`` does. Rounding may also decide which of two equally hard pixels
is kept.

A band of upsampled logits (:mod:`lightning_seg.losses.polyphase`) is turned into its losses and then, in the same
memory, into its gradient, which is folded back at once. So the gradient is computed with the value, if it is asked
for, and cannot be differentiated again. This holds a copy of the logits, their gradient twice, a few numbers for each
pixel, and the buffers of one band.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_seg.losses.functional import divide, kept_by_ohem, pixel_weights
from lightning_seg.losses.polyphase import Region, padded_zeros, visit, without_padding


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_index: int,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """:func:`lightning_seg.losses.functional.cross_entropy` of upsampled logits."""
    logits, target, counted = _prepare(logits, target, ignore_index)
    hard = _weigh(target, counted, class_weights, logits)
    mass = hard.sum()
    hard = divide(hard, mass) * (1 - label_smoothing)
    smoothing = None
    if label_smoothing:
        weights = logits.new_ones(logits.shape[1]) if class_weights is None else class_weights.to(logits.dtype)
        smoothing = _Smoothing(divide(counted.to(logits.dtype), mass) * (label_smoothing / len(weights)), weights)
    return _attach(logits, *_value_and_gradient(logits, target, counted, hard, smoothing))


def ohem_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_index: int,
    threshold: float,
    min_kept: int,
    class_weights: Tensor | None = None,
) -> Tensor:
    """:func:`lightning_seg.losses.functional.ohem_cross_entropy` of logits that are upsampled twice."""
    logits, target, counted = _prepare(logits, target, ignore_index)
    losses = _pixel_losses(logits, target, counted)
    kept = kept_by_ohem(losses, threshold, min_kept) & counted
    hard = _weigh(target, kept, class_weights, logits)
    hard = divide(hard, hard.sum())
    return _attach(logits, (losses * hard).sum(), _gradient(logits, target, counted, hard))


def hard_pixel_cross_entropy(
    logits: Tensor, target: Tensor, *, ignore_index: int, top_k_percent: float, class_weights: Tensor | None = None
) -> Tensor:
    """:func:`lightning_seg.losses.functional.hard_pixel_cross_entropy` of logits that are upsampled twice."""
    logits, target, counted = _prepare(logits, target, ignore_index)
    hard = _weigh(target, counted, class_weights, logits)
    if top_k_percent == 1:
        return _attach(logits, *_value_and_gradient(logits, target, counted, hard / hard.numel()))
    losses = (_pixel_losses(logits, target, counted) * hard).flatten()
    highest = losses.topk(max(1, int(top_k_percent * losses.numel())), sorted=False)
    kept = torch.zeros_like(losses).index_fill_(0, highest.indices, 1 / len(highest.indices)).view_as(hard)
    return _attach(logits, highest.values.mean(), _gradient(logits, target, counted, hard * kept))


@dataclass(frozen=True)
class _Smoothing:
    """Adds ``soft`` (N, H, W) times the sum over the classes of ``class_weights`` (K,) times −log p."""

    soft: Tensor
    class_weights: Tensor


def _prepare(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits in float32 or float64, labels in int64 with 0 where ignored, and which pixels count, (N, H, W) bool."""
    if logits.ndim != 4 or target.ndim != 3 or len(target) != len(logits):
        raise ValueError(
            f"logits have shape {tuple(logits.shape)} and target {tuple(target.shape)}, "
            "but must be (N, K, h, w) and (N, H, W)"
        )
    target = target.long()
    counted = target != ignore_index
    return logits.to(torch.promote_types(logits.dtype, torch.float32)), target.where(counted, 0), counted


def _weigh(target: Tensor, counted: Tensor, class_weights: Tensor | None, logits: Tensor) -> Tensor:
    """Weight of each pixel's class, (N, H, W) in the type of the logits; zero where it does not count."""
    return pixel_weights(target, counted, class_weights).to(logits.dtype)


def _pixel_losses(logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Cross-entropy of each pixel, (N, H, W); zero where ignored."""
    losses = torch.empty_like(target, dtype=logits.dtype)

    def measure(band: Tensor, region: Region) -> None:
        truth, total = _exponentials(band, region.of(target).unsqueeze(1))
        region.of(losses).copy_((total.log_() - truth).squeeze(1))

    visit(logits.detach(), target.shape, measure, None)
    return losses.where(counted, 0)


def _gradient(logits: Tensor, target: Tensor, counted: Tensor, hard: Tensor) -> Tensor | None:
    """The gradient of the sum of ``hard`` times each pixel's −log p, if it is asked for."""
    return _value_and_gradient(logits, target, counted, hard)[1] if _asked(logits) else None


def _value_and_gradient(
    logits: Tensor, target: Tensor, counted: Tensor, hard: Tensor, smoothing: _Smoothing | None = None
) -> tuple[Tensor, Tensor | None]:
    """The sum of ``hard`` (N, H, W) times each pixel's −log p, plus the smoothing; and its gradient if asked for."""
    parts: list[Tensor] = []
    gradient = padded_zeros(logits) if _asked(logits) else None

    def differentiate(band: Tensor, region: Region) -> None:
        label, factor = region.of(target).unsqueeze(1), region.of(hard).unsqueeze(1)
        if smoothing is None:
            truth, total = _exponentials(band, label)
            losses = (total.log() - truth) * factor
            slope = factor
        else:
            soft, weights = region.of(smoothing.soft).unsqueeze(1), smoothing.class_weights.view(-1, 1, 1, 1, 1)
            band -= band.amax(1, keepdim=True)
            spread = (band * weights).sum(1, keepdim=True)
            truth, total = _exponentials(band, label)
            losses = (total.log() - truth) * factor + (total.log() * weights.sum() - spread) * soft
            slope = factor + soft * weights.sum()
        parts.append(losses.where(region.of(counted).unsqueeze(1), 0).sum())
        if gradient is not None:
            slope = slope / total
            band *= slope
            band.scatter_(1, label, truth.exp_() * slope - factor)
            if smoothing is not None:
                band.addcmul_(soft, weights, value=-1)

    visit(logits.detach(), target.shape, differentiate, gradient)
    return torch.stack(parts).sum(), None if gradient is None else without_padding(gradient)


def _exponentials(band: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Turn logits (n, K, …) into exp(logit − highest); returns that difference at ``label``, and the sum, (n, 1, …)."""
    band -= band.amax(1, keepdim=True)
    truth = band.gather(1, label)
    return truth, band.exp_().sum(1, keepdim=True)


class _WithGradient(torch.autograd.Function):
    """A value whose gradient with respect to the logits is known."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        if torch.is_grad_enabled():  # once_differentiable would silently treat the gradient as a constant
            raise RuntimeError(
                "a loss with low_memory can be differentiated once: leave out create_graph=True, or low_memory"
            )
        (gradient,) = ctx.saved_tensors
        return slope * gradient, None, None


def _asked(logits: Tensor) -> bool:
    return torch.is_grad_enabled() and logits.requires_grad


def _attach(logits: Tensor, value: Tensor, gradient: Tensor | None) -> Tensor:
    if gradient is None:
        return value
    attached: Tensor = _WithGradient.apply(logits, value, gradient)
    return attached
