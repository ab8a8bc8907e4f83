"""What of the past goes before a question: the best of it that fits into a budget of tokens, in the
order of time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stream_vlm.time_words import line
from stream_vlm.types import RecalledContext, RecalledLine

COMPUTED = "From memory: "
"""Before an answer that was worked out from the records."""


def within_budget(
    past: RecalledContext, now_ns: int, budget: int, tokens: Callable[[str], int]
) -> list[str]:
    """The lines of `past` to be written, of at most `budget` tokens altogether.

    The computed answer comes first. Of what is remembered the better is chosen first, and what is
    chosen is written oldest first; a line that does not fit is left out, and shorter ones after it
    may still fit.

    Args:
        now_ns: int64 ns; each line says how long before this it was.
        tokens: how many tokens a line takes, its end included.
    """
    computed = [f"{COMPUTED}{' '.join(past.computed.split())}"] if past.computed else []
    written = [one for one in computed if tokens(one) <= budget]
    budget -= sum(tokens(one) for one in written)
    chosen: list[tuple[RecalledLine, str]] = []
    for one in past.remembered:
        said = line(one, now_ns)
        needed = tokens(said)
        if needed <= budget:
            chosen.append((one, said))
            budget -= needed
    chosen.sort(key=lambda pair: (pair[0].end_ns, pair[0].start_ns))
    return [*written, *(said for _, said in chosen)]


def together(pasts: Sequence[RecalledContext]) -> RecalledContext:
    """What several questions of one turn bring, each thing once."""
    computed = "; ".join(dict.fromkeys(past.computed for past in pasts if past.computed))
    return RecalledContext(
        computed, tuple(dict.fromkeys(one for past in pasts for one in past.remembered))
    )
