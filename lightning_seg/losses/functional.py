"""Computes the losses of semantic segmentation: pure functions of logits and labels.

Each takes ``logits`` (N, K, H, W) of a floating type and ``target`` (N, H, W), class ids 0 to K − 1 or
``ignore_index`` as int64 or uint8, and returns a scalar: float64 for float64 logits, float32 for all others, since
half precision is computed in float32. The batch counts as one set of pixels. If no pixel counts, the loss is zero and
so is its gradient. Nothing here waits for a GPU, so only torch's own check finds an id that is neither a class nor
``ignore_index``: IndexError or RuntimeError on a CPU, a device assertion on a GPU. Every function raises ValueError
if the shapes do not fit together.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_index: int,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy, averaged as in ``torch.nn.functional.cross_entropy``, but zero if that is NaN.

    Label smoothing is that of Szegedy et al. 2016, arXiv:1512.00567, section 7.

    Args:
        logits: (N, K, H, W).
        target: (N, H, W).
        ignore_index: label of pixels that do not count.
        class_weights: (K,), at least 0; the mean is divided by the sum of the pixels' weights.
        label_smoothing: share of the target that is spread over all classes, in [0, 1).
    """
    logits, target, counted = _prepare(logits, target, ignore_index)
    class_weights = _cast(class_weights, logits)
    total = F.cross_entropy(
        logits, target, class_weights, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction="sum"
    )
    return divide(total, pixel_weights(target, counted, class_weights).sum())


