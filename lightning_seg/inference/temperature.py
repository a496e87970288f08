"""Makes probabilities less sure or surer, which changes no label map."""

import torch
from torch import Tensor

_LEAST = torch.finfo(torch.float32).tiny
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
    return probabilities.clamp(min=_LEAST).log_().div_(temperature).softmax(classes)
