"""Which logits each pixel of a label map is made of, along one axis."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_PERIOD = 8
"""Of the impulses that weights are read off; more than the logits that one pixel can be made of, and some slack."""


class Taps(NamedTuple):
    """Pixel j is the sum over t of ``weights[t][j]`` times logit ``indices[t][j]``.

    Attributes:
        indices: two or three (pixels,) int64, in ascending order within a pixel.
        weights: as many (pixels,) float32.
    """

    indices: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]


@lru_cache(maxsize=256)
def reach(
    logits: int, stride: int, input_size: int, output_size: int, device: torch.device, start: int = 0
) -> tuple[Tensor, Tensor]:
    """The first and the last logit of each pixel of :func:`bilinear_taps`, (pixels,) int64 each, on the CPU.

    They say which logits a band of pixels needs without asking the device again for every band.
    """
    indices = bilinear_taps(logits, stride, input_size, output_size, device, start).indices
    return indices[0].cpu(), indices[-1].cpu()


@lru_cache(maxsize=256)
def bilinear_taps(
    logits: int, stride: int, input_size: int, output_size: int, device: torch.device, start: int = 0
) -> Taps:
    """Upsampling by ``stride``, cropping to ``input_size`` and resizing to ``output_size``, as one interpolation.

    Both steps are linear, so that their product is one too: of two neighbouring logits where either step changes
    nothing, and of three otherwise. The weights are what ``F.interpolate`` itself makes of unit impulses, because its
    own rounding of positions shows in the result where sizes are no powers of two.

    Args:
        logits: how many there are along the axis.
        stride: input pixels per logit.
        input_size: of the image as the network saw it, without padding; ``start + input_size`` is at most
            ``logits * stride``.
        output_size: of the label map.
        device: whose rounding counts.
        start: input pixel at which the image begins.
    """
    positions = torch.arange(logits, device=device)
    phases = torch.arange(_PERIOD, device=device)[:, None]
    impulses = (positions % _PERIOD == phases).float()[None, :, None]  # (1, period, 1, logits)
    full = F.interpolate(impulses, scale_factor=(1, stride), mode="bilinear", align_corners=False)
    cropped = full[..., start : start + input_size]
    response = F.interpolate(cropped, size=(1, output_size), mode="bilinear", align_corners=False)[0, :, 0]

    pixels = torch.arange(output_size, device=device, dtype=torch.float64)
    inputs = start + ((pixels + 0.5) * (input_size / output_size) - 0.5).clamp(0, input_size - 1)
    nearby = ((inputs + 0.5) / stride - 0.5).floor().long() - 2  # below the first logit, by rounding or by a step
    window = nearby + phases  # (period, pixels)
    weights = response.gather(0, window % _PERIOD)
    first = (weights != 0).to(torch.uint8).argmax(0)
    taps = first + phases[:3]
    indices = (nearby + taps).clamp(0, logits - 1)
    weights = weights.gather(0, taps)
    used = 3 if weights[2].any() else 2
    return Taps(tuple(index.clone() for index in indices[:used]), tuple(weight.clone() for weight in weights[:used]))
