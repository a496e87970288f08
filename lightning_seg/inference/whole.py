"""From the scores of a whole image to its label map or probabilities, without logits at full size in between."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_seg.inference.kernel import (
    JustInTime,
    interpolate_columns,
    interpolate_rows,
    just_in_time,
    label_dtype,
    scores_of_masks,
)
from lightning_seg.inference.taps import Taps, bilinear_taps, reach
from lightning_seg.inference.temperature import Confidences, normalised, softmax_of
from lightning_seg.structures import MaskScores, Placement, Scores

Size = tuple[int, int]
"""Height and width in pixels."""

_BAND_BYTES = (2**23, 2**27)
"""Of logits at the label map's width: what stays in a CPU's cache, and what keeps a GPU busy."""

_PROBABILITY_BYTES = (2**20, 2**27)
"""Of probabilities at full size: they take many operations, whose memory a CPU's system does not hand out anew."""

_SHALLOWEST = 8
"""Rows of logits of a band at the least: neighbours share three."""


@torch.no_grad()
def label_maps(
    scores: Sequence[Scores],
    input_sizes: Sequence[Size],
    output_sizes: Sequence[Size],
    kernel: JustInTime = just_in_time,
    placements: Sequence[Placement | None] | None = None,
) -> list[Tensor]:
    """Upsample logits as Detectron2 does and take the best class of every pixel.

    Upsampling, cropping and resizing are one interpolation (see :func:`bilinear_taps`), which is computed band by band
    and reduced to class ids at once.

    Args:
        scores: of N images, whose values are finite.
        input_sizes: of each image as the network saw it, without padding.
        output_sizes: of each label map, usually the image's stored size.
        kernel: what computes a band.
        placements: where each input shows its image, which is cut out before it is resized; None: everywhere.

    Returns:
        N maps (height, width) of class ids: uint8 up to 256 classes, int16 or int32 above. They equal the argmax of
        what ``detectron2.modeling.postprocessing.sem_seg_postprocess`` makes of the head's output, except where
        rounding decides: where the two best logits differ by less than 1e-5 of their size. Of masks, they equal the
        argmax of Σ_q p_qk · σ(mask_q), whose masks are interpolated in this way.
    """
    return [
        _label_map(of_image, place or Placement(0, 0, *input_size), output_size, kernel)
        for of_image, input_size, output_size, place in zip(
            scores, input_sizes, output_sizes, placements or [None] * len(scores), strict=True
        )
    ]


@torch.no_grad()
def sure_label_map(
    scores: Scores,
    input_size: Size,
    output_size: Size,
    temperature: float = 1.0,
    place: Placement | None = None,
    kernel: JustInTime = just_in_time,
) -> tuple[Tensor, Tensor]:
    """The label map of one image, as of :func:`label_maps`, and how sure the network is of each of its pixels.

    Args:
        scores: of the image.
        input_size: as of :func:`label_maps`.
        output_size: as there.
        temperature: T > 0 of the confidences.
        place: where the input shows the image; None: everywhere.
        kernel: as of :func:`label_maps`.

    Returns:
        The label map (height, width), and (height, width) float32 in (0, 1]: the largest class of what
        :func:`probability_bands` gives, but for rounding. It costs one more exponential of each logit.
    """
    place, confidences = place or Placement(0, 0, *input_size), Confidences(temperature)
    labels = _label_map(scores, place, output_size, kernel, confidences)
    return labels, _mirrored(torch.cat(confidences.pieces), place)


def _mirrored(band: Tensor, place: Placement) -> Tensor:
    """Rows of a placed image (…, rows, width), as the image shows them."""
    mirrors = [axis - 2 for axis, mirrored in enumerate((place.upside_down, place.mirrored)) if mirrored]
    return band.flip(mirrors) if mirrors else band


