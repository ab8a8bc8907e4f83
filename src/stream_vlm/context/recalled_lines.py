"""Memory records as lines of the prompt: the best matches that fit a token budget, oldest first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stream_vlm.time_words import line
from stream_vlm.types import RecalledContext, RecalledLine

COMPUTED = "From memory: "
"""Prefix of the line with the computed answer."""


def lines_within_budget(
    recalled: RecalledContext, now_ns: int, budget: int, tokens: Callable[[str], int]
) -> list[str]:
    """Choose the lines of `recalled` that fit into `budget` tokens together.

    The computed answer comes first. Records are chosen best match first and written oldest first. A
    record that does not fit is left out; a shorter one after it may still fit.

    Args:
        recalled: what the memory found.
        now_ns: int64 ns, time of the question; each line says how long before it the record was.
        budget: the most tokens of all lines together.
        tokens: counts the tokens of one line, its line end included.

    Returns:
        The lines, without line ends.
    """
    computed = [f"{COMPUTED}{' '.join(recalled.computed.split())}"] if recalled.computed else []
    written = [text for text in computed if tokens(text) <= budget]
    budget -= sum(tokens(text) for text in written)
    chosen: list[tuple[RecalledLine, str]] = []
    for record in recalled.lines:
        text = line(record, now_ns)
        needed = tokens(text)
        if needed <= budget:
            chosen.append((record, text))
            budget -= needed
    chosen.sort(key=lambda pair: (pair[0].end_ns, pair[0].start_ns))
    return [*written, *(text for _, text in chosen)]


def merge_recalled(contexts: Sequence[RecalledContext]) -> RecalledContext:
    """Join what the memory found for several queries of one turn, without duplicates."""
    computed = "; ".join(dict.fromkeys(one.computed for one in contexts if one.computed))
    return RecalledContext(
        computed, tuple(dict.fromkeys(record for one in contexts for record in one.lines))
    )
