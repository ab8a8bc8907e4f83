"""Errors of SQLite leave the memory only as errors of this package."""

import os
import sqlite3
from pathlib import Path

import pytest
from memory_fixtures import begin, settings, step

from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.memory.storage.errors import (
    MemoryDamaged,
    MemoryFileError,
    RowRefused,
    translate_errors,
)
from stream_vlm.types import StreamError

FILE = Path("/robot/memory.db")
UNTOLD = [
    sqlite3.OperationalError("disk I/O error"),
    sqlite3.OperationalError("database table is locked"),
    sqlite3.OperationalError("attempt to write a readonly database"),
    sqlite3.OperationalError("database or disk is full"),
    sqlite3.DatabaseError("file is not a database"),
    sqlite3.InterfaceError("bad parameter or other API misuse"),
    sqlite3.ProgrammingError("Cannot operate on a closed database."),
    sqlite3.InternalError("unknown"),
    OSError(5, "Input/output error"),
]


@pytest.mark.parametrize("error", UNTOLD, ids=str)
def test_an_error_of_the_file_is_told_with_its_name(error: Exception) -> None:
    with pytest.raises(MemoryFileError, match=f"^{FILE}: "), translate_errors(FILE):
        raise error


def test_damage_is_told_as_damage() -> None:
    with pytest.raises(MemoryDamaged), translate_errors(FILE):
        raise sqlite3.DatabaseError("database disk image is malformed")


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.IntegrityError("CHECK constraint failed"),
        sqlite3.InterfaceError("Error binding parameter 0 - probably unsupported type."),
        OverflowError("Python int too large to convert to SQLite INTEGER"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    ],
    ids=str,
)
def test_an_error_of_a_value_is_told_as_one_that_another_attempt_cannot_help(
    error: Exception,
) -> None:
    with pytest.raises(RowRefused, match=f"^{FILE}: "), translate_errors(FILE):
        raise error


def test_no_value_of_a_query_brings_an_error_of_sqlite(tmp_path: Path) -> None:
    with Memory.open(settings(tmp_path / "memory.db")) as memory:
        begin(memory)
        memory.write(step(1, said="the ball rolls in"))
        for number in (2**63, -(2**70)):
            with pytest.raises(StreamError):
                memory.search_by_record(number, RecallQuery())
            with pytest.raises(StreamError):
                memory.frame(number)
        assert memory.count() == 3


def test_a_hard_link_to_the_file_has_the_same_lock(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with Memory.open(settings(tmp_path / "memory.db")) as memory:
        begin(memory)
        os.link(memory.path, elsewhere / "link.db")
        with pytest.raises(MemoryFileError, match="writes the same file under another name"):
            Memory.open(settings(elsewhere / "link.db"))
        memory.write(step(1))
    with Memory.open(settings(elsewhere / "link.db")) as memory:
        assert memory.count() == 1
