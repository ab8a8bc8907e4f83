"""The policy of SimpleStream: the newest pictures and the last query or watch, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stream_vlm.context.policies.policy import ALWAYS, WAITING, newest_turn, shown_turns, turns_of
from stream_vlm.context.segments import Piece, Segment, SegmentKind, tokens_in, whole

SHOWN = (SegmentKind.TEXT, SegmentKind.TIME, SegmentKind.FRAME_MARK, SegmentKind.FRAME)
"""Kinds that stay of an earlier turn: its picture and the markers of the user's part."""


@dataclass(frozen=True)
class LastFramesPolicy:
    """Keeps the pictures of the newest turns, and the newest watch or else the last query.

    States and words of earlier turns leave at once. With `context.recompute` this is SimpleStream:
    the last N frames and the question, a baseline for every kind of memory. Without it, the keys
    and values that stay in the cache were computed while later removed segments were still there.

    Attributes:
        turns: how many turns keep their pictures, the newest turn included.
        max_tokens: the most tokens in the context, the reserve included.
    """

    turns: int
    max_tokens: int

    def __post_init__(self) -> None:
        if self.turns < 1:
            raise ValueError(f"turns {self.turns} must be at least 1")

    @property
    def most_turns(self) -> int:
        """See `ContextPolicy`."""
        return self.turns

    def layout(
        self, kept: Sequence[Segment], entering: Sequence[Segment], reserve: int
    ) -> list[Piece]:
        """See `ContextPolicy`."""
        newest = turns_of(entering)[-1]
        shown = shown_turns(kept)
        shown = shown[max(0, len(shown) - self.turns + 1) :]
        while True:
            layout = _layout((*kept, *entering), newest, shown, with_query=True)
            if tokens_in(layout) + reserve <= self.max_tokens:
                return layout
            if not shown:
                return _layout((*kept, *entering), newest, [], with_query=False)
            shown = shown[1:]


def _layout(
    everything: Sequence[Segment], newest: int, shown: Sequence[int], *, with_query: bool
) -> list[Piece]:
    watch = newest_turn(everything, SegmentKind.WATCH)
    query = newest_turn(everything, SegmentKind.QUERY) if watch is None and with_query else None

    def stays(segment: Segment) -> bool:
        if segment.kind in ALWAYS or segment.turn == newest:
            return True
        if segment.kind in SHOWN and segment.turn in shown:
            return True
        asked = (segment.turn == watch and segment.kind in WAITING) or (
            segment.turn == query and segment.kind in (SegmentKind.QUERY, SegmentKind.TEXT)
        )
        return asked

    return [whole(index, segment) for index, segment in enumerate(everything) if stays(segment)]
