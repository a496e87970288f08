"""Draws label maps: overlays, error maps, and a grid of examples in a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_seg.colours import show_colour
from lightning_seg.data.labels.colours import colourise
from lightning_seg.files import replacing
from lightning_seg.structures import DatasetInfo, Placement

RGBImage = NDArray[np.uint8]

RIGHT, WRONG = (225, 225, 225), (200, 30, 30)
"""Colours of the error map."""

_LONGEST_NAME = 42
"""Characters of a name that fit above a picture; of a longer one the end is shown."""

_LONGEST_SIDE = 512
_TALLEST = 3.0
"""Height of a row of pictures by the width of one, at most; a file of a tall image has its limits."""

_NAMED = 38
"""How many classes the legend names at most."""


def at_stored_size(image: RGBImage, size: tuple[int, int], placement: Placement | None) -> RGBImage:
    """Bring the (h, w, C) image of a batch back to the size of the stored one; exact unless a transform scaled it.

    Args:
        image: after the transforms of the evaluation.
        size: height and width of the stored image.
        placement: where the image shows the stored one; None: everywhere.
    """
    if placement is not None:
        top, left, height, width, upside_down, mirrored = placement
        image = image[top : top + height, left : left + width]
        image = image[:: -1 if upside_down else 1, :: -1 if mirrored else 1]
    if image.shape[:2] == size:
        return np.ascontiguousarray(image)
    return cv2.resize(np.ascontiguousarray(image), size[::-1], interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def reduce(picture: RGBImage, longest_side: int) -> RGBImage:
    """Reduce a picture (H, W, 3) by averaging, if its longest side is longer than ``longest_side`` pixels."""
    scale = longest_side / max(picture.shape[:2])
    if scale >= 1:
        return picture
    return cv2.resize(picture, _reduced_size(picture.shape, scale), interpolation=cv2.INTER_AREA).astype(np.uint8)


def reduce_labels(labels: NDArray[Any], longest_side: int) -> NDArray[Any]:
    """Reduce ids (H, W) to the size that :func:`reduce` gives the image: some pixels stay, the others are dropped."""
    scale = longest_side / max(labels.shape)
    if scale >= 1:
        return labels
    width, height = _reduced_size(labels.shape, scale)
    rows = (np.arange(height) + 0.5) * labels.shape[0] / height
    columns = (np.arange(width) + 0.5) * labels.shape[1] / width
    thinned: NDArray[Any] = labels[rows.astype(int)[:, None], columns.astype(int)]
    return thinned


def _reduced_size(shape: Sequence[int], scale: float) -> tuple[int, int]:
    """Width and height, as OpenCV wants them."""
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


@dataclass(frozen=True)
class Example:
    """One evaluated sample at its stored size: image (H, W, 3) and label maps (H, W)."""

    name: str
    image: RGBImage
    truth: NDArray[Any]
    prediction: NDArray[Any]
    mean_iou: float


def error_map(prediction: NDArray[Any], truth: NDArray[Any], info: DatasetInfo) -> RGBImage:
    """(H, W, 3): light where the prediction is right, red where it is wrong, the ignore colour elsewhere."""
    shown = np.where((prediction == truth)[..., None], RIGHT, WRONG)
    shown[truth == info.ignore_index] = info.ignore_colour
    return shown.astype(np.uint8)


def draw_grid(examples: Sequence[Example], info: DatasetInfo, path: Path) -> None:
    """Save :func:`grid_of` some examples as a PNG, which is whole at every moment.

    Raises:
        DiskFullError: if there is no room.
    """
    from matplotlib import rc_context

    with rc_context({"text.parse_math": False}), replacing(path, synced=False) as file:  # a name may hold $
        grid_of(examples, info).savefig(file, format="png")


def grid_of(examples: Sequence[Example], info: DatasetInfo) -> Any:
    """A figure with a row for each example (image, truth, prediction, errors), and a legend of the classes below."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    aspect = min(_TALLEST, examples[0].image.shape[0] / examples[0].image.shape[1])
    figure = Figure(figsize=(12, len(examples) * (3 * aspect + 0.28) + 0.7), dpi=110, layout="constrained")
    axes = figure.subplots(len(examples), 4, squeeze=False)
    for row, example in zip(axes, examples, strict=True):
        name = example.name.encode(errors="replace").decode()  # that of a file may be no valid text
        panels = (
            (name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}", example.image),
            ("truth", colourise(example.truth, info)),
            (f"prediction, mIoU {example.mean_iou:.3f}", colourise(example.prediction, info)),
            ("errors", error_map(example.prediction, example.truth, info)),
        )
        for axis, (title, picture) in zip(row, panels, strict=True):
            axis.imshow(reduce(picture, _LONGEST_SIDE))
            axis.set_title(title, fontsize=9)
            axis.set_axis_off()
    colours = [*zip(info.names, info.palette, strict=True)][:_NAMED]
    colours += [("wrong", WRONG), ("ignored", info.ignore_colour)]
    legend = [Patch(color=show_colour(colour), label=name) for name, colour in colours]
    figure.legend(handles=legend, loc="outside lower center", ncols=min(8, len(legend)), fontsize=8, frameon=False)
    return figure
