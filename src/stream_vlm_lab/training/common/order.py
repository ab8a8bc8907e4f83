"""Which samples a step takes, from its number alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Order:
    """Which of `rows` samples each step takes: every epoch another shuffle of all, by `seed` and
    nothing else, so a step needs no history.
    """

    rows: int
    per_step: int
    seed: int

    def of_step(self, step: int) -> list[int]:
        """Indices of step number `step`."""
        places = (
            divmod(place, self.rows)
            for place in range(step * self.per_step, (step + 1) * self.per_step)
        )
        return [_shuffle(self.rows, self.seed, epoch)[within] for epoch, within in places]


@lru_cache(maxsize=2)
def _shuffle(rows: int, seed: int, epoch: int) -> list[int]:
    return [int(index) for index in np.random.default_rng((seed, epoch)).permutation(rows)]
