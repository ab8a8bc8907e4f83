"""Segments: the context as typed runs of tokens, their positions, and layouts of the next context.

Policies decide by the type of a segment, so they keep or drop a picture or an utterance as a whole.
A layout describes the next context as pieces of the present one; the KV cache applies it without
moving a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import groupby

import numpy as np
from numpy.typing import NDArray


class SegmentKind(Enum):
    """The type of a segment.

    Policies decide by this type, so nobody has to find the structure of the context in its token
    ids.
    """

    PREFIX = "prefix"
    """The system prompt and the markers around the previous text. It never leaves the context."""
    PREVIOUS = "previous"
    """The previous text: words of turns that have left the context, or text given at the start."""
    TEXT = "text"
    """Markers around the user's part of a turn."""
    TIME = "time"
    """Time marker of a turn."""
    RECALLED = "recalled"
    """Lines that the memory found for a question or a watch."""
    QUERY = "query"
    """The words of a question."""
    WATCH = "watch"
    """The words of a watch. Every policy keeps the newest watch."""
    JUDGE = "judge"
    """The question about the newest picture for one instruction, and the markers after it.

    It is in a fork of the context, never in the context itself.
    """
    FRAME_MARK = "frame mark"
    """Markers around a picture."""
    FRAME = "frame"
    """Vision tokens of one picture."""
    ACTION_MARK = "action mark"
    """Markers around the model's part of a turn."""
    STATE = "state"
    """The model's state marker, or the token that ends its words."""
    ACTION = "action"
    """The model's words."""


@dataclass(frozen=True)
class Segment:
    """A run of tokens of one kind.

    Attributes:
        kind: the type of the segment.
        turn: number of the turn it belongs to; -1 for segments that belong to no turn.
        token_ids: one id for each token; a FRAME repeats the id of the picture placeholder.
        grid: (rows, columns) of merged vision tokens for a FRAME, None otherwise.
    """

    kind: SegmentKind
    turn: int
    token_ids: tuple[int, ...]
    grid: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.grid is not None and self.grid[0] * self.grid[1] != len(self.token_ids):
            raise ValueError(
                f"a frame of {self.grid[0]} x {self.grid[1]} vision tokens cannot have"
                f" {len(self.token_ids)} token ids"
            )

    def __len__(self) -> int:
        return len(self.token_ids)


def positions(segments: Sequence[Segment], start: int = 0) -> tuple[NDArray[np.int64], int]:
    """Compute the three-axis rotary positions of consecutive segments.

    The rule is Qwen2.5-VL's (arXiv 2502.13923, section 2.1.2). Each text token advances all three
    axes by one. A picture token at (row, column) of a picture that begins at p has the position
    (p, p + row, p + column). The token after the picture has the position p + max(rows, columns).

    Args:
        segments: the segments, in the order of the context.
        start: position of the first token.

    Returns:
        int64 array (3, tokens) of (time, height, width) positions, and the position of the next
        token after them.
    """
    pieces: list[NDArray[np.int64]] = []
    at = start
    for segment in segments:
        if segment.grid is None:
            pieces.append(
                np.broadcast_to(np.arange(at, at + len(segment), dtype=np.int64), (3, len(segment)))
            )
            at += len(segment)
        else:
            rows, columns = segment.grid
            row, column = np.divmod(np.arange(rows * columns, dtype=np.int64), columns)
            pieces.append(
                np.stack([np.full(rows * columns, at, dtype=np.int64), at + row, at + column])
            )
            at += max(rows, columns)
    if not pieces:
        return np.zeros((3, 0), dtype=np.int64), at
    return np.concatenate(pieces, axis=1), at


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
