"""Memories with short chunks, and helpers that read their summaries."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from memory_fixtures import settings

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.recording.background_writer import MemoryWriter
from stream_vlm.memory.search.query import RecallQuery, RecallRecord

LONG_S = 30.0
"""Longest wait for a writer, seconds; a working writer is much faster."""


def chunks_of(seconds_each: float, path: Path, **changes: object) -> MemorySettings:
    """Settings of a memory at `path` with chunks of `seconds_each` seconds."""
    return MemorySettings.model_validate(
        {**settings(path).model_dump(), "chunk_s": seconds_each, **changes}
    )


def run_idle_work(memory: Memory) -> None:
    """Do all maintenance that is due."""
    while memory.run_maintenance():
        pass


def summaries(memory: Memory) -> list[RecallRecord]:
    """All summaries, in the order of their beginnings."""
    found = memory.recall(RecallQuery(kinds=("summary",), order="oldest", limit=1000))
    assert found.total == len(found.records)
    return list(found.records)


def texts(memory: Memory, tier: str = "mid") -> list[str]:
    """The texts of the summaries of one tier."""
    with sqlite3.connect(memory.path) as connection:
        numbers = {
            number
            for (number,) in connection.execute(
                "SELECT record_id FROM summary WHERE tier = ?", [tier]
            )
        }
    return [summary.text for summary in summaries(memory) if summary.record_id in numbers]


def covers(memory: Memory, record_id: int) -> set[int]:
    """Ids of the records that a summary was made from."""
    with sqlite3.connect(memory.path) as connection:
        return {
            number
            for (number,) in connection.execute(
                "SELECT record_id FROM summary_covers WHERE summary_id = ?", [record_id]
            )
        }


class CallbackCounter:
    """Counts the steps that a background writer stored or failed to store."""

    def __init__(self) -> None:
        self.stored = 0
        self.failed = 0

    def writer(self, memory: Memory) -> MemoryWriter:
        """A background writer that counts here."""
        return MemoryWriter(
            memory,
            lambda result: self._count("stored"),
            lambda result, error: self._count("failed"),
        )

    def _count(self, what: str) -> None:
        setattr(self, what, getattr(self, what) + 1)
