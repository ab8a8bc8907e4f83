"""The order of training samples: which samples a step uses depends only on the step's number."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class SampleOrder:
    """Shuffles the samples anew in every epoch.

    The shuffle depends only on `seed` and the epoch, so a resumed run needs no history.

    Attributes:
        rows: number of samples.
        per_step: samples in a step, over all processes.
        seed: seed of the shuffles.
    """

    rows: int
    per_step: int
    seed: int

    def of_step(self, step: int) -> list[int]:
        """Return the sample indices of step number `step`."""
        places = (
            divmod(place, self.rows)
            for place in range(step * self.per_step, (step + 1) * self.per_step)
        )
        return [_shuffle(self.rows, self.seed, epoch)[within] for epoch, within in places]


@lru_cache(maxsize=2)
def _shuffle(rows: int, seed: int, epoch: int) -> list[int]:
    return [int(index) for index in np.random.default_rng((seed, epoch)).permutation(rows)]