def _label_map(
    scores: Scores, place: Placement, output_size: Size, kernel: JustInTime, confidences: Confidences | None = None
) -> Tensor:
    maps, stride = scores.maps, scores.stride
    if maps.device.type != "cpu" and place == (0, 0, *output_size, False, False):
        return upsampled_label_map(scores, output_size, confidences)
    height, width = output_size
    labels = torch.empty(output_size, dtype=label_dtype(scores.num_classes), device=maps.device)
    band = max(1, (_rows_within(_BAND_BYTES, maps, width) - 3) * height * stride // place.height)  # it reaches further
    probabilities = _by_class(scores) if isinstance(scores, MaskScores) else None
    for start in range(0, height, band):
        end = min(start + band, height)
        slab = _slab(scores, place, output_size, start, end)
        labels[start:end] = kernel.label_band(*slab, probabilities, confidences)
    return _mirrored(labels, place)


def _by_class(scores: MaskScores) -> Tensor:
    """(K, Q) float32, contiguous."""
    return scores.probabilities.t().float().contiguous()


def _slab(scores: Scores, place: Placement, output_size: Size, start: int, end: int) -> tuple[Tensor, Taps, Taps]:
    """The logits that rows ``start`` to ``end`` of the placed image are made of, and how: columns, then rows."""
    logits, stride = scores.maps, scores.stride
    (_, logit_rows, logit_columns), device = logits.shape, logits.device
    of_rows = (logit_rows, stride, place.height, output_size[0], device, place.top)
    columns = bilinear_taps(logit_columns, stride, place.width, output_size[1], device, place.left)
    first, last = reach(*of_rows)
    above, below = int(first[start:end].min()), int(last[start:end].max()) + 1
    indices, weights = ([part[start:end].clone() for part in parts] for parts in bilinear_taps(*of_rows))
    slab = logits[:, above:below].float().contiguous()
    return slab, columns, Taps(tuple(index.sub_(above) for index in indices), tuple(weights))


@torch.no_grad()
def probability_bands(
    scores: Scores, input_size: Size, output_size: Size, place: Placement | None = None
) -> Iterator[tuple[int, Tensor]]:
    """Probabilities of all classes, in bands of rows from the top, so that they are never there as a whole.

    They are the softmax of the logits that :func:`label_maps` takes the best of, or the scores of masks divided by
    their sum over the classes: their argmax is the label map, except where rounding decides.

    Args:
        scores: of one image.
        input_size: of the image as the network saw it, without padding.
        output_size: of the result, usually the image's stored size.
        place: where the input shows the image; None: everywhere.

    Yields:
        The first row of a band, and the band (K, rows, width) float32, which sums to 1 over the classes.
    """
    place = place or Placement(0, 0, *input_size)
    height, width = output_size
    probabilities = _by_class(scores) if isinstance(scores, MaskScores) else None
    for top in range(0, height, band := affordable_rows(scores.maps, width, scores.num_classes)):
        bottom = min(top + band, height)
        start, end = (height - bottom, height - top) if place.upside_down else (top, bottom)
        slab, columns, rows = _slab(scores, place, output_size, start, end)
        full = interpolate_rows(interpolate_columns(slab, *columns), *rows)
        shown = softmax_of(full) if probabilities is None else normalised(scores_of_masks(full, probabilities))
        yield top, _mirrored(shown, place)


def plain_scores(scores: Scores) -> Tensor:
    """Logits, or scores of masks, at the size of the padded input, (K, H, W) float32: what bands are compared with."""
    full = F.interpolate(scores.maps[None].float(), scale_factor=scores.stride, mode="bilinear", align_corners=False)[0]
    return scores_of_masks(full, _by_class(scores)) if isinstance(scores, MaskScores) else full


def upsampled_label_map(scores: Scores, size: Size, confidences: Confidences | None = None) -> Tensor:
    """The label map of an image that is stored as the network saw it, by torch's own upsampling, for a GPU.

    Plain taps read and write each upsampled logit a dozen times, which a GPU's memory is too slow for; this does once.

    Args:
        scores: of the image.
        size: height and width of the image, without padding.
        confidences: is told those of the image.
    """
    (height, width), maps, stride = size, scores.maps, scores.stride
    dtype = label_dtype(scores.num_classes)
    labels = torch.empty(size, dtype=dtype, device=maps.device)
    probabilities = _by_class(scores) if isinstance(scores, MaskScores) else None
    # Rows of logits, beside one more above and below.
    band = max(1, _rows_within(_BAND_BYTES, maps, width) // stride - 2)
    for top in range(0, -(-height // stride), band):
        above, below = max(0, top - 1), min(top + band + 1, maps.shape[1])
        slab = maps[None, :, above:below].float()
        full = F.interpolate(slab, scale_factor=stride, mode="bilinear", align_corners=False)[0]
        start, end = top * stride, min((top + band) * stride, height)
        shown = full[:, start - above * stride : end - above * stride, :width]
        shown = shown if probabilities is None else scores_of_masks(shown, probabilities)
        labels[start:end] = shown.argmax(0)
        if confidences is not None:
            (confidences.add_logits if probabilities is None else confidences.add_scores)(shown)
    return labels


def affordable_rows(values: Tensor, width: int | None = None, num_classes: int = 0) -> int:
    """Rows of probabilities of all classes that are held at once.

    Args:
        values: (K, h, w), whose classes and device count.
        width: of a row; None: w.
        num_classes: in place of K, where there are more.
    """
    return _rows_within(_PROBABILITY_BYTES, values, width or values.shape[-1], num_classes)


def _rows_within(sizes: tuple[int, int], values: Tensor, width: int, num_classes: int = 0) -> int:
    """Rows of float32 of all classes, on this device, that so many bytes hold."""
    of_row = 4 * max(len(values), num_classes) * width
    return max(sizes[values.device.type == "cuda"] // of_row, _SHALLOWEST)
