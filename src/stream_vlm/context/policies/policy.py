"""The interface of context policies, and the policies that keep whole turns.

Policies decide by segments only, never by tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from stream_vlm.context.segments import Piece, Segment, SegmentKind, tokens_in, whole

ALWAYS = (SegmentKind.PREFIX, SegmentKind.PREVIOUS)
"""Kinds of segments that belong to no turn."""
WAITING = (SegmentKind.WATCH, SegmentKind.TEXT)
"""Kinds that stay when the turn of the newest watch leaves: the watch and the markers around it."""


class ContextPolicy(Protocol):
    """Decides what the context holds after new segments have entered."""

    @property
    def max_tokens(self) -> int:
        """The most tokens the context may hold at any time."""
        ...

    @property
    def most_turns(self) -> int:
        """The most turns whose pictures or words the context may hold, if their tokens fit."""
        ...

    def layout(
        self, kept: Sequence[Segment], entering: Sequence[Segment], reserve: int
    ) -> list[Piece]:
        """Return the next context, in order, as pieces of `[*kept, *entering]`.

        Segments in no piece leave the context or do not enter it. Pieces of `entering` come after
        all pieces of `kept` and keep their order. The newest turn, the PREFIX segments and the
        newest watch always stay.

        Args:
            kept: the segments in the context, in order.
            entering: the pending end of the last turn, if any, then the new turn. Before the first
                turn, the PREFIX segments come first.
            reserve: tokens by which the newest turn may still grow.
        """
        ...


@dataclass(frozen=True)
class LastTurnsPolicy:
    """Keeps the newest turns and trims rarely (Streamo, arXiv 2512.21334).

    If the context would exceed `max_turns` turns or `max_tokens` tokens, the oldest turns leave
    until at most `keep_turns` turns remain. The gap between `max_turns` and `keep_turns` is
    hysteresis: positions are renumbered once every `max_turns - keep_turns` turns, not at every
    turn.

    Attributes:
        max_turns: the most turns in the context.
        keep_turns: the most turns after trimming, the newest turn included.
        max_tokens: the most tokens in the context, the reserve included.
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
        """See `ContextPolicy`."""
        return self.max_turns

    def layout(
        self, kept: Sequence[Segment], entering: Sequence[Segment], reserve: int
    ) -> list[Piece]:
        """See `ContextPolicy`."""
        stay = shown_turns(kept)
        if (
            len(stay) + 1 > self.max_turns
            or tokens_in(kept) + tokens_in(entering) + reserve > self.max_tokens
        ):
            # If tokens run out before turns do, the same share of the turns leaves, so trimming is
            # as rare.
            count = min(self.keep_turns - 1, len(stay) * self.keep_turns // self.max_turns)
            stay = stay[len(stay) - count :]
            while stay and tokens_in(whole_turns(kept, entering, stay)) + reserve > self.max_tokens:
                stay = stay[1:]
        return whole_turns(kept, entering, stay)


@dataclass(frozen=True)
class ChunkedPolicy:
    """Keeps all turns of a chunk, then starts the next chunk with the PREFIX segments only.

    This is the policy of Streaming Harness (arXiv 2606.08615). Inside a chunk the prefix never
    changes, so nothing is computed twice.

    Attributes:
        chunk_turns: the most turns in a chunk.
        max_tokens: the most tokens in the context, the reserve included.
    """

    chunk_turns: int
    max_tokens: int

    def __post_init__(self) -> None:
        if self.chunk_turns < 1:
            raise ValueError(f"chunk_turns {self.chunk_turns} must be at least 1")

    @property
    def most_turns(self) -> int:
        """See `ContextPolicy`."""
        return self.chunk_turns

    def layout(
        self, kept: Sequence[Segment], entering: Sequence[Segment], reserve: int
    ) -> list[Piece]:
        """See `ContextPolicy`."""
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
        """How many more turns the chunk may hold; it ends earlier if its tokens run out."""
        return self.chunk_turns - len(shown_turns(kept))


def turns_of(segments: Sequence[Segment]) -> list[int]:
    """Numbers of the turns of `segments`, oldest first."""
    return sorted({segment.turn for segment in segments if segment.kind not in ALWAYS})


def shown_turns(segments: Sequence[Segment]) -> list[int]:
    """Numbers of the turns whose picture is among `segments`, oldest first.

    A turn of which only the watch is left is not among them.
    """
    return sorted({segment.turn for segment in segments if segment.kind is SegmentKind.FRAME})


def newest_turn(segments: Sequence[Segment], kind: SegmentKind) -> int | None:
    """Number of the last turn that has a segment of `kind`."""
    return max((segment.turn for segment in segments if segment.kind is kind), default=None)


def whole_turns(
    kept: Sequence[Segment], entering: Sequence[Segment], stay: Sequence[int]
) -> list[Piece]:
    """The layout that keeps the turns `stay`, the newest turn and the newest watch.

    A turn's pending end leaves with the turn.
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
    """The layout of a context whose watch has ended.

    The words of the watch leave. The markers around them leave, too, if nothing else of their turn
    is left.
    """
    with_others = {segment.turn for segment in segments if segment.kind not in WAITING}
    bare = {segment.turn for segment in segments if segment.kind is SegmentKind.WATCH} - with_others
    return [
        whole(index, segment)
        for index, segment in enumerate(segments)
        if segment.kind is not SegmentKind.WATCH and segment.turn not in bare
    ]
