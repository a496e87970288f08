"""Ranks the regions of all images: evidence counts less where the same confusion is as strong in other images."""

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

PENALTY = 6.0
"""Evidence that is taken off each time the number of such regions in other images grows by a factor of e."""

Judged = tuple[str, Sequence[dict[str, Any]]]
"""The name of an image, and its regions as :meth:`Region.as_json` gives them."""


@dataclass(frozen=True)
class Suspect:
    """A region whose label is probably wrong.

    Attributes:
        image: name of its sample.
        region: as :meth:`Region.as_json` gives it.
        elsewhere: regions of the same label and prediction in other images whose evidence is as strong or stronger.
        score: what it is ranked by; the higher, the more certain.
    """

    image: str
    region: dict[str, Any]
    elsewhere: int
    score: float


def rank(judged: Callable[[], Iterable[Judged]], most: int) -> tuple[list[Suspect], int]:
    """Rank regions, and keep the first ones; the others are in memory as a few bytes each, and without their shape.

    The score of a region is its evidence − 6 · ln(1 + n), where n regions of the same label and prediction in other
    images have as much evidence or more. So a confusion that the network makes everywhere is no suspicion.

    Args:
        judged: gives all images, twice in the same order.
        most: how many are kept.

    Returns:
        The suspects with a positive score, the most certain first, and how many there are without ``most``.
    """
    evidence: dict[tuple[int, int], list[float]] = defaultdict(list)
    for _, regions in judged():
        for region in regions:
            evidence[region["label"], region["predicted"]].append(region["evidence"])
    ordered = {pair: np.sort(np.array(values)) for pair, values in evidence.items()}
    del evidence
    kept: list[tuple[float, int, Suspect]] = []
    total = number = 0
    for name, regions in judged():
        for region in regions:
            pair, strength = (region["label"], region["predicted"]), region["evidence"]
            everywhere = len(ordered[pair]) - int(np.searchsorted(ordered[pair], strength))
            here = sum(
                (other["label"], other["predicted"]) == pair and other["evidence"] >= strength for other in regions
            )
            score = round(strength - PENALTY * math.log1p(everywhere - here), 3)
            number += 1
            if score <= 0:
                continue
            total += 1
            entry = (score, -number, Suspect(name, region, everywhere - here, score))
            heapq.heappush(kept, entry) if len(kept) < most else heapq.heappushpop(kept, entry)
    return [suspect for _, _, suspect in sorted(kept, key=lambda entry: entry[:2], reverse=True)], total
