"""The writer's thread: committed before it is told, in order, and nothing lost while the file
refuses.
"""

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from memory_fixtures import SESSION, begin, locked_by_another_program, seconds, settings, step

from stream_vlm.memory.memory import Memory
from stream_vlm.memory.open_file import Opened
from stream_vlm.memory.recording.background_writer import MemoryWriter
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.memory.storage.connections import Connections
from stream_vlm.memory.storage.file import open_for_writing
from stream_vlm.types import NANOSECONDS, StepResult, StreamError

LONG_S = 30.0
"""Only a broken writer needs as long."""


class Heard:
    """What the writer told, in order: when (seconds on the stream), and what."""

    def __init__(self) -> None:
        self.told: list[tuple[int, str]] = []
        self.news = threading.Condition()

    def committed(self, result: StepResult) -> None:
        self._hear(result, "stored")

    def failed(self, result: StepResult, error: StreamError) -> None:
        self._hear(result, str(error))

    def wait_for(self, number: int) -> None:
        with self.news:
            assert self.news.wait_for(lambda: len(self.told) >= number, LONG_S), self.told

    def _hear(self, result: StepResult, what: str) -> None:
        with self.news:
            self.told.append(((result.tick.stamp_ns - seconds(0)) // NANOSECONDS, what))
            self.news.notify_all()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory.open(settings(tmp_path / "memory.db")) as memory:
        yield memory


@contextmanager
def writing(memory: Memory, heard: Heard, max_backlog: int = 100) -> Iterator[MemoryWriter]:
    writer = MemoryWriter(memory, heard.committed, heard.failed, max_backlog=max_backlog)
    try:
        yield writer
    finally:
        writer.close(timeout=0.0)


def stored(memory: Memory) -> list[int]:
    """When (seconds on the stream) the observations were made, in the order of storing."""
    records = memory.recall(RecallQuery(kinds=("observation",), limit=1000)).records
    return [
        (record.end_ns - seconds(0)) // NANOSECONDS
        for record in sorted(records, key=lambda record: record.record_id)
    ]


def test_steps_are_told_in_order_once_they_are_stored(memory: Memory, heard: Heard) -> None:
    found_when_told: list[bool] = []

    def committed(result: StepResult) -> None:
        found_when_told.append(
            memory.recall(RecallQuery(kinds=("observation",), start_ns=result.tick.stamp_ns)).total
            == 1
        )
        heard.committed(result)

    writer = MemoryWriter(memory, committed, heard.failed)
    writer.begin_session(SESSION, "model", "test", seconds(0))
    for number in range(20):
        writer.submit(step(number))
        assert writer.flush(LONG_S)
    writer.close()
    assert heard.told == [(number, "stored") for number in range(20)]
    assert found_when_told == [True] * 20


def test_health_tells_rows_and_an_idle_writer(memory: Memory, heard: Heard) -> None:
    with writing(memory, heard) as writer:
        writer.begin_session(SESSION, "model", "test", seconds(0))
        for number in range(3):
            writer.submit(step(number, said="a cup"))
        assert writer.flush(LONG_S)
        health = writer.health
        assert (health.rows, health.backlog, health.late, health.lost, health.fault) == (
            9,
            0,
            0,
            0,
            "",
        )
        assert health.last_commit_ms > 0


def test_submitting_does_not_wait_for_a_locked_file(tmp_path: Path, heard: Heard) -> None:
    path = tmp_path / "memory.db"
    with (
        Memory.open(settings(path, busy_timeout_s=60.0)) as memory,
        writing(memory, heard) as writer,
    ):
        with locked_by_another_program(path):
            writer.begin_session(SESSION, "model", "test", seconds(0))
            for number in range(3):
                writer.submit(step(number))
            assert heard.told == []
        assert writer.flush(LONG_S)
        assert heard.told == [(0, "stored"), (1, "stored"), (2, "stored")]


def test_what_a_locked_file_refuses_is_told_once_and_stored_later_in_order(
    memory: Memory, heard: Heard
) -> None:
    with writing(memory, heard) as writer:
        with locked_by_another_program(memory.path):
            writer.begin_session(SESSION, "model", "test", seconds(0))
            for number in range(3):
                writer.submit(step(number, said="a ball"))
            heard.wait_for(3)
            health = writer.health
            assert health.backlog == 3
            assert "another program holds it locked" in health.fault
            assert memory.recall(RecallQuery("ball")).total == 0
        writer.submit(step(3))
        assert writer.flush(LONG_S)
        assert stored(memory) == [0, 1, 2, 3]
        assert all(
            memory.frame(record.record_id) for record in memory.recall(RecallQuery("ball")).records
        )
        assert [number for number, _ in heard.told] == [0, 1, 2, 3]
        assert all("another program holds it locked" in what for _, what in heard.told[:3])
        assert heard.told[3] == (3, "stored")
        health = writer.health
        assert (health.backlog, health.late, health.lost, health.fault) == (0, 3, 0, "")


def test_a_file_that_recovers_is_written_without_a_new_step_coming(
    memory: Memory, heard: Heard
) -> None:
    with writing(memory, heard) as writer:
        with locked_by_another_program(memory.path):
            writer.begin_session(SESSION, "model", "test", seconds(0))
            writer.submit(step(0))
            heard.wait_for(1)
        assert writer.flush(LONG_S)
        assert stored(memory) == [0]


def test_a_full_backlog_drops_its_oldest_steps_and_counts_them(
    memory: Memory, heard: Heard
) -> None:
    with writing(memory, heard, max_backlog=2) as writer:
        with locked_by_another_program(memory.path):
            writer.begin_session(SESSION, "model", "test", seconds(0))
            for number in range(5):
                writer.submit(step(number))
                heard.wait_for(number + 1)
            assert writer.health.lost == 3
        assert writer.flush(LONG_S)
        assert stored(memory) == [3, 4]
        assert [number for number, _ in heard.told] == [0, 1, 2, 3, 4]


def test_a_step_that_breaks_the_schema_is_told_and_does_not_hold_up_the_next(
    memory: Memory, heard: Heard
) -> None:
    with writing(memory, heard) as writer:
        writer.begin_session(SESSION, "model", "test", seconds(0))
        writer.submit(step(0))
        writer.submit(step(1, said="ends before it begins", since=2))
        writer.submit(step(2))
        assert writer.flush(LONG_S)
        assert stored(memory) == [0, 2]
        assert [number for number, _ in heard.told] == [0, 1, 2]
        assert "cannot be stored and is left out: CHECK constraint failed" in heard.told[1][1]
        assert writer.health.lost == 1


def test_steps_of_a_session_that_was_not_begun_are_told(memory: Memory, heard: Heard) -> None:
    with writing(memory, heard) as writer:
        writer.submit(step(0))
        assert writer.flush(LONG_S)
    assert heard.told == [
        (0, f"session '{SESSION}' was not begun; call begin_session before its first step")
    ]


def test_a_listener_that_fails_costs_no_step(
    memory: Memory, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(result: StepResult) -> None:
        raise RuntimeError("publisher is gone")

    writer = MemoryWriter(memory, fail, heard.failed)
    writer.begin_session(SESSION, "model", "test", seconds(0))
    for number in range(3):
        writer.submit(step(number))
    writer.close()
    assert stored(memory) == [0, 1, 2]
    assert heard.told == []
    assert "publisher is gone" in caplog.text


def test_closing_stores_what_waits(memory: Memory, heard: Heard) -> None:
    writer = MemoryWriter(memory, heard.committed, heard.failed)
    writer.begin_session(SESSION, "model", "test", seconds(0))
    for number in range(30):
        writer.submit(step(number))
    writer.close(LONG_S)
    assert stored(memory) == list(range(30))
    with pytest.raises(StreamError, match="the memory's writer was closed; open a new one"):
        writer.submit(step(30))


def test_closing_while_the_file_refuses_counts_what_is_lost(
    memory: Memory, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    begin(memory)
    writer = MemoryWriter(memory, heard.committed, heard.failed)
    with locked_by_another_program(memory.path):
        writer.submit(step(0))
        heard.wait_for(1)
        writer.close(timeout=0.0)
    assert writer.health.lost == 1
    assert "a step is lost" in caplog.text
    assert len(heard.told) == 1


class SmallDisk:
    """A file system of its own that a few steps fill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if os.geteuid() != 0 or self._mount("size=2m").returncode:
            pytest.skip("only root may mount a small disk, and not in every container")

    def open(self) -> Memory:
        return Memory.open(settings(self.folder / "memory.db"))

    def grow(self, memory: Memory) -> None:
        assert self._mount("remount,size=64m").returncode == 0

    def close(self) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)

    def _mount(self, options: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)], capture_output=True
        )


class SmallFile:
    """A database that SQLite itself lets grow no further: the same error as a full disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self) -> Memory:
        path = self.folder / "memory.db"
        self.db = open_for_writing(path, 0.0)
        self.db.execute("PRAGMA max_page_count = 100")
        return Memory(settings(path), Opened(Connections(path, 0.0, self.db), 0))

    def grow(self, memory: Memory) -> None:
        self.db.execute("PRAGMA max_page_count = 100000")

    def close(self) -> None:
        """Nothing to undo."""


@pytest.mark.parametrize("kind", [SmallDisk, SmallFile])
def test_a_full_disk_is_told_keeps_what_is_stored_and_loses_nothing_once_there_is_room(
    kind: type[SmallDisk] | type[SmallFile], tmp_path: Path, heard: Heard
) -> None:
    disk = kind(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    number = 0
    try:
        with disk.open() as memory, writing(memory, heard) as writer:
            writer.begin_session(SESSION, "model", "test", seconds(0))
            while not writer.health.fault:
                assert number < 1000, "the disk does not fill"
                writer.submit(step(number, said="a ball", image=noise))
                number += 1
                heard.wait_for(number)
            assert (
                "the disk is full; free some space or set memory.path to another disk"
                in heard.told[-1][1]
            )
            kept = stored(memory)
            assert kept == [when for when, what in heard.told if what == "stored"]
            writer.submit(step(number, said="a cup", image=noise))
            heard.wait_for(number + 1)
            disk.grow(memory)
            assert writer.flush(LONG_S)
            assert stored(memory) == list(range(number + 1))
            assert writer.health.lost == 0
            assert memory.recall(RecallQuery("cup")).total == 2
    finally:
        disk.close()