def ohem_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_index: int,
    threshold: float,
    min_kept: int,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of hard pixels: online hard example mining, by the probability of the true class.

    A pixel is kept if that probability is below ``threshold``, or if it is among the ``min_kept`` lowest of the
    batch, ties included. The mean over the kept pixels is that of :func:`cross_entropy`.

    Shrivastava et al. 2016, arXiv:1604.03540; for pixels, Wu et al. 2016, arXiv:1605.06885.

    Args:
        logits: (N, K, H, W).
        target: (N, H, W).
        ignore_index: label of pixels that do not count.
        threshold: probability in (0, 1].
        min_kept: number of pixels in the whole batch, not per image, at least 1; all that count if there are fewer.
        class_weights: (K,), at least 0; they do not change which pixels are hard.
    """
    logits, target, counted = _prepare(logits, target, ignore_index)
    losses = _pixel_losses(logits, target, ignore_index)
    kept = kept_by_ohem(losses.detach(), threshold, min_kept) & counted
    weights = pixel_weights(target, kept, _cast(class_weights, logits))
    return divide((weights * losses).sum(), weights.sum())


def kept_by_ohem(losses: Tensor, threshold: float, min_kept: int) -> Tensor:
    """Which pixels :func:`ohem_cross_entropy` keeps by their losses (N, H, W), bool; maybe some that are ignored."""
    probability = (-losses).exp()  # of ignored pixels 1, the easiest
    lowest = probability.flatten().topk(min(min_kept, losses.numel()), largest=False, sorted=False).values
    return (probability < threshold) | (probability <= lowest.max())


def hard_pixel_cross_entropy(
    logits: Tensor, target: Tensor, *, ignore_index: int, top_k_percent: float, class_weights: Tensor | None = None
) -> Tensor:
    """Mean of the highest pixel losses, by the rule of ``DeepLabCE`` in Detectron2's ``projects/deeplab/loss.py``.

    Ignored pixels are zeros among the losses: they count in the number of pixels that a share is taken of, and, with
    ``top_k_percent`` 1, in the mean. Class weights multiply the losses before they are ranked and do not divide the
    mean. At least one pixel is kept, where ``DeepLabCE`` gives NaN for fewer than 1 / ``top_k_percent`` pixels.

    Yang et al. 2019 (DeeperLab), arXiv:1902.05093.

    Args:
        logits: (N, K, H, W).
        target: (N, H, W).
        ignore_index: label of pixels whose loss is zero.
        top_k_percent: share of all pixels of the batch to keep, in (0, 1]: 0.2 keeps a fifth.
        class_weights: (K,), at least 0.
    """
    logits, target, _ = _prepare(logits, target, ignore_index)
    losses = _pixel_losses(logits, target, ignore_index, class_weights).flatten()
    if top_k_percent < 1:
        losses = losses.topk(max(1, int(top_k_percent * losses.numel()))).values
    return losses.mean()


def focal(
    logits: Tensor, target: Tensor, *, ignore_index: int, gamma: float, class_weights: Tensor | None = None
) -> Tensor:
    """Focal loss over the softmax: the mean over counted pixels of −α (1 − p)^γ log p; p belongs to the true class.

    Lin et al. 2017, arXiv:1708.02002, equation 5, with the softmax in place of the sigmoid.

    Args:
        logits: (N, K, H, W).
        target: (N, H, W).
        ignore_index: label of pixels that do not count.
        gamma: γ, at least 0; 0 is cross-entropy.
        class_weights: (K,), at least 0, the paper's α; they do not divide the mean, as they do not in the paper.
    """
    logits, target, counted = _prepare(logits, target, ignore_index)
    losses = _pixel_losses(logits, target, ignore_index)
    # 1 − p, but not 0: there, a power below 1 has an infinite slope.
    wrong = (-torch.expm1(-losses)).clamp(min=torch.finfo(losses.dtype).tiny)
    weights = pixel_weights(target, counted, _cast(class_weights, logits))
    return divide((weights * wrong**gamma * losses).sum(), counted.sum())


def dice(logits: Tensor, target: Tensor, *, ignore_index: int, smooth: float) -> Tensor:
    """Soft Dice loss of the softmax: the mean of 1 − (2 Σpg + s) / (Σp + Σg + s) over the classes in the target.

    The sums run over the counted pixels of the whole batch; p is a class's probability, g is 1 on its pixels.

    Drozdzal et al. 2016, arXiv:1608.04117, for several classes (Milletari et al. 2016, arXiv:1606.04797, square
    the terms of the denominator).

    Args:
        logits: (N, K, H, W).
        target: (N, H, W).
        ignore_index: label of pixels that count neither in the prediction nor in the target.
        smooth: s in pixels, at least 0.
    """
    logits, target, counted = _prepare(logits, target, ignore_index)
    truth = _one_hot(target, counted, logits.shape[1])
    probabilities = logits.softmax(1) * counted.unsqueeze(1)
    overlap = (probabilities * truth).sum((0, 2, 3))
    true = truth.sum((0, 2, 3))
    present = true > 0
    size = probabilities.sum((0, 2, 3)) + true + smooth
    losses = 1 - (2 * overlap + smooth) / size.where(present, 1)
    return divide((losses * present).sum(), present.sum())


def lovasz_softmax(logits: Tensor, target: Tensor, *, ignore_index: int) -> Tensor:
    """Lovász-Softmax: the Lovász extension of the Jaccard loss, the mean over the classes in the target.

    Berman et al. 2018, arXiv:1705.08790, equations 9 and 11, with ``classes="present"``, over the whole batch. On
    probabilities of 0 and 1 a class's loss is 1 − IoU.

    Args:
        logits: (N, K, H, W).
        target: (N, H, W).
        ignore_index: label of pixels that do not count.
    """
    logits, target, counted = _prepare(logits, target, ignore_index)
    truth = _one_hot(target, counted, logits.shape[1]).transpose(0, 1).flatten(1)  # (K, N·H·W)
    probabilities = logits.softmax(1).transpose(0, 1).flatten(1)
    errors = torch.where(truth, 1 - probabilities, probabilities)
    with torch.no_grad():  # the extension is linear as long as the order of the errors stays
        ranked = errors.masked_fill(~counted.flatten(), -1)  # ignored pixels last, where the slope is zero
        slopes = torch.stack([_jaccard_slopes(*pair) for pair in zip(ranked, truth, strict=True)])
    return divide((errors * slopes).sum(), truth.any(1).sum())


def boundary_weighted_cross_entropy(
    logits: Tensor, target: Tensor, *, ignore_index: int, radius: int, boundary_weight: float
) -> Tensor:
    """Cross-entropy with weight 1 + ``boundary_weight`` near label boundaries and 1 elsewhere; the weighted mean.

    A pixel is near a boundary if a pixel of another class is at most ``radius`` rows and ``radius`` columns away in
    the same image. Ignored pixels are of no class and make no boundary. A boundary across a strip of ignored pixels is
    found if the strip is narrow enough.

    The weight is a step; Ronneberger et al. 2015 (U-Net), arXiv:1505.04597, equation 2, have a Gaussian.

    Args:
        logits: (N, K, H, W).
        target: (N, H, W).
        ignore_index: label of pixels that do not count.
        radius: in pixels of the target, at least 1.
        boundary_weight: is added to the weight of boundary pixels, at least 0.
    """
    logits, target, counted = _prepare(logits, target, ignore_index)
    labels = target.float()  # max-pooling takes no integers; float32 holds ids up to 2²⁴ exactly
    lowest = -_window_max((-labels).masked_fill(~counted, -torch.inf), radius)
    highest = _window_max(labels.masked_fill(~counted, -torch.inf), radius)
    weights = (1 + boundary_weight * (lowest != highest)) * counted
    return divide((weights * _pixel_losses(logits, target, ignore_index)).sum(), weights.sum())


def _prepare(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits in float32 or float64, labels in int64, and which pixels count, (N, H, W) bool."""
    if logits.ndim != 4 or target.shape != (len(logits), *logits.shape[2:]):
        raise ValueError(
            f"logits have shape {tuple(logits.shape)} and target {tuple(target.shape)}, "
            "but must be (N, K, H, W) and (N, H, W)"
        )
    target = target.long()
    return logits.to(torch.promote_types(logits.dtype, torch.float32)), target, target != ignore_index


