"""Methods to keep past frames in the model's context that are compared, and their measurements."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class ContextMethod:
    """A method to keep past frames in the model's context.

    Attributes:
        name: name in the table.
        policy: setting context.policy.
        seconds: setting context.max_seconds; None for as many seconds as the model has positions.
        recompute: whether measured ticks compute the whole context again.
    """

    name: str
    policy: str
    seconds: float | None
    recompute: bool = False


def context_methods(context_s: float) -> list[ContextMethod]:
    """Our methods first, then the baselines; each keeps `context_s` seconds, if it has a limit."""
    return [
        ContextMethod("ours: last_turns", "last_turns", context_s),
        ContextMethod("ours: chunked", "chunked", context_s),
        ContextMethod("ours: sliding", "sliding", context_s),
        ContextMethod("(a) growing full context", "chunked", None),
        ContextMethod("(b) sliding window, recomputed", "last_turns", context_s, recompute=True),
        ContextMethod("(c) last 4 frames, recomputed", "last_frames", 4.0, recompute=True),
        ContextMethod("(d) chunks without prefix reuse", "chunked", context_s, recompute=True),
    ]


@dataclass
class MethodResult:
    """Measurements of one method.

    Attributes:
        name: name of the method.
        ticks: (second of the stream, step in ms, tokens in context) of each measured silent tick.
        first_token_ms: time from the frame to the first word.
        tokens_per_s: speed while words are decoded.
        cache_mb: size of the key-value cache.
        process_mb: memory of the process, or of the GPU if there is one.
        ended_s: when the model ran out of positions, in seconds of stream time; None if it did not.
    """

    name: str
    ticks: list[tuple[float, float, int]] = field(default_factory=list)
    first_token_ms: float = 0.0
    tokens_per_s: float = 0.0
    cache_mb: float = 0.0
    process_mb: float = 0.0
    ended_s: float | None = None

    def percentile(self, percent: float, last_share: float = 0.5) -> float:
        """Percentile of the step time (ms) in the last part of the stream, with a full context."""
        late = [step for _, step, _ in self.ticks[int(len(self.ticks) * (1 - last_share)) :]]
        return float(np.percentile(late, percent)) if late else float("nan")
