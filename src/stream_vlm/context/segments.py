"""Typed pieces of the context: what each stretch of tokens is, so that policies drop pictures and
words as wholes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray


class SegmentKind(Enum):
    """What a stretch of tokens is.

    Policies go by it, so the structure of the context never has to be found again among its token
    ids.
    """

    HEAD = "head"
    """System prompt and what frames the previous text; never leaves."""
    PREVIOUS = "previous"
    """Words of turns that have left, and text that was given beforehand."""
    TEXT = "text"
    """Markers around the user's part of a turn."""
    TIME = "time"
    """Time marker of a turn."""
    REMEMBERED = "remembered"
    """What the memory brings to a question or a watch."""
    QUERY = "query"
    """A question's words."""
    WATCH = "watch"
    """What to wait for, in the user's words; no policy lets the newest one go."""
    JUDGE = "judge"
    """What is asked about each picture while a watch is active."""
    FRAME_MARK = "frame mark"
    """Markers around a picture."""
    FRAME = "frame"
    """Vision tokens of one picture."""
    ACTION_MARK = "action mark"
    """Markers around the model's part of a turn."""
    STATE = "state"
    """What the model says besides words: its state, and that its words are over."""
    ACTION = "action"
    """The model's own words."""


@dataclass(frozen=True)
class Segment:
    """A stretch of tokens of one kind.

    Attributes:
        turn: the tick of the stream that it belongs to; -1 for the head.
        token_ids: one id a token; a FRAME repeats the picture placeholder.
        grid: (rows, columns) of merged vision tokens of a FRAME, None otherwise.
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
    """Three-axis rotary positions of consecutive segments (Qwen2.5-VL, arXiv 2502.13923, section
    2.1.2).

    Text advances all three axes by one a token. A picture that begins at p stands at (p, p + row, p
    + column), and what follows it begins at p + max(rows, columns).

    Args:
        start: position of the first token.

    Returns:
        int64 array (3, tokens) of (time, height, width) positions, and the position of the token
        that would follow.
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
