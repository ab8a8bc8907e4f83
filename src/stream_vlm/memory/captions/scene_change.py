"""Tells when a camera shows another scene, from the vectors of its pictures.

How far the vectors of two pictures of the same scene lie apart depends on the vision tower and on
the camera. So a distance is compared with the usual distance of this camera, not with a number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FACTOR = 3.0
"""A scene is new if a picture is this many times as far away as pictures usually are.

Chosen on real clips (`benchmark/scene_change.py`, docs/memory.md).
"""

LEAST = 1e-4
"""Smaller distances (1 - cosine) are never a change: a frozen picture differs by rounding only."""

WARM_UP = 5
"""Distances that are needed before any of them is called large."""

SHARE = 0.1
"""Share of the newest distance in the usual distance."""


class SceneChange:
    """Follows the picture vectors of one camera, tick by tick.

    Args:
        factor: how many times the usual distance is a new scene.
    """

    def __init__(self, factor: float = FACTOR) -> None:
        self._factor = factor
        self._before: NDArray[np.float32] | None = None
        self._usual = 0.0
        self._seen = 0

    def is_new(self, vector: NDArray[np.float32]) -> bool:
        """Whether the picture with `vector` shows another scene than the picture before.

        Args:
            vector: float32, (size,), length 1, of the next picture.
        """
        before, self._before = self._before, vector
        if before is None or before.shape != vector.shape:
            return False
        distance = max(0.0, 1.0 - float(before @ vector))
        changed = self._seen >= WARM_UP and distance > max(LEAST, self._factor * self._usual)
        # A jump counts only as much as the largest usual distance, so that the next one is seen.
        counted = min(distance, self._factor * self._usual) if self._seen >= WARM_UP else distance
        share = max(SHARE, 1.0 / (self._seen + 1))
        self._usual += share * (max(counted, LEAST / self._factor) - self._usual)
        self._seen += 1
        return changed
