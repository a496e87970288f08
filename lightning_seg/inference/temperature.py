"""Makes probabilities less sure or surer, which changes no label map, and says how sure they are.

The bits of torch's own softmax depend on the number of threads. Those of all here but :func:`tempered` do not.
"""

import torch
from torch import Tensor

LEAST = torch.finfo(torch.float32).tiny
"""A probability that has a logarithm."""


def tempered(probabilities: Tensor, temperature: float, classes: int = 0) -> Tensor:
    """p^(1/T) / Σ p^(1/T): the softmax of logits z becomes that of z / T.

    Args:
        probabilities: float32 in [0, 1] that sum to 1 over the classes.
        temperature: T > 0. Above 1, the network is less sure; at 1, the same tensor is returned.
        classes: the axis of the classes.
    """
    if temperature == 1:
        return probabilities
    return probabilities.clamp(min=LEAST).log_().div_(temperature).softmax(classes)


def softmax_of(logits: Tensor) -> Tensor:
    """The softmax of (K, …) float32 on its own memory, which becomes that."""
    logits.sub_(logits.amax(0)).exp_()
    return logits.div_(logits.sum(0))


def normalised(scores: Tensor) -> Tensor:
    """Scores (K, …) float32 of at least 0 divided by their sum, on their own memory; all alike where that is 0."""
    scores += LEAST
    return scores.div_(scores.sum(0))


def confidence_of_logits(logits: Tensor, temperature: float) -> Tensor:
    """The largest class of softmax(z / T), which is 1 / Σ exp((z − max z) / T), without that softmax.

    Args:
        logits: (K, …) float32 on its own memory, which is overwritten.
        temperature: T > 0.

    Returns:
        (…) float32 in (0, 1].
    """
    logits.sub_(logits.amax(0))
    if temperature != 1:
        logits.div_(temperature)
    return logits.exp_().sum(0).reciprocal_()


def confidence_of_scores(scores: Tensor, temperature: float) -> Tensor:
    """The largest of :func:`tempered` scores, once they are divided by their sum over the classes.

    Args:
        scores: (K, …) float32 of at least 0; all 0 count as all alike.
        temperature: T > 0.

    Returns:
        (…) float32 in (0, 1].
    """
    if temperature == 1:
        scores = scores + LEAST
        return scores.amax(0).div_(scores.sum(0))
    return confidence_of_logits(scores.clamp(min=LEAST).log_(), temperature)


def confidence_of_probabilities(probabilities: Tensor, temperature: float) -> Tensor:
    """The largest of :func:`tempered` probabilities (K, …), without the others: (…) float32 in [0, 1]."""
    return probabilities.amax(0) if temperature == 1 else confidence_of_scores(probabilities, temperature)


class Confidences:
    """Collects how sure a network is of each pixel of an image, while bands of rows of it are computed.

    Args:
        temperature: T > 0 of the confidences.

    Attributes:
        pieces: (rows, width) float32 each, from the top.
    """

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature
        self.pieces: list[Tensor] = []

    def add_logits(self, full: Tensor) -> None:
        """Take those of logits (K, rows, width), which are overwritten."""
        self.pieces.append(confidence_of_logits(full, self.temperature))

    def add_scores(self, full: Tensor) -> None:
        """Take those of scores of masks, (K, rows, width)."""
        self.pieces.append(confidence_of_scores(full, self.temperature))
