"""A memory file has one writer: the second is refused, and a killed writer leaves no stale lock."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from memory_fixtures import begin, settings, step
from places import SUPPORT

from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.memory.storage.errors import MemoryFileError
from stream_vlm.memory.storage.writer_lock import lock_path

HOLD = """
import sys
sys.path.insert(0, sys.argv[2])
from memory_fixtures import begin, settings, step
from stream_vlm.memory.memory import Memory

with Memory.open(settings(sys.argv[1])) as memory:
    begin(memory)
    memory.write(step(1, said="a ball rolls in"))
    print("writing", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_writer(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Keep the memory open for writing in a second process while the block runs."""
    command = [sys.executable, "-c", HOLD, str(path), str(SUPPORT)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        try:
            assert writer.stdout.readline() == "writing\n"
            yield writer
        finally:
            writer.stdin.close()
            writer.wait()


def test_the_second_writer_is_refused_with_process_and_host_of_the_first(
    tmp_path: Path,
) -> None:
    path = tmp_path / "memory.db"
    with another_writer(path) as first:
        expected = (
            f"memory.db: process {first.pid} on {socket.gethostname()} writes it already, and a"
            " memory has only one writer; stop that program"
        )
        with pytest.raises(MemoryFileError, match=expected):
            Memory.open(settings(path))


def test_a_link_to_the_file_has_the_same_lock(tmp_path: Path) -> None:
    (tmp_path / "linked.db").symlink_to(tmp_path / "memory.db")
    with (
        another_writer(tmp_path / "memory.db"),
        pytest.raises(MemoryFileError, match="writes it already"),
    ):
        Memory.open(settings(tmp_path / "linked.db"))


def test_readers_need_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    with another_writer(path), Memory.open(settings(path), read_only=True) as memory:
        assert memory.recall(RecallQuery("ball")).total == 2


def test_a_killed_writer_leaves_no_stale_lock(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    with another_writer(path) as first:
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert lock_path(path).exists()
        with Memory.open(settings(path)) as memory:
            assert memory.recall(RecallQuery("ball")).total == 2


def test_a_closed_writer_leaves_no_lock_file(tmp_path: Path) -> None:
    with Memory.open(settings(tmp_path / "memory.db")):
        assert lock_path(tmp_path / "memory.db").stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tmp_path)) == ["memory.db"]


def test_a_memory_that_could_not_be_opened_is_unlocked(tmp_path: Path) -> None:
    (tmp_path / "memory.db").write_text("this is a diary\n" * 100)
    for _ in range(2):
        with pytest.raises(MemoryFileError, match="is not a SQLite file"):
            Memory.open(settings(tmp_path / "memory.db"))
    assert not lock_path(tmp_path / "memory.db").exists()


def test_a_second_writer_waits_while_the_first_one_ends(tmp_path: Path) -> None:
    def remember_as(number: int) -> None:
        with Memory.open(settings(tmp_path / "memory.db", busy_timeout_s=30.0)) as memory:
            begin(memory, f"session {number}")
            memory.write(step(1, session=f"session {number}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(remember_as, range(8)))
    with sqlite3.connect(tmp_path / "memory.db") as connection:
        assert connection.execute("SELECT count(*) FROM session").fetchone() == (8,)
