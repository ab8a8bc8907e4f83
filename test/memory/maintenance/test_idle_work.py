"""The writer thread makes summaries while no step waits; faults in that lose nothing."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from memory_fixtures import SESSION, begin, locked_by_another_program, seconds, step, unwatched
from summary_fixtures import LONG_S, CallbackCounter, chunks_of, summaries, texts

from stream_vlm.memory.memory import Memory
from stream_vlm.memory.open_file import Opened
from stream_vlm.memory.recording.sync_writer import SyncWriter
from stream_vlm.memory.storage.connections import Connections
from stream_vlm.memory.storage.file import open_for_writing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.db"


def test_chunks_are_summarised_between_steps_and_the_last_one_at_close(
    path: Path,
) -> None:
    counter = CallbackCounter()
    with Memory.open(chunks_of(10, path)) as memory:
        writer = counter.writer(memory)
        writer.begin_session(SESSION, "model", "test", seconds(0))
        for number in range(25):
            writer.submit(step(number, said="a ball" if number == 22 else ""))
        assert writer.wait_idle(LONG_S)
        assert texts(memory) == ["10× silence", "10× silence"]
        assert writer.health.idle.summarised == 2
        assert writer.health.rows == 25 + 2 + 2
        writer.close()
        assert texts(memory)[2:] == ["0:01–0:02 a ball"]
    assert counter.stored == 25


def test_a_summary_that_cannot_be_written_is_made_later(
    path: Path,
) -> None:
    counter = CallbackCounter()
    with Memory.open(chunks_of(10, path)) as memory:
        writer = counter.writer(memory)
        writer.begin_session(SESSION, "model", "test", seconds(0))
        writer.submit(step(0))
        assert writer.wait_idle(LONG_S)
        with locked_by_another_program(path):
            for number in range(1, 15):
                writer.submit(step(number))
            assert not writer.wait_idle(0.2)
            assert summaries(memory) == []
        assert writer.wait_idle(LONG_S)
        assert texts(memory) == ["10× silence"]
        assert writer.health.lost == 0
        writer.close()


def test_a_full_disk_while_summarising_is_reported_and_loses_nothing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    db = open_for_writing(path, 0.0)
    counter = CallbackCounter()
    with Memory(
        chunks_of(10, path, summary_chars=8000),
        Opened(Connections(path, 0.0, unwatched(path, db)), 0),
    ) as memory:
        begin(memory)
        for number in range(15):
            memory.write(
                step(number, said=" ".join(f"word{number}x{index}" for index in range(100)))
            )
        db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
        writer = counter.writer(memory)
        full = threading.Event()
        for _ in range(300):
            if writer.health.idle_fault:
                full.set()
                break
            writer.wait_idle(0.1)
        assert full.is_set()
        assert "the disk is full" in writer.health.idle_fault
        assert summaries(memory) == []
        assert memory.count() == 45
        db.execute("PRAGMA max_page_count = 1000000")
        for _ in range(300):
            if texts(memory):
                break
            writer.wait_idle(0.1)
        assert len(texts(memory)) == 1
        assert writer.wait_idle(LONG_S)
        assert writer.health.idle_fault == ""
        writer.close()
    assert caplog.text.count("wait") == 1


def test_a_bug_in_the_idle_work_is_reported_once_and_steps_are_still_stored(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = CallbackCounter()
    with Memory.open(chunks_of(10, path)) as memory:
        monkeypatch.setattr("stream_vlm.memory.memory.IdleWork.work", lambda self: 1 / 0)
        writer = counter.writer(memory)
        writer.begin_session(SESSION, "model", "test", seconds(0))
        for number in range(5):
            writer.submit(step(number))
            assert writer.flush(LONG_S)
        assert writer.wait_idle(LONG_S)
        assert "division by zero" in writer.health.idle_fault
        writer.close()
    assert (counter.stored, counter.failed) == (5, 0)


def test_a_recording_is_summarised_while_it_is_watched_and_at_its_end(path: Path) -> None:
    with Memory.open(chunks_of(10, path)) as memory:
        begin(memory)
        writer = SyncWriter(memory)
        for number in range(15):
            writer.submit(step(number))
        assert texts(memory) == ["10× silence"]
        writer.end_session()
        assert texts(memory) == ["10× silence", "5× silence"]
