"""The next context as pieces of the present one: what a policy answers, and what a cache carries
out without moving a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from stream_vlm.context.segments import Segment, SegmentKind


@dataclass(frozen=True)
class Piece:
    """A stretch of one of the present segments, and what it is from now on.

    Attributes:
        index: which of the present segments it is taken from.
        start: its first token there.
        segment: what stands in the context from now on; its tokens are those of the old segment
            from `start`.
    """

    index: int
    start: int
    segment: Segment

    def __len__(self) -> int:
        return len(self.segment)


def whole(index: int, segment: Segment) -> Piece:
    """All of the segment at `index`, as it is."""
    return Piece(index, 0, segment)


def part(piece: Piece, first: int, last: int, kind: SegmentKind, turn: int) -> Piece:
    """Tokens `first` to `last` (exclusive) of `piece`, from now on of `kind` and `turn`.

    Raises:
        ValueError: it would cut a picture, whose tokens stand on a grid.
    """
    if piece.segment.grid is not None and last - first < len(piece):
        raise ValueError(
            f"a picture of turn {piece.segment.turn} cannot be cut from {len(piece)} to"
            f" {last - first} tokens"
        )
    return Piece(
        piece.index,
        piece.start + first,
        replace(piece.segment, kind=kind, turn=turn, token_ids=piece.segment.token_ids[first:last]),
    )


def cut(pieces: Sequence[Piece], first: int, last: int) -> list[Piece]:
    """Tokens `first` to `last` (exclusive) of `pieces` laid end to end, kinds and turns unchanged."""
    kept, at = [], 0
    for piece in pieces:
        begin, end = max(first - at, 0), min(last - at, len(piece))
        if begin < end:
            kept.append(part(piece, begin, end, piece.segment.kind, piece.segment.turn))
        at += len(piece)
    return kept


def tokens_in(parts: Iterable[Segment] | Iterable[Piece]) -> int:
    """How many tokens they hold together."""
    return sum(len(part) for part in parts)


def segments_of(layout: Sequence[Piece]) -> list[Segment]:
    """The segments of the next context; neighbouring previous text becomes one, or endless splicing
    would leave a segment a word.
    """
    segments: list[Segment] = []
    for is_previous, group in groupby(
        (piece.segment for piece in layout),
        key=lambda segment: segment.kind is SegmentKind.PREVIOUS,
    ):
        run = list(group)
        if is_previous:
            run = [
                replace(
                    run[0], token_ids=tuple(token for segment in run for token in segment.token_ids)
                )
            ]
        segments.extend(run)
    return segments
