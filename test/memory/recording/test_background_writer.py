"""The writer thread: reports each step after the commit, in order, and loses none."""

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from memory_fixtures import (
    SESSION,
    begin,
    locked_by_another_program,
    seconds,
    settings,
    step,
    unwatched,
)

from stream_vlm.memory.memory import Memory
from stream_vlm.memory.open_file import Opened
from stream_vlm.memory.recording.background_writer import MemoryWriter
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.memory.storage.connections import Connections
from stream_vlm.memory.storage.file import open_for_writing
from stream_vlm.types import NANOSECONDS, StepResult, StreamError

LONG_S = 30.0
"""Time limit of the waits, seconds; a working writer needs much less."""


class Reports:
    """The callbacks of the writer in order: time of the step (seconds of stream), and what."""

    def __init__(self) -> None:
        self.received: list[tuple[int, str]] = []
        self.news = threading.Condition()

    def committed(self, result: StepResult) -> None:
        self._add(result, "stored")

    def failed(self, result: StepResult, error: StreamError) -> None:
        self._add(result, str(error))

    def wait_for(self, number: int) -> None:
        with self.news:
            assert self.news.wait_for(lambda: len(self.received) >= number, LONG_S), self.received

    def _add(self, result: StepResult, what: str) -> None:
        with self.news:
            self.received.append(((result.tick.stamp_ns - seconds(0)) // NANOSECONDS, what))
            self.news.notify_all()


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory.open(settings(tmp_path / "memory.db")) as memory:
        yield memory


@contextmanager
def writing(memory: Memory, reports: Reports, max_backlog: int = 100) -> Iterator[MemoryWriter]:
    writer = MemoryWriter(memory, reports.committed, reports.failed, max_backlog=max_backlog)
    try:
        yield writer
    finally:
        writer.close(timeout=0.0)


def stored(memory: Memory) -> list[int]:
    """Return the times (seconds of stream) of the observations, in the order of storing."""
    records = memory.recall(RecallQuery(kinds=("observation",), limit=1000)).records
    return [
        (record.end_ns - seconds(0)) // NANOSECONDS
        for record in sorted(records, key=lambda record: record.record_id)
    ]


def test_steps_are_reported_in_order_after_they_are_stored(
    memory: Memory, reports: Reports
) -> None:
    found_when_reported: list[bool] = []

    def committed(result: StepResult) -> None:
        found_when_reported.append(
            memory.recall(RecallQuery(kinds=("observation",), start_ns=result.tick.stamp_ns)).total
            == 1
        )
        reports.committed(result)

    writer = MemoryWriter(memory, committed, reports.failed)
    writer.begin_session(SESSION, "model", "test", seconds(0))
    for number in range(20):
        writer.submit(step(number))
        assert writer.flush(LONG_S)
    writer.close()
    assert reports.received == [(number, "stored") for number in range(20)]
    assert found_when_reported == [True] * 20


def test_health_has_the_rows_and_an_empty_backlog(memory: Memory, reports: Reports) -> None:
    with writing(memory, reports) as writer:
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


def test_submitting_does_not_wait_for_a_locked_file(tmp_path: Path, reports: Reports) -> None:
    path = tmp_path / "memory.db"
    with (
        Memory.open(settings(path, busy_timeout_s=60.0)) as memory,
        writing(memory, reports) as writer,
    ):
        with locked_by_another_program(path):
            writer.begin_session(SESSION, "model", "test", seconds(0))
            for number in range(3):
                writer.submit(step(number))
            assert reports.received == []
        assert writer.flush(LONG_S)
        assert reports.received == [(0, "stored"), (1, "stored"), (2, "stored")]


def test_steps_that_a_locked_file_refuses_are_reported_once_and_stored_later_in_order(
    memory: Memory, reports: Reports
) -> None:
    with writing(memory, reports) as writer:
        with locked_by_another_program(memory.path):
            writer.begin_session(SESSION, "model", "test", seconds(0))
            for number in range(3):
                writer.submit(step(number, said="a ball"))
            reports.wait_for(3)
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
        assert [number for number, _ in reports.received] == [0, 1, 2, 3]
        assert all("another program holds it locked" in what for _, what in reports.received[:3])
        assert reports.received[3] == (3, "stored")
        health = writer.health
        assert (health.backlog, health.late, health.lost, health.fault) == (0, 3, 0, "")


def test_waiting_steps_are_stored_without_a_new_step_when_the_file_recovers(
    memory: Memory, reports: Reports
) -> None:
    with writing(memory, reports) as writer:
        with locked_by_another_program(memory.path):
            writer.begin_session(SESSION, "model", "test", seconds(0))
            writer.submit(step(0))
            reports.wait_for(1)
        assert writer.flush(LONG_S)
        assert stored(memory) == [0]


def test_a_full_backlog_drops_its_oldest_steps_and_counts_them(
    memory: Memory, reports: Reports
) -> None:
    with writing(memory, reports, max_backlog=2) as writer:
        with locked_by_another_program(memory.path):
            writer.begin_session(SESSION, "model", "test", seconds(0))
            for number in range(5):
                writer.submit(step(number))
                reports.wait_for(number + 1)
            assert writer.health.lost == 3
        assert writer.flush(LONG_S)
        assert stored(memory) == [3, 4]
        assert [number for number, _ in reports.received] == [0, 1, 2, 3, 4]


def test_a_step_that_breaks_the_schema_is_reported_and_does_not_block_the_next(
    memory: Memory, reports: Reports
) -> None:
    with writing(memory, reports) as writer:
        writer.begin_session(SESSION, "model", "test", seconds(0))
        writer.submit(step(0))
        writer.submit(step(1, said="ends before it begins", since=2))
        writer.submit(step(2))
        assert writer.flush(LONG_S)
        assert stored(memory) == [0, 2]
        assert [number for number, _ in reports.received] == [0, 1, 2]
        assert "a row breaks a rule of the tables: CHECK constraint" in reports.received[1][1]
        assert writer.health.lost == 1


def test_steps_of_a_session_that_was_not_started_are_reported_as_failed(
    memory: Memory, reports: Reports
) -> None:
    with writing(memory, reports) as writer:
        writer.submit(step(0))
        assert writer.flush(LONG_S)
    assert reports.received == [
        (0, f"session '{SESSION}' was not begun; call begin_session before its first step")
    ]


def test_a_failing_callback_costs_no_step(
    memory: Memory, reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(result: StepResult) -> None:
        raise RuntimeError("publisher is gone")

    writer = MemoryWriter(memory, fail, reports.failed)
    writer.begin_session(SESSION, "model", "test", seconds(0))
    for number in range(3):
        writer.submit(step(number))
    writer.close()
    assert stored(memory) == [0, 1, 2]
    assert reports.received == []
    assert "publisher is gone" in caplog.text


def test_closing_stores_waiting_steps(memory: Memory, reports: Reports) -> None:
    writer = MemoryWriter(memory, reports.committed, reports.failed)
    writer.begin_session(SESSION, "model", "test", seconds(0))
    for number in range(30):
        writer.submit(step(number))
    writer.close(LONG_S)
    assert stored(memory) == list(range(30))
    with pytest.raises(StreamError, match="the memory's writer was closed; open a new one"):
        writer.submit(step(30))


def test_closing_while_the_file_cannot_be_written_counts_lost_steps(
    memory: Memory, reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    begin(memory)
    writer = MemoryWriter(memory, reports.committed, reports.failed)
    with locked_by_another_program(memory.path):
        writer.submit(step(0))
        reports.wait_for(1)
        writer.close(timeout=0.0)
    assert writer.health.lost == 1
    assert "a step is lost" in caplog.text
    assert len(reports.received) == 1


class SmallDisk:
    """A separate file system that a few steps fill."""

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
    """A database with a size limit in SQLite, which gives the same error as a full disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self) -> Memory:
        path = self.folder / "memory.db"
        self.db = open_for_writing(path, 0.0)
        self.db.execute("PRAGMA max_page_count = 100")
        return Memory(settings(path), Opened(Connections(path, 0.0, unwatched(path, self.db)), 0))

    def grow(self, memory: Memory) -> None:
        self.db.execute("PRAGMA max_page_count = 100000")

    def close(self) -> None:
        """Nothing to undo."""


@pytest.mark.parametrize("kind", [SmallDisk, SmallFile])
def test_a_full_disk_is_reported_and_no_step_is_lost_once_there_is_room(
    kind: type[SmallDisk] | type[SmallFile], tmp_path: Path, reports: Reports
) -> None:
    disk = kind(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    number = 0
    try:
        with disk.open() as memory, writing(memory, reports) as writer:
            writer.begin_session(SESSION, "model", "test", seconds(0))
            while not writer.health.fault:
                assert number < 1000, "the disk does not fill"
                writer.submit(step(number, said="a ball", image=noise))
                number += 1
                reports.wait_for(number)
            assert (
                "the disk is full; free some space or set memory.path to another disk"
                in reports.received[-1][1]
            )
            kept = stored(memory)
            assert kept == [when for when, what in reports.received if what == "stored"]
            writer.submit(step(number, said="a cup", image=noise))
            reports.wait_for(number + 1)
            disk.grow(memory)
            assert writer.flush(LONG_S)
            assert stored(memory) == list(range(number + 1))
            assert writer.health.lost == 0
            assert memory.recall(RecallQuery("cup")).total == 2
    finally:
        disk.close()