def _pixel_losses(logits: Tensor, target: Tensor, ignore_index: int, class_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of each pixel, (N, H, W); zero where ignored."""
    weights = _cast(class_weights, logits)
    return F.cross_entropy(logits, target, weights, ignore_index=ignore_index, reduction="none")


def _cast(class_weights: Tensor | None, logits: Tensor) -> Tensor | None:
    return None if class_weights is None else class_weights.to(logits.dtype)


def pixel_weights(target: Tensor, counted: Tensor, class_weights: Tensor | None) -> Tensor:
    """Weight of each pixel's class, (N, H, W); zero where ignored. Without weights it is ``counted``."""
    return counted if class_weights is None else class_weights[target.where(counted, 0)] * counted


def _one_hot(target: Tensor, counted: Tensor, num_classes: int) -> Tensor:
    """Which pixels are of each class, (N, K, H, W) bool; none where ignored."""
    size = (len(target), num_classes, *target.shape[1:])
    empty = torch.zeros(size, dtype=torch.bool, device=target.device)
    return empty.scatter_(1, target.where(counted, 0).unsqueeze(1), counted.unsqueeze(1))


def _jaccard_slopes(errors: Tensor, truth: Tensor) -> Tensor:
    """Slope of the Lovász extension of one class's Jaccard loss at each pixel's error; both (pixels,).

    In closed form, because the difference of neighbouring Jaccard losses has no digit left in float32 when a batch
    has millions of pixels. All zero for a class without a pixel.
    """
    order = errors.argsort(descending=True)
    true = truth[order]
    hits = true.cumsum(0)
    union = (hits[-1] + torch.arange(1, len(true) + 1, device=true.device) - hits).to(errors.dtype)
    missed = (hits[-1] - hits).to(errors.dtype)
    slopes = torch.where(true, 1 / union, missed / union / (union - 1).clamp(min=1))
    return torch.empty_like(slopes).scatter_(0, order, slopes)


def _window_max(labels: Tensor, radius: int) -> Tensor:
    """Maximum over the (2 · radius + 1)² pixels around each one, (N, H, W)."""
    return F.max_pool2d(labels, 2 * radius + 1, stride=1, padding=radius)


def divide(total: Tensor, mass: Tensor) -> Tensor:
    """``total / mass``; zero with a zero gradient if there is nothing to average."""
    return total / mass.where(mass > 0, 1)
