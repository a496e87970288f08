"""Finds the connected regions of a label map, of all classes at once: pixels of one value that touch by their sides."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Regions:
    """The regions of one label map, as runs: pixels of equal value that follow one another in a row.

    Attributes:
        starts: (R,) int64, ascending: the place of each run's first pixel among all H · W.
        of_run: (R,) which region each run belongs to, from 0.
        count: how many regions there are.
        pixels: H · W.
    """

    starts: NDArray[np.int64]
    of_run: NDArray[np.int32]
    count: int
    pixels: int

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """How many pixels each region has, (count,)."""
        return np.bincount(self.of_run, self._lengths, self.count).astype(np.int64)  # exact: far below 2^53

    def at(self, places: NDArray[np.int64]) -> NDArray[np.int32]:
        """The regions of the pixels at these places among all H · W, (n,)."""
        return np.repeat(self.of_run, self._lengths)[places]

    @cached_property
    def _lengths(self) -> NDArray[np.int64]:
        return np.diff(self.starts, append=self.pixels)


def regions_of(labels: NDArray[Any]) -> Regions:
    """Find the regions of (H, W) integers.

    OpenCV and SciPy label the regions of one class at a time. Here runs are the nodes of one graph; its edges join runs
    of equal value in neighbouring rows. So the time does not grow with the number of classes.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    begins = np.ones(labels.shape, bool)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=begins[:, 1:])
    starts = np.flatnonzero(begins)
    joined = labels[1:] == labels[:-1]
    joined &= begins[1:] | begins[:-1]  # where two runs begin to lie over each other, one of them begins
    upper = np.flatnonzero(joined)
    above, below = (np.searchsorted(starts, places, side="right") - 1 for places in (upper, upper + labels.shape[1]))
    graph = coo_array((np.ones(len(upper), bool), (above, below)), (len(starts), len(starts)))
    count, of_run = connected_components(graph, directed=False)
    return Regions(starts, of_run, count, labels.size)
