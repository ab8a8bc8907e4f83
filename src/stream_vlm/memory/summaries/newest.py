"""The newest chunk summaries as lines for the prompt, read outside of the model's step."""

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
"""More never fit at the start of a chunk."""
REFRESH_S = 5.0
"""While the node runs, they are read at most this often, seconds; a summary covers minutes."""

_log = logging.getLogger(__name__)


def chunk_summaries(db: Database, number: int) -> tuple[RecallRecord, ...]:
    """Return the newest `number` summaries of one chunk each, oldest first."""
    newest = (
        "SELECT record_id FROM summary JOIN record ON record.id = record_id WHERE tier = 'mid'"
        " ORDER BY end_ns DESC, record_id DESC LIMIT ?"
    )
    return read(db, [row[0] for row in db.execute(newest, [number])][::-1], {})


class Source(Protocol):
    """The part of the memory that is needed here."""

    def chunk_summaries(self, number: int) -> tuple[RecallRecord, ...]:
        """Return the newest `number` summaries of one chunk each, oldest first."""
        ...


class NewestSummaries:
    """The memory's newest chunk summaries, as they were at the last `refresh`.

    One thread refreshes them, another one uses them; neither waits for the other.
    """

    def __init__(self, memory: Source) -> None:
        self._memory = memory
        self._records: tuple[RecallRecord, ...] = ()
        self._due_s = 0.0

    def lines(self, camera: str) -> list[str]:
        """Return a line for each summary of `camera`, oldest first; reads no file."""
        return [
            line(RecalledLine(one.start_ns, one.end_ns, one.text))
            for one in self._records
            if one.camera in ("", camera)
        ]

    def refresh(self) -> None:
        """Read them again; if the file cannot be read, keep the old ones."""
        try:
            self._records = self._memory.chunk_summaries(MAX_SUMMARIES)
        except StreamError as error:
            _log.warning("the newest summaries cannot be read, older ones are used: %s", error)

    def refresh_when_due(self) -> None:
        """Read them again if the last time was `REFRESH_S` ago or more."""
        if time.monotonic() >= self._due_s:
            self.refresh()
            self._due_s = time.monotonic() + REFRESH_S
