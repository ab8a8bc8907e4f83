"""The head of the next chunk, prefilled in the background while the running chunk goes on
(Streaming Harness, arXiv 2606.08615).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from stream_vlm.backbone.kv_cache.cached_forward import CachedForward
from stream_vlm.context.layout import tokens_in
from stream_vlm.context.segments import Segment, SegmentKind
from stream_vlm.context.turn_formats import TurnWriter

LEAD_TURNS = 16
"""The next head is begun so many turns before the border, so that a turn's slice of it is small."""
FIRST_SHARE = 0.75
"""Share of the budget that the head begins with; the rest is for what is said until the border."""


class NextHead:
    """A head that grows in the free slots of the running chunk's cache, a slice at a time, so that
    no step has to wait for all of it.

    Attributes:
        branch: what is prefilled of it.
    """

    def __init__(
        self, forward: CachedForward, writer: TurnWriter, plain: Callable[[str], str], budget: int
    ) -> None:
        self.branch = forward.branch()
        self._writer, self._plain, self._budget = writer, plain, budget
        self._left = writer.head()
        self._heard: set[str] = set()

    def hear(self, lines: Sequence[str]) -> None:
        """Take in what happened, oldest first: at first the newest lines that fit, later those that
        are new and still fit.
        """
        new = [line for line in lines if line not in self._heard]
        if not new:
            return
        if not self._heard:
            self._left.append(self._memory_segment(self._writer.memory_open))
            self._budget -= self._add(newest_lines(new, int(self._budget * FIRST_SHARE), self._ids))
        else:
            self._budget -= self._add(newest_lines(new, self._budget, self._ids))
        self._heard.update(new)

    def advance(self, turns_left: int) -> None:
        """Prefill as much as brings it to its end in `turns_left` calls."""
        budget = math.ceil(tokens_in(self._left) / max(1, turns_left))
        taken: list[Segment] = []
        while self._left and budget > 0:
            first = self._left[0]
            taken.append(replace(first, token_ids=first.token_ids[:budget]))
            self._left[:1] = (
                [replace(first, token_ids=first.token_ids[budget:])] if len(first) > budget else []
            )
            budget -= len(taken[-1])
        if taken:
            self.branch.feed(taken)

    def rest(self) -> list[Segment]:
        """What is still to be fed when the chunk begins."""
        close = [self._memory_segment(self._writer.memory_close)] if self._heard else []
        return [*self._left, *close]

    def _add(self, lines: Sequence[str]) -> int:
        ids = tuple(token for line in lines for token in self._ids(line))
        if ids:
            self._left.append(Segment(SegmentKind.HEAD, -1, ids))
        return len(ids)

    def _ids(self, line: str) -> tuple[int, ...]:
        return self._writer.encode(self._plain(line) + "\n")

    def _memory_segment(self, text: str) -> Segment:
        return Segment(SegmentKind.HEAD, -1, self._writer.encode(text))


def newest_lines(
    lines: Sequence[str], budget: int, ids: Callable[[str], Sequence[int]]
) -> list[str]:
    """As many of the newest `lines` as have at most `budget` tokens together, oldest first."""
    kept: list[str] = []
    for line in reversed(lines):
        budget -= len(ids(line))
        if budget < 0:
            break
        kept.append(line)
    return kept[::-1]
