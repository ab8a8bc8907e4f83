"""What was said in a session, in lines that a new context can begin with."""

from __future__ import annotations

from collections import deque

from stream_vlm.types import NANOSECONDS, Query, Utterance

MOST_LINES = 500
"""Older lines are forgotten here; the memory file keeps them."""


class History:
    """One camera's utterances and answers of this session, oldest first, with seconds since its
    first frame.
    """

    def __init__(self) -> None:
        self._first_ns: int | None = None
        self._lines: deque[str] = deque(maxlen=MOST_LINES)

    def saw(self, stamp_ns: int) -> None:
        """A frame stamped `stamp_ns` was looked at; the session's time begins with the first."""
        if self._first_ns is None:
            self._first_ns = stamp_ns

    def said(self, utterance: Utterance, query: Query | None) -> None:
        """Take in an utterance, and the question that it answers."""
        self.saw(utterance.stamp_ns)
        assert self._first_ns is not None
        second = (utterance.stamp_ns - self._first_ns) // NANOSECONDS
        asked = f"[{query.text}] " if query is not None else ""
        self._lines.append(f"{second}s: {asked}{utterance.text}")

    def lines(self) -> list[str]:
        """A line for each utterance."""
        return list(self._lines)
