"""Policies decide what stays in the context. They look at segments only, never at tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from stream_vlm.context.layout import Piece, tokens_in, whole
from stream_vlm.context.segments import Segment, SegmentKind

ALWAYS = (SegmentKind.HEAD, SegmentKind.PREVIOUS)
"""Kinds that belong to no turn."""
WAITING = (SegmentKind.WATCH, SegmentKind.TEXT)
"""What stays of the newest watch's turn when the turn leaves: the watch in its user's markers."""


class ContextPolicy(Protocol):
    """Says what the context will be once new segments have entered."""

    @property
    def max_tokens(self) -> int:
        """The most tokens the context may hold at any time."""
        ...

    @property
    def most_turns(self) -> int:
        """The most turns whose pictures or words the context may hold, while they fit."""
        ...

    def layout(
        self, kept: Sequence[Segment], entering: Sequence[Segment], reserve: int
    ) -> list[Piece]:
        """The next context, in order, as pieces of `[*kept, *entering]`; what no piece names leaves
        or does not enter.

        Pieces of `entering` come after all pieces of `kept` and keep their order. The newest turn,
        the head and the newest watch always stay.

        Args:
            kept: what the context holds, in order.
            entering: the end of the last turn where it was left pending, then the new turn; before
                the first turn, the head.
            reserve: tokens that the newest turn may still grow by.
        """
        ...


@dataclass(frozen=True)
class RoundsPolicy:
    """Keeps the newest turns (Streamo, arXiv 2512.21334), trimming rarely.

    When more than `max_turns` turns or `max_tokens` tokens would be held, the oldest turns leave
    until at most `keep_turns` remain. The gap between the two is hysteresis: positions are
    renumbered once every `max_turns - keep_turns` turns rather than in every one.
    """

    max_turns: int
    keep_turns: int
    max_tokens: int

    def __post_init__(self) -> None:
        if not 0 < self.keep_turns <= self.max_turns:
            raise ValueError(
                f"keep_turns {self.keep_turns} must be in 1..max_turns ({self.max_turns})"
            )

    @property
    def most_turns(self) -> int:
        return self.max_turns

    def layout(
        self, kept: Sequence[Segment], entering: Sequence[Segment], reserve: int
    ) -> list[Piece]:
        stay = shown_turns(kept)
        if (
            len(stay) + 1 > self.max_turns
            or tokens_in(kept) + tokens_in(entering) + reserve > self.max_tokens
        ):
            # Where tokens run out first, the same share of the turns leaves, so that trimming is as
            # rare.
            count = min(self.keep_turns - 1, len(stay) * self.keep_turns // self.max_turns)
            stay = stay[len(stay) - count :]
            while stay and tokens_in(whole_turns(kept, entering, stay)) + reserve > self.max_tokens:
                stay = stay[1:]
        return whole_turns(kept, entering, stay)


@dataclass(frozen=True)
class ChunkedPolicy:
    """Keeps everything since the chunk began and starts afresh at its border (Streaming Harness,
    arXiv 2606.08615).

    Inside a chunk the prefix never changes, so nothing is ever computed twice.
    """

    chunk_turns: int
    max_tokens: int

    def __post_init__(self) -> None:
        if self.chunk_turns < 1:
            raise ValueError(f"chunk_turns {self.chunk_turns} must be at least 1")

    @property
    def most_turns(self) -> int:
        return self.chunk_turns

    def layout(
        self, kept: Sequence[Segment], entering: Sequence[Segment], reserve: int
    ) -> list[Piece]:
        return whole_turns(
            kept, entering, [] if self.is_border(kept, entering, reserve) else shown_turns(kept)
        )

    def is_border(self, kept: Sequence[Segment], entering: Sequence[Segment], reserve: int) -> bool:
        """Whether `entering` begins a new chunk."""
        return (
            self.turns_left(kept) < 1
            or tokens_in(kept) + tokens_in(entering) + reserve > self.max_tokens
        )

    def turns_left(self, kept: Sequence[Segment]) -> int:
        """How many turns the running chunk has room for still; words may end it sooner."""
        return self.chunk_turns - len(shown_turns(kept))


def turns_of(segments: Sequence[Segment]) -> list[int]:
    """Numbers of the turns that `segments` belong to, oldest first."""
    return sorted({segment.turn for segment in segments if segment.kind not in ALWAYS})


def shown_turns(segments: Sequence[Segment]) -> list[int]:
    """Numbers of the turns whose picture is among `segments`, oldest first; a turn of which only
    its watch is left is none of them.
    """
    return sorted({segment.turn for segment in segments if segment.kind is SegmentKind.FRAME})


def newest_turn(segments: Sequence[Segment], kind: SegmentKind) -> int | None:
    """Number of the last turn that has a segment of `kind`."""
    return max((segment.turn for segment in segments if segment.kind is kind), default=None)


def whole_turns(
    kept: Sequence[Segment], entering: Sequence[Segment], stay: Sequence[int]
) -> list[Piece]:
    """The layout that keeps the turns `stay`, the newest turn and the newest watch; a turn's
    pending end leaves with it.
    """
    turns = {*stay, *turns_of(entering)[-1:]}
    everything = (*kept, *entering)
    watch = newest_turn(everything, SegmentKind.WATCH)
    return [
        whole(index, segment)
        for index, segment in enumerate(everything)
        if segment.kind in ALWAYS
        or segment.turn in turns
        or (segment.turn == watch and segment.kind in WAITING)
    ]


def without_watches(segments: Sequence[Segment]) -> list[Piece]:
    """The layout of a context whose watch is over: its words leave, and its markers where nothing
    else of their turn is left.
    """
    otherwise = {segment.turn for segment in segments if segment.kind not in WAITING}
    bare = {segment.turn for segment in segments if segment.kind is SegmentKind.WATCH} - otherwise
    return [
        whole(index, segment)
        for index, segment in enumerate(segments)
        if segment.kind is not SegmentKind.WATCH and segment.turn not in bare
    ]
