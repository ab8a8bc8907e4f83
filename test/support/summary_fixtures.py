"""Memories whose past is summed up within seconds, and what their files hold of it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from memory_fixtures import settings

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.recording.background_writer import MemoryWriter
from stream_vlm.memory.search.query import RecallQuery, RecallRecord

LONG_S = 30.0
"""Only a broken writer needs as long."""


def chunks_of(seconds_each: float, path: Path, **changes: object) -> MemorySettings:
    """Of a memory at `path` whose chunks are so long."""
    return MemorySettings.model_validate(
        {**settings(path).model_dump(), "chunk_s": seconds_each, **changes}
    )


def tend(memory: Memory) -> None:
    """All that there is to do between two steps."""
    while memory.run_maintenance():
        pass


def summaries(memory: Memory) -> list[RecallRecord]:
    """Mid summaries and blocks, in the order of their beginnings."""
    found = memory.recall(RecallQuery(kinds=("summary",), order="oldest", limit=1000))
    assert found.total == len(found.records)
    return list(found.records)


def texts(memory: Memory, tier: str = "mid") -> list[str]:
    """Those of one tier, in words."""
    with sqlite3.connect(memory.path) as connection:
        numbers = {
            number
            for (number,) in connection.execute(
                "SELECT record_id FROM summary WHERE tier = ?", [tier]
            )
        }
    return [summary.text for summary in summaries(memory) if summary.record_id in numbers]


def covers(memory: Memory, record_id: int) -> set[int]:
    """Numbers of the records that a summary was made from."""
    with sqlite3.connect(memory.path) as connection:
        return {
            number
            for (number,) in connection.execute(
                "SELECT record_id FROM summary_covers WHERE summary_id = ?", [record_id]
            )
        }


class Told:
    """Counts what the writer told."""

    def __init__(self) -> None:
        self.stored = 0
        self.failed = 0

    def writer(self, memory: Memory) -> MemoryWriter:
        """A writer's thread that tells here what it did."""
        return MemoryWriter(
            memory,
            lambda result: self._count("stored"),
            lambda result, error: self._count("failed"),
        )

    def _count(self, what: str) -> None:
        setattr(self, what, getattr(self, what) + 1)
