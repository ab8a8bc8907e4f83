"""Lines of the newest mid summaries, read beside the model and held for it: a chunk begins with
them.
"""

from __future__ import annotations

import logging
import time
from typing import Protocol

from sqlite_utils import Database

from stream_vlm.memory.search.query import RecallRecord
from stream_vlm.memory.search.word_search import read
from stream_vlm.time_words import line
from stream_vlm.types import RecalledLine, StreamError

MAX_SUMMARIES = 100
"""More never fit at the head of a chunk."""
REFRESH_S = 5.0
"""While a robot runs, they are read again at most this often: a summary is of minutes."""

_log = logging.getLogger(__name__)


def chunk_summaries(db: Database, number: int) -> tuple[RecallRecord, ...]:
    """The newest `number` summaries of one chunk each, oldest first."""
    newest = (
        "SELECT record_id FROM summary JOIN record ON record.id = record_id WHERE tier = 'mid'"
        " ORDER BY end_ns DESC, record_id DESC LIMIT ?"
    )
    return read(db, [row[0] for row in db.execute(newest, [number])][::-1], {})


class Source(Protocol):
    """The memory, as far as it is needed here."""

    def chunk_summaries(self, number: int) -> tuple[RecallRecord, ...]: ...


class NewestSummaries:
    """What the memory's newest mid summaries were when they were read last.

    One thread reads them, another has them: neither waits for the other.
    """

    def __init__(self, memory: Source) -> None:
        self._memory = memory
        self._records: tuple[RecallRecord, ...] = ()
        self._due_s = 0.0

    def lines(self, camera: str) -> list[str]:
        """A line for each summary of what `camera` saw, oldest first; touches no file."""
        return [
            line(RecalledLine(one.start_ns, one.end_ns, one.text))
            for one in self._records
            if one.camera in ("", camera)
        ]

    def refresh(self) -> None:
        """Read them anew; where the file refuses, those read before stay."""
        try:
            self._records = self._memory.chunk_summaries(MAX_SUMMARIES)
        except StreamError as error:
            _log.warning("the summaries that a chunk begins with are not read anew: %s", error)

    def refresh_when_due(self) -> None:
        """Read them anew if that was `REFRESH_S` ago or more."""
        if time.monotonic() >= self._due_s:
            self.refresh()
            self._due_s = time.monotonic() + REFRESH_S
