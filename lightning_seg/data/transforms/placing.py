"""Finds where evaluation transforms put the stored image, so that label maps find the way back.

A transform need not say where: an image of coordinates is sent through it, once for each size of image.
"""

import random
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.transforms.pipeline import Transform, explain
from lightning_seg.errors import DataError
from lightning_seg.sources import AnyFile
from lightning_seg.structures import Placement

Size = tuple[int, int]
Coordinates = NDArray[np.float64]

_LOW, _SPAN = 0.25, 0.5
"""Coordinates are sent as values of 0.25 to 0.75, because albumentations clips floats to 0…1; padding is 0."""

_EXACT = 0.02
"""How far a coordinate that was found may be off, in pixels."""

_LINES = 64
"""Rows and columns that are compared at most."""

_DRAWS = 8
"""How often a transform is tried that might draw what to do."""


class Placements:
    """Finds the part of the transformed image that shows the stored one, for each size of image.

    Args:
        transforms: of evaluation, from :func:`~lightning_seg.data.transforms.build_pipeline`; they stay as they are.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self._steps = [_Step(transform) for transform in transforms]
        self._found: dict[Size, Placement | None] = {}

    def of(self, size: Size, source: AnyFile) -> Placement | None:
        """The part of the transformed image that shows the stored one; None: all of it, the same way round.

        Args:
            size: height and width of the stored image.
            source: an image of that size, for the error.

        Raises:
            DataError: naming the transform that cuts a part of the image off, draws how to move it, or moves it in a
                way that has no exact inverse.
        """
        if size not in self._found:
            self._found[size] = self._find(size, source)
        return self._found[size]

    def _find(self, size: Size, source: AnyFile) -> Placement | None:
        image = f"image {source} ({size[1]}×{size[0]} pixels)"
        spans = [_Span(0.0, float(length)) for length in size]
        for step in self._steps:
            moves = step.follow(size, image)
            if moves is None:
                continue
            size = moves[0].length, moves[1].length
            spans = [span.through(move) for span, move in zip(spans, moves, strict=True)]
            if any(span.low < -_EXACT or span.high > length + _EXACT for span, length in zip(spans, size, strict=True)):
                raise DataError(
                    f"data.eval_transforms: {step.name} cuts off a part of {image}, but evaluation counts every pixel: "
                    "resize instead (albumentations.LongestMaxSize, then PadIfNeeded), or leave it out"
                )
            if not all(span.is_whole for span in spans):
                raise DataError(
                    f"data.eval_transforms: {step.name} puts a border of {image} inside a pixel, so that its label "
                    "map cannot be cut out: pad after all resizing, and leave out shifts by parts of a pixel"
                )
        rows, columns = spans
        if all(span == (0, length, False) for span, length in zip(spans, size, strict=True)):
            return None
        height, width = round(rows.high - rows.low), round(columns.high - columns.low)
        return Placement(round(rows.low), round(columns.low), height, width, rows.mirrored, columns.mirrored)


class _Move(NamedTuple):
    """How a transform moves one axis: it brings the border at ``x`` to ``scale * x + shift``.

    Attributes:
        length: of the axis afterwards.
    """

    scale: float
    shift: float
    length: int


class _Span(NamedTuple):
    """Where the stored image lies along one axis of the transformed one, from border to border."""

    low: float
    high: float
    mirrored: bool = False

    def through(self, move: _Move) -> "_Span":
        low, high = sorted((move.scale * self.low + move.shift, move.scale * self.high + move.shift))
        return _Span(_rounded(low), _rounded(high), self.mirrored != (move.scale < 0))

    @property
    def is_whole(self) -> bool:
        return self.low == round(self.low) and self.high == round(self.high)


class _Step:
    """One transform, or a container of some, that is always applied and scales bilinearly."""

    def __init__(self, transform: Transform) -> None:
        self.name = type(transform).__name__
        self._transform = deepcopy(transform)
        self._chooses = isinstance(transform, A.BaseCompose)
        self._followed = False
        self._by_chance = False
        for part in _parts(self._transform):
            self._by_chance |= 0 < part.p < 1
            part.p = float(part.p > 0)
            plain = {"interpolation": cv2.INTER_LINEAR, "border_mode": cv2.BORDER_CONSTANT, "fill": 0.0}
            for setting, value in {**plain, "area_for_downscale": None}.items():
                if hasattr(part, setting):
                    setattr(part, setting, value)

    def follow(self, size: Size, image: str) -> tuple[_Move, _Move] | None:
        """How the transforms move rows and columns of images of that size; None: not at all."""
        # Numbered pixels as a mask, since transforms may change colours of an image in place.
        numbers = np.arange(1000, 1000 + size[0] * size[1], dtype=np.int32).reshape(size)
        blank = np.zeros((*size, 3), np.uint8)
        draws = 2 if self._followed and not self._chooses else _DRAWS
        masks = [self._apply(draw, image, image=blank, mask=numbers)["mask"] for draw in range(draws)]
        if all(np.array_equal(mask, numbers) for mask in masks):
            self._followed = True
            return None
        if self._by_chance or not all(np.array_equal(mask, masks[0]) for mask in masks[1:]):
            raise DataError(
                f"data.eval_transforms: {self.name} draws where the pixels of {image} go, but evaluation shows each "
                f"image once, always the same way: {'set its p to 1, or ' if self._by_chance else ''}leave it out"
            )
        sent = np.empty((*size, 3), np.float32)
        sent[..., 0] = _encoded(size[0])[:, None]
        sent[..., 1] = _encoded(size[1])
        sent[..., 2] = 1 - _LOW
        moves = _moves(self._apply(0, image, image=sent, mask=numbers)["image"], size)
        if moves is None:
            raise DataError(
                f"data.eval_transforms: {self.name} moves the pixels of {image} (sent as float32 coordinates) in "
                "another way than by resizing, padding or a flip: its label map cannot be moved back, so leave it out"
            )
        self._followed = True
        return moves

    def _apply(self, draw: int, subject: str, **arrays: Any) -> dict[str, Any]:
        self._transform.set_random_state(np.random.default_rng(draw), random.Random(draw))
        try:
            found: dict[str, Any] = self._transform(**arrays)
        except Exception as error:
            raise DataError(explain(error, "data.eval_transforms", subject)) from error
        return found


def _parts(transform: Transform) -> Iterator[Transform]:
    yield transform
    for part in transform.transforms if isinstance(transform, A.BaseCompose) else ():
        yield from _parts(part)


def _encoded(length: int) -> Coordinates:
    """The coordinate that stands for the centre of each pixel along an axis."""
    return np.asarray(_LOW + _SPAN * (np.arange(length) + 0.5) / length)


def _moves(received: Any, size: Size) -> tuple[_Move, _Move] | None:
    """Read how an image of coordinates was moved; None: not by scaling, shifting and mirroring alone."""
    if not isinstance(received, np.ndarray) or received.ndim != 3 or received.shape[2] != 3:
        return None
    shown = received[..., 2] > (1 - _LOW) - 1e-4
    places = [np.flatnonzero(shown.any(axis=1 - axis)) for axis in range(2)]
    if not len(places[0]):
        return None
    ranges = [slice(place[0], place[-1] + 1) for place in places]
    inside = (ranges[0], ranges[1])
    if not shown[inside].all():
        return None
    moves = []
    for axis, length in enumerate(size):
        lines = received[(*inside, axis)] if axis == 1 else received[(*inside, axis)].T
        lines = lines[:: len(lines) // _LINES + 1].astype(np.float64)
        found = (lines - _LOW) / _SPAN * length - 0.5
        if np.abs(found - found[0]).max() > _EXACT:
            return None
        move = _fit(found[0], ranges[axis].start, length)
        if move is None:
            return None
        moves.append(_Move(*move, received.shape[axis]))
    return moves[0], moves[1]


def _fit(line: Coordinates, start: int, length: int) -> tuple[float, float] | None:
    """Scale and shift of borders, from the coordinate that each pixel from ``start`` on shows.

    At its ends the line is flat where bilinear scaling enlarges an image.
    """
    count = len(line)
    within = np.flatnonzero((line > _EXACT) & (line < length - 1 - _EXACT))
    if len(within) < 2:  # too few to tell: it is all of the axis, or nothing that can be read
        scale, shift = count / length, float(start)
        if line[0] > line[-1]:
            scale, shift = -scale, shift + count
    else:
        slope = (line[within[-1]] - line[within[0]]) / (within[-1] - within[0])
        if abs(slope) < 1e-6:
            return None
        scale = 1 / slope
        shift = start + within[0] + 0.5 - scale * (line[within[0]] + 0.5)
    borders = (start + np.arange(count) + 0.5 - shift) / scale
    expected = (borders - 0.5).clip(0, length - 1)
    return (float(scale), float(shift)) if np.abs(expected - line).max() <= _EXACT else None


def _rounded(border: float) -> float:
    """Round a border that is a whole number up to small errors."""
    return float(round(border)) if abs(border - round(border)) <= _EXACT else border
