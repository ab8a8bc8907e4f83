"""Segments: the context as typed runs of tokens, and the rotary positions of their tokens.

Policies decide by the type of a segment, so they keep or drop a picture or an utterance as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

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
    """The question that is asked about each picture while a watch is active."""
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
