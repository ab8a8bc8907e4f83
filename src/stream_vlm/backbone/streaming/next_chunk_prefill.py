"""Prefills the prefix of the next chunk while the current chunk is still running.

The idea is from Streaming Harness (arXiv 2606.08615).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from stream_vlm.backbone.kv_cache.cached_forward import CachedForward
from stream_vlm.context.segments import Segment, SegmentKind, tokens_in
from stream_vlm.context.turn_formats import TurnWriter

LEAD_TURNS = 16
"""The prefill begins this many turns before the end of the chunk, so each slice is small."""
FIRST_SHARE = 0.75
"""Share of the token budget for lines at the beginning; the rest is for later utterances."""


class NextChunkPrefill:
    """The prefix of the next chunk, prefilled slice by slice in free slots of the same cache.

    So no step has to prefill the whole prefix.

    Args:
        forward: the context of the current chunk.
        writer: writes the prefix.
        plain: removes control tokens from a text.
        budget: the most tokens of all lines together.

    Attributes:
        branch: the context of the next chunk, as far as it is prefilled.
    """

    def __init__(
        self, forward: CachedForward, writer: TurnWriter, plain: Callable[[str], str], budget: int
    ) -> None:
        self.branch = forward.branch()
        self._writer, self._plain, self._budget = writer, plain, budget
        self._left = writer.prefix()
        self._seen_lines: set[str] = set()

    def add_lines(self, lines: Sequence[str]) -> None:
        """Add lines about what happened before, oldest first.

        The first call takes the newest lines that fit. Later calls take lines that are new and
        still fit.
        """
        new = [line for line in lines if line not in self._seen_lines]
        if not new:
            return
        if not self._seen_lines:
            self._left.append(self._memory_segment(self._writer.memory_open))
            self._budget -= self._add(newest_lines(new, int(self._budget * FIRST_SHARE), self._ids))
        else:
            self._budget -= self._add(newest_lines(new, self._budget, self._ids))
        self._seen_lines.update(new)

    def advance(self, turns_left: int) -> None:
        """Prefill one slice; after `turns_left` calls the whole prefix is prefilled."""
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
        """The segments that must still be fed when the chunk begins."""
        close = self._memory_segment(self._writer.memory_close)
        return [*self._left, *([close] if self._seen_lines and len(close) else [])]

    def _add(self, lines: Sequence[str]) -> int:
        ids = tuple(token for line in lines for token in self._ids(line))
        if ids:
            self._left.append(Segment(SegmentKind.PREFIX, -1, ids))
        return len(ids)

    def _ids(self, line: str) -> tuple[int, ...]:
        return self._writer.encode(self._plain(line) + "\n")

    def _memory_segment(self, text: str) -> Segment:
        return Segment(SegmentKind.PREFIX, -1, self._writer.encode(text))


def newest_lines(
    lines: Sequence[str], budget: int, ids: Callable[[str], Sequence[int]]
) -> list[str]:
    """The newest `lines` that have at most `budget` tokens together, oldest first.

    Args:
        lines: the lines, oldest first.
        budget: the most tokens.
        ids: gives the token ids of a line.
    """
    kept: list[str] = []
    for line in reversed(lines):
        budget -= len(ids(line))
        if budget < 0:
            break
        kept.append(line)
    return kept[::-1]
