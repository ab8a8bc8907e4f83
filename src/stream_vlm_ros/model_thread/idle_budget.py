"""Whether there is time for a slice of other work before the next beat: a look is never late
because of it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

REMEMBERED = 8
"""Slices by whose longest the next one is judged."""
BOLDER = 0.8
"""What is expected of a slice shrinks to this share with each look before which none fitted: a
single slow one does not end all.
"""


class IdleBudget:
    """Knows when beats come, by how far the last two lay apart, and how long slices take, by the
    last ones.

    A beat that is overdue by as much again is not waited for: the clock stands still, or nobody
    beats.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds."""
        self._clock = clock
        self._last: float | None = None
        self._between = 0.0
        self._slices: deque[float] = deque(maxlen=REMEMBERED)
        self._fitted = True

    def tick(self) -> None:
        """It is time to look, now."""
        now = self._clock()
        if self._last is not None:
            self._between = now - self._last
        self._last = now

    def has_room(self) -> bool:
        """Whether a slice would be over before the next beat."""
        left = self._left()
        return left < -self._between or left > max(self._slices, default=0.0) or not self._between

    def wait_s(self) -> float:
        """After how many seconds to ask again, where none fits and no beat comes."""
        return max(0.0, self._left() + self._between) + 0.001

    def record(self, seconds: float) -> None:
        """A slice was done in `seconds`."""
        self._slices.append(seconds)
        self._fitted = True

    def step_started(self) -> None:
        """A look was taken."""
        if not self._fitted:
            self._slices = deque([seconds * BOLDER for seconds in self._slices], REMEMBERED)
        self._fitted = False

    def _left(self) -> float:
        return 0.0 if self._last is None else self._last + self._between - self._clock()
