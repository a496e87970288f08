"""Pieces of a region that meet on horizontal lines become one polygon, in the time that their outlines take to read.

A general union of polygons takes many times as long where a region has thousands of holes.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.int64]
"""Corners (x, y), the first of which is the last one too."""

Rings = list[Ring]
"""The outer ring of a polygon, then its holes. None touches itself."""

_Point = tuple[int, int]


def joined(pieces: Sequence[Rings], lines: Sequence[int]) -> Rings:
    """The one polygon that pieces make together.

    Args:
        pieces: whose pixels are connected by their sides, each between two neighbouring lines.
        lines: y of the lines that pieces may meet on.
    """
    if len(pieces) == 1:
        return pieces[0]
    holes = [hole for piece in pieces for hole in piece[1:]]
    chains: list[Ring] = []
    runs: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for piece in pieces:
        ring = piece[0] if _area(piece[0]) > 0 else piece[0][::-1]
        on_line = (ring[:-1, 1] == ring[1:, 1]) & np.isin(ring[:-1, 1], lines)
        places = np.flatnonzero(on_line)
        for place in places.tolist():
            runs[int(ring[place, 1])].append((int(ring[place, 0]), int(ring[place + 1, 0])))
        # What lies between two runs, across the end of the array too.
        turned = np.concatenate([ring[places[0] + 1 : -1], ring[: places[0] + 1]])
        ends = [0, *(places[1:] - places[0]).tolist(), len(turned)]
        chains += [chain for start, stop in pairwise(ends) if len(chain := turned[start:stop]) > 1]
    for y, along in runs.items():
        chains += _left_over(along, y)
    rings = [_corners(ring) for ring in _linked(_broken(chains))]
    areas = [_area(ring) for ring in rings]
    outer = areas.index(max(areas))
    return [rings[outer], *rings[:outer], *rings[outer + 1 :], *holes]


def _left_over(runs: Sequence[tuple[int, int]], y: int) -> list[Ring]:
    """What is left of runs along a line where two that go in opposite directions cancel each other."""
    steps: dict[int, int] = defaultdict(int)
    for start, stop in runs:
        steps[start] += 1
        steps[stop] -= 1
    going = 0
    left: list[Ring] = []
    for start, stop in pairwise(sorted(steps)):
        going += steps[start]
        if going:
            ends = (start, stop) if going > 0 else (stop, start)
            left.append(np.array([(ends[0], y), (ends[1], y)]))
    return left


def _broken(chains: Sequence[Ring]) -> list[Ring]:
    """Chains that touch others, and themselves, at their ends alone."""
    points = np.concatenate(chains)
    _, numbers, counts = np.unique(points, axis=0, return_inverse=True, return_counts=True)
    is_shared = counts[numbers.reshape(-1)] > 1
    parts: list[Ring] = []
    first = 0
    for chain in chains:
        inner = np.flatnonzero(is_shared[first + 1 : first + len(chain) - 1]) + 1
        parts += [chain[start : stop + 1] for start, stop in pairwise([0, *inner.tolist(), len(chain) - 1])]
        first += len(chain)
    return parts


def _linked(chains: Sequence[Ring]) -> list[Ring]:
    """Rings that chains make, end to start; a ring that would touch itself is two."""
    starts: dict[_Point, list[Ring]] = defaultdict(list)
    for chain in chains:
        starts[_point(chain[0])].append(chain)
    rings: list[Ring] = []
    while starts:
        here = next(iter(starts))
        path: list[Ring] = []
        passed = {here: 0}
        while True:
            chain = starts[here].pop()
            if not starts[here]:
                del starts[here]
            path.append(chain)
            here = _point(chain[-1])
            if here in passed:
                first = passed[here]
                rings.append(np.concatenate([*(each[:-1] for each in path[first:]), path[-1][-1:]]))
                del path[first:]
                passed = {point: place for point, place in passed.items() if place <= first}
                if not path:
                    break
            else:
                passed[here] = len(path)
    return rings


def _corners(ring: Ring) -> Ring:
    """A ring without points on straight lines."""
    points = ring[:-1]
    before, after = points - np.roll(points, 1, 0), np.roll(points, -1, 0) - points
    kept = points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    return np.concatenate([kept, kept[:1]])


def _area(ring: Ring) -> int:
    """Twice the area, negative where the ring goes the other way."""
    (x, y), (next_x, next_y) = ring[:-1].T, ring[1:].T
    return int((x * next_y - next_x * y).sum())


def _point(corner: NDArray[np.int64]) -> _Point:
    return int(corner[0]), int(corner[1])
