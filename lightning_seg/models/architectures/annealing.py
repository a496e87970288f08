"""Says how often EoMT's queries are still kept to their masks, from the step alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lightning_seg.errors import ConfigError

_KEY = "MODEL.EOMT.ATTN_MASK_ANNEALING"


@dataclass(frozen=True)
class Annealing:
    """In each layer with queries, the share of queries that only attend to their masks falls from 1 to 0.

    It is EoMT's (Kerssies et al. 2025, https://arxiv.org/abs/2503.19108). Nothing is kept from step to step, so a run
    that was resumed has the shares of one that was not.

    Attributes:
        num_blocks: layers with queries.
        enabled: whether shares fall at all; else they are 1, also in evaluation.
        start_steps: at which the share of each layer begins to fall, in steps of ``max_iter``; empty: at equal
            distances from 1/6 to 4/6 of the run, as the published models of 3 and of 4 layers.
        end_steps: at which it is 0; empty: 1/6 of the run later.
        max_iter: steps of the run that these are written for.
        power: of the fall; 1 is a straight line.

    Raises:
        ConfigError: if a setting is out of range.
    """

    num_blocks: int
    enabled: bool = True
    start_steps: Sequence[float] = ()
    end_steps: Sequence[float] = ()
    max_iter: int = 1
    power: float = 0.9

    def __post_init__(self) -> None:
        starts, ends = self.start_steps, self.end_steps
        if len(starts) != len(ends) or len(starts) not in (0, self.num_blocks):
            raise ConfigError(
                f"{_KEY}_START_STEPS has {len(starts)} steps and {_KEY}_END_STEPS {len(ends)}, but both need one for "
                f"each of MODEL.EOMT.NUM_BLOCKS {self.num_blocks}; or leave both out"
            )
        for start, end in zip(starts, ends, strict=True):
            if not 0 <= start < end:
                raise ConfigError(
                    f"{_KEY}_START_STEPS has {start:g} and {_KEY}_END_STEPS {end:g} for the same layer, but an end "
                    "must come after its start"
                )
        if not self.power > 0:
            raise ConfigError(f"MODEL.EOMT.POLY_POWER is {self.power:g}, but must be above 0 (0.9 as published)")

    def shares(self, step: int, total_steps: float) -> list[float]:
        """The share of queries that are kept to their masks, in [0, 1], in each layer with queries.

        Args:
            step: optimiser steps that were made.
            total_steps: of the whole run; infinity stands for ``max_iter``, as for the config's schedule.

        >>> Annealing(2, max_iter=12, power=1).shares(3, 12)
        [0.5, 1.0]
        """
        if not self.enabled:
            return [1.0] * self.num_blocks
        distance = 3 / max(self.num_blocks - 1, 1)
        starts = self.start_steps or [self.max_iter * (1 + block * distance) / 6 for block in range(self.num_blocks)]
        ends = self.end_steps or [start + self.max_iter / 6 for start in starts]
        place = step if math.isinf(total_steps) else step / total_steps * self.max_iter
        progress = [(place - start) / (end - start) for start, end in zip(starts, ends, strict=True)]
        return [float((1 - min(max(done, 0), 1)) ** self.power) for done in progress]
