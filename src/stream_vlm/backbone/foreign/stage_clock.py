"""Measures how long the stages of a step take."""

from __future__ import annotations

import time


class StageClock:
    """Adds the time since the last stop to a stage.

    Args:
        seconds: wall time by stage, in seconds; it is added to.
    """

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self._since = seconds, time.perf_counter()

    def stop(self, stage: str) -> None:
        """Add the time since the last stop, or since the beginning, to `stage`."""
        now = time.perf_counter()
        self._seconds[stage] = self._seconds.get(stage, 0.0) + now - self._since
        self._since = now
