"""From the rows of a network's input to the rows of the stored image, while they come in."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_seg.inference.kernel import interpolate_columns, interpolate_rows
from lightning_seg.inference.taps import bilinear_taps, reach
from lightning_seg.inference.whole import Size, affordable_rows
from lightning_seg.structures import Placement

Bands = Iterator[tuple[int, Tensor]]
"""First row and content of bands of rows, from the top and without a gap."""


def first_needed(first: int, input_size: Size, output_size: Size, place: Placement | None = None) -> int:
    """The row of the input from which :func:`placed` needs bands for those from row ``first`` of the result."""
    place = place or Placement(0, 0, *input_size)
    if place.upside_down:
        return 0
    scaled = first * place.height // output_size[0]
    return max(0, place.top + scaled - (place.height != output_size[0]) * 2)  # rounding, and one that it is made of


def placed(bands: Bands, input_size: Size, output_size: Size, place: Placement | None = None, first: int = 0) -> Bands:
    """Cut out what shows the image, resize it bilinearly and mirror it, band by band.

    Where the input shows the image upside down, all bands become one.

    Args:
        bands: (K, rows, w) float32, of an input of this height and width, from its row :func:`first_needed`.
        input_size: height and width of the input.
        output_size: of the result, usually the image's stored size.
        place: where the input shows the image; None: everywhere.
        first: row of the result to begin with.

    Yields:
        First row and content (K, rows, W) of bands of the result.
    """
    place = place or Placement(0, 0, *input_size)
    shown = _rows(_columns(bands, place, input_size, output_size), place, input_size, output_size, first)
    if place.upside_down:
        shown = iter([(0, joined(shown, output_size[0]).flip(-2))])
    for top, band in shown:
        yield top, band.flip(-1) if place.mirrored else band


def joined(bands: Bands, height: int) -> Tensor:
    """What bands (…, rows, W) make together, (…, height, W)."""
    whole: Tensor | None = None
    for top, band in bands:
        if whole is None:
            whole = band.new_empty((*band.shape[:-2], height, band.shape[-1]))
        whole[..., top : top + band.shape[-2], :] = band
    assert whole is not None  # every image has a row
    return whole


def _columns(bands: Bands, place: Placement, input_size: Size, output_size: Size) -> Bands:
    width = output_size[1]
    for top, band in bands:
        if place.width == width:
            yield top, band[..., place.left : place.left + width]
        else:
            taps = bilinear_taps(input_size[1], 1, place.width, width, band.device, place.left)
            yield top, interpolate_columns(band, *taps)


def _rows(bands: Bands, place: Placement, input_size: Size, output_size: Size, begin: int) -> Bands:
    height = output_size[0]
    if place.height == height:
        for top, band in bands:
            start, end = max(top, place.top), min(top + band.shape[1], place.top + height)
            if start < end:
                yield start - place.top, band[:, start - top : end - top]
        return
    done, held_from, held = 0 if place.upside_down else begin, 0, None
    for top, band in bands:
        if held is None:
            held_from = top
        held = band if held is None else torch.cat([held, band], 1)
        of_rows = (input_size[0], 1, place.height, height, band.device, place.top)
        first, last = reach(*of_rows)
        ready = int((last < top + band.shape[1]).sum())
        for start in range(done, ready, step := affordable_rows(held)):
            part = slice(start, min(start + step, ready))
            indices, weights = ([one[part] for one in of_axis] for of_axis in bilinear_taps(*of_rows))
            yield start, interpolate_rows(held, [index - held_from for index in indices], weights)
        done = max(done, ready)
        needed = min(int(first[done]) if done < height else input_size[0], top + band.shape[1])
        held, held_from = held[:, max(0, needed - held_from) :], max(held_from, needed)
