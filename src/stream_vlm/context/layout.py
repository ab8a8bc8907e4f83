"""Layouts: a policy describes the next context as pieces of the present one.

The KV cache applies a layout without moving a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from stream_vlm.context.segments import Segment, SegmentKind


@dataclass(frozen=True)
class Piece:
    """All or part of one present segment, and the segment it becomes in the next context.

    Attributes:
        index: index of the present segment.
        start: index of the piece's first token in the present segment.
        segment: the segment in the next context. Its tokens are those of the present segment from
            `start` on; its kind and turn may be new.
    """

    index: int
    start: int
    segment: Segment

    def __len__(self) -> int:
        return len(self.segment)


def whole(index: int, segment: Segment) -> Piece:
    """The whole segment at `index`, unchanged."""
    return Piece(index, 0, segment)


def part(piece: Piece, first: int, last: int, kind: SegmentKind, turn: int) -> Piece:
    """Tokens `first` to `last` (exclusive) of `piece`, with a new `kind` and `turn`.

    Raises:
        ValueError: the piece is a picture and would be cut.
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
    """Tokens `first` to `last` (exclusive) of the joined `pieces`, kinds and turns unchanged."""
    kept, at = [], 0
    for piece in pieces:
        begin, end = max(first - at, 0), min(last - at, len(piece))
        if begin < end:
            kept.append(part(piece, begin, end, piece.segment.kind, piece.segment.turn))
        at += len(piece)
    return kept


def tokens_in(parts: Iterable[Segment] | Iterable[Piece]) -> int:
    """The number of tokens in all `parts`."""
    return sum(len(part) for part in parts)


def segments_of(layout: Sequence[Piece]) -> list[Segment]:
    """The segments of the next context.

    Adjacent PREVIOUS segments are joined into one; otherwise their number would grow for as long as
    the stream runs.
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
