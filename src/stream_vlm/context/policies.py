"""Policies decide what stays in the context. They look at segments only, never at tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from stream_vlm.context.layout import Piece, tokens_in, whole
from stream_vlm.context.segments import Segment, SegmentKind

ALWAYS = (SegmentKind.HEAD, SegmentKind.PREVIOUS)
"""Kinds that belong to no turn."""


class ContextPolicy(Protocol):
    """Says what the context will be once new segments have entered."""

    @property
    def max_tokens(self) -> int:
        """The most tokens the context may hold at any time."""
        ...

    def layout(self, kept: Sequence[Segment], entering: Sequence[Segment], reserve: int) -> list[Piece]:
        """The next context, in order, as pieces of `[*kept, *entering]`; what no piece names leaves or does not enter.

        Pieces of `entering` come after all pieces of `kept` and keep their order. The newest turn and the head always stay.

        Args:
            kept: what the context holds, in order.
            entering: the end of the last turn where it was left pending, then the new turn; before the first turn, the head.
            reserve: tokens that the newest turn may still grow by.
        """
        ...


@dataclass(frozen=True)
class RoundsPolicy:
    """Keeps the newest turns (Streamo, arXiv 2512.21334), trimming rarely.

    When more than `max_turns` turns or `max_tokens` tokens would be held, the oldest turns leave until at most `keep_turns` remain. The gap
    between the two is hysteresis: positions are renumbered once every `max_turns - keep_turns` turns rather than in every one.
    """

    max_turns: int
    keep_turns: int
    max_tokens: int

    def __post_init__(self) -> None:
        if not 0 < self.keep_turns <= self.max_turns:
            raise ValueError(f"keep_turns {self.keep_turns} must be in 1..max_turns ({self.max_turns})")

    def layout(self, kept: Sequence[Segment], entering: Sequence[Segment], reserve: int) -> list[Piece]:
        stay = turns_of(kept)
        needed = tokens_in(entering) + reserve
        if len(stay) + 1 > self.max_turns or tokens_in(kept) + needed > self.max_tokens:
            stay = stay[len(stay) - self.keep_turns + 1 :] if self.keep_turns > 1 else []
            while stay and tokens_in(_staying(kept, stay)) + needed > self.max_tokens:
                stay = stay[1:]
        return whole_turns(kept, entering, stay)


@dataclass(frozen=True)
class ChunkedPolicy:
    """Keeps everything since the chunk began and starts afresh at its border (Streaming Harness, arXiv 2606.08615).

    Inside a chunk the prefix never changes, so nothing is ever computed twice.
    """

    chunk_turns: int
    max_tokens: int

    def __post_init__(self) -> None:
        if self.chunk_turns < 1:
            raise ValueError(f"chunk_turns {self.chunk_turns} must be at least 1")

    def layout(self, kept: Sequence[Segment], entering: Sequence[Segment], reserve: int) -> list[Piece]:
        return whole_turns(kept, entering, [] if self.is_border(kept, entering, reserve) else turns_of(kept))

    def is_border(self, kept: Sequence[Segment], entering: Sequence[Segment], reserve: int) -> bool:
        """Whether `entering` begins a new chunk."""
        return self.turns_left(kept) < 1 or tokens_in(kept) + tokens_in(entering) + reserve > self.max_tokens

    def turns_left(self, kept: Sequence[Segment]) -> int:
        """How many turns the running chunk has room for still; words may end it sooner."""
        return self.chunk_turns - len(turns_of(kept))


def turns_of(segments: Sequence[Segment]) -> list[int]:
    """Numbers of the turns that `segments` belong to, oldest first."""
    return sorted({segment.turn for segment in segments if segment.kind not in ALWAYS})


def whole_turns(kept: Sequence[Segment], entering: Sequence[Segment], stay: Sequence[int]) -> list[Piece]:
    """The layout that keeps the turns `stay` and the newest as wholes; a turn's pending end leaves with it."""
    turns = {*stay, *turns_of(entering)[-1:]}
    everything = (*kept, *entering)
    return [whole(index, segment) for index, segment in enumerate(everything) if segment.kind in ALWAYS or segment.turn in turns]


def _staying(kept: Sequence[Segment], stay: Sequence[int]) -> list[Segment]:
    return [segment for segment in kept if segment.kind in ALWAYS or segment.turn in stay]
