"""Long stretches in which nothing happens: planned before a script is written, and read back from
what was written.
"""

from __future__ import annotations

import numpy as np

from stream_vlm_lab.simulation.script.script import Script

BURST_S = (45.0, 150.0)
"""Length of what lies between two quiet stretches: shortest and longest, seconds."""
QUIET_FROM_S = 60.0
"""A gap of so many seconds between two events counts as quiet."""

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
