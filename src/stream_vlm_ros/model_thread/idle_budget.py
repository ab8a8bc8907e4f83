"""Decides whether a slice of other work fits before the next tick, so that no step starts late."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW = 8
"""The next slice is expected to take as long as the longest of this many last slices."""
SHRINK = 0.8
"""If no slice fitted between two steps, the durations of the last slices shrink to this share.

So one slow slice does not stop all later work.
"""


class IdleBudget:
    """Predicts the next tick and the duration of the next slice from the last ones.

    The next tick is expected one period after the last one; the period is the time between the last
    two ticks. If a tick is a full period late, the timer is assumed to have stopped, so there is
    room.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds."""
        self._clock = clock
        self._last_tick: float | None = None
        self._period = 0.0
        self._slices: deque[float] = deque(maxlen=WINDOW)
        self._slice_since_step = True

    def tick(self) -> None:
        """Note that a tick came now."""
        now = self._clock()
        if self._last_tick is not None:
            self._period = now - self._last_tick
        self._last_tick = now

    def has_room(self) -> bool:
        """Return whether a slice is expected to end before the next tick."""
        left = self._time_left()
        return left < -self._period or left > max(self._slices, default=0.0) or not self._period

    def wait_s(self) -> float:
        """Return after how many seconds to ask again if there is no room and no tick comes."""
        return max(0.0, self._time_left() + self._period) + 0.001

    def record(self, seconds: float) -> None:
        """Note that a slice took `seconds` seconds."""
        self._slices.append(seconds)
        self._slice_since_step = True

    def step_started(self) -> None:
        """Note that a step starts."""
        if not self._slice_since_step:
            self._slices = deque([seconds * SHRINK for seconds in self._slices], WINDOW)
        self._slice_since_step = False

    def _time_left(self) -> float:
        """Seconds until the next tick is expected; negative if it is late."""
        return 0.0 if self._last_tick is None else self._last_tick + self._period - self._clock()
