"""When events happen and how long they take: long quiet stretches, and events done slowly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stream_vlm_lab.simulation.script.script import Event, Script

BURST_S = (45.0, 150.0)
"""Length of what lies between two quiet stretches: shortest and longest, seconds."""
QUIET_FROM_S = 60.0
"""A gap of so many seconds between two events counts as quiet."""

SLOW_SHARE = 0.5
"""Share of the events that are done slowly, where any may be."""

Span = tuple[float, float]
"""Start and end in seconds."""


def quiet_spans(seed: int, duration_s: float, mean_minutes: float) -> list[Span]:
    """Stretches to be kept free of events, in order of time; none where `mean_minutes` is 0.

    Each lasts between half and twice the mean, the bursts between them as long as `BURST_S` says.
    """
    if not mean_minutes:
        return []
    rng = np.random.default_rng([seed, 0x5117])
    spans = []
    now = float(rng.uniform(*BURST_S))
    while now < duration_s:
        # Logarithmic, so that half and twice the mean are as likely as each other.
        length_s = 60 * mean_minutes * float(2 ** rng.uniform(-1, 1))
        # To the millisecond, as the times of events are.
        spans.append((round(now, 3), round(min(now + length_s, duration_s), 3)))
        now += length_s + float(rng.uniform(*BURST_S))
    return spans


def quiet_stretches(script: Script, shortest_s: float = QUIET_FROM_S) -> list[Span]:
    """Where nothing happens for at least `shortest_s` seconds: before the first event, between two,
    or after the last.
    """
    starts = [0.0, *(event.t_end for event in script.events)]
    ends = [*(event.t_start for event in script.events), script.duration_s]
    return [
        (start, end) for start, end in zip(starts, ends, strict=True) if end - start >= shortest_s
    ]


class SlowMotion:
    """Stretches some events of one stream; draws from a generator of its own, so that what happens
    stays the same.
    """

    def __init__(self, seed: int, longest_s: float) -> None:
        self._rng = np.random.default_rng([seed, 0x510])
        self._longest_s = longest_s

    def done(self, event: Event) -> Event:
        """`event`, whose times count from 0, as it is done: as it is, or longer, up to the longest
        length. What happens at once stays so.
        """
        if not self._longest_s > event.t_end > 0 or self._rng.random() >= SLOW_SHARE:
            return event
        # Logarithmic, so that every order of length comes as often as the others.
        factor = float((self._longest_s / event.t_end) ** self._rng.random())
        return replace(
            event,
            t_end=event.t_end * factor,
            t_approached=event.t_approached * factor,
            t_contact=event.t_contact * factor,
        )
