"""The ways to keep the past before a model that are compared, and what is measured of each."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Way:
    """A way to keep the past before the model.

    Attributes:
        name: as the table says it.
        policy, seconds: settings context.policy and context.max_seconds; None for as many seconds
            as the model tells positions apart.
        recompute: whether the measured ticks compute the context anew.
    """

    name: str
    policy: str
    seconds: float | None
    recompute: bool = False


def ways(context_s: float) -> list[Way]:
    """Ours first, then the baselines."""
    return [
        Way("ours: last_turns", "last_turns", context_s),
        Way("ours: chunked", "chunked", context_s),
        Way("ours: sliding", "sliding", context_s),
        Way("(a) growing full context", "chunked", None),
        Way("(b) sliding window, recomputed", "last_turns", context_s, recompute=True),
        Way("(c) last 4 frames, recomputed", "last_frames", 4.0, recompute=True),
        Way("(d) chunks without prefix reuse", "chunked", context_s, recompute=True),
    ]


@dataclass
class Row:
    """What was measured of one way.

    Attributes:
        ticks: (second of the stream, step in ms, tokens in context) of each measured silent tick.
        first_token_ms: from the frame to the first word.
        tokens_per_s: while words are written.
    """

    name: str
    ticks: list[tuple[float, float, int]] = field(default_factory=list)
    first_token_ms: float = 0.0
    tokens_per_s: float = 0.0
    cache_mb: float = 0.0
    process_mb: float = 0.0
    ended_s: float | None = None

    def percentile(self, percent: float, last_share: float = 0.5) -> float:
        """Step time (ms) over the later part of the stream, when the context is full."""
        late = [step for _, step, _ in self.ticks[int(len(self.ticks) * (1 - last_share)) :]]
        return float(np.percentile(late, percent)) if late else float("nan")
