"""When events happen and how long they take: quiet spans and slow events."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stream_vlm_lab.simulation.script.script import Event, Script

BURST_S = (45.0, 150.0)
"""Shortest and longest time between two quiet spans, in seconds."""
QUIET_FROM_S = 60.0
"""A gap between two events counts as quiet from this length, in seconds."""

SLOW_SHARE = 0.5
"""Share of slow events, in streams that have them."""

Span = tuple[float, float]
"""Start and end in seconds."""


def plan_quiet_spans(seed: int, duration_s: float, mean_minutes: float) -> list[Span]:
    """Plan spans without events, in order of time; none if `mean_minutes` is 0.

    Each lasts between half and twice the mean; the time between two is in `BURST_S`.
    """
    if not mean_minutes:
        return []
    rng = np.random.default_rng([seed, 0x5117])
    spans = []
    now = float(rng.uniform(*BURST_S))
    while now < duration_s:
        # Logarithmic, so that half and twice the mean have the same probability.
        length_s = 60 * mean_minutes * float(2 ** rng.uniform(-1, 1))
        # Rounded to milliseconds, like the times of events.
        spans.append((round(now, 3), round(min(now + length_s, duration_s), 3)))
        now += length_s + float(rng.uniform(*BURST_S))
    return spans


def find_quiet_spans(script: Script, shortest_s: float = QUIET_FROM_S) -> list[Span]:
    """Spans of at least `shortest_s` seconds without an event, from start to end of the stream."""
    starts = [0.0, *(event.t_end for event in script.events)]
    ends = [*(event.t_start for event in script.events), script.duration_s]
    return [
        (start, end) for start, end in zip(starts, ends, strict=True) if end - start >= shortest_s
    ]


class SlowEvents:
    """Makes some events of a stream slow.

    It has a random generator of its own, so the events themselves do not change.
    """

    def __init__(self, seed: int, longest_s: float) -> None:
        self._rng = np.random.default_rng([seed, 0x510])
        self._longest_s = longest_s

    def slow_down(self, event: Event) -> Event:
        """Return `event` unchanged, or slower, up to the longest duration.

        Its times count from 0. Events without duration stay as they are.
        """
        if not self._longest_s > event.t_end > 0 or self._rng.random() >= SLOW_SHARE:
            return event
        # Logarithmic, so that every order of magnitude has the same probability.
        factor = float((self._longest_s / event.t_end) ** self._rng.random())
        return replace(
            event,
            t_end=event.t_end * factor,
            t_approached=event.t_approached * factor,
            t_contact=event.t_contact * factor,
        )
