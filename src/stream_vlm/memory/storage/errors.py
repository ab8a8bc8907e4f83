"""From what SQLite and the file system say to one sentence that names the file and the remedy."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stream_vlm.types import StreamError


class MemoryFileError(StreamError):
    """The memory file cannot be opened, read or written; nothing in it was changed.

    The message names the file and the remedy.
    """


class MemoryDamaged(MemoryFileError):
    """The memory file is not sound any more.

    Opening it to write sets it aside and rescues what can be read.
    """


class SessionError(StreamError):
    """A session was begun twice, or written to without having been begun."""


class SummarizerError(StreamError):
    """The model that runs cannot sum up; the message names the setting, why and the remedy."""


class RecallError(StreamError):
    """A question to the memory that cannot be answered as it stands; the message names the value
    and what is allowed.
    """


_FULL = "the disk is full; free some space or set memory.path to another disk"
_NO_RIGHT = (
    "this user may not use it; give the right to read and write the file and its folder, or set"
    " memory.path to another place"
)

DAMAGED = (
    "the node sets it aside at its next start and rescues what can be read, as does 'stream-vlm"
    " memory verify --rescue'"
)
"""What to do about a damaged file."""

# SQLite's and the system's own words, in the order in which they are looked for. Python 3.10 does
# not expose SQLite's error code.
_REMEDIES = (
    (
        "database is locked",
        "another program holds it locked; close that program or raise memory.busy_timeout_s",
    ),
    ("database or disk is full", _FULL),
    ("No space left on device", _FULL),
    ("attempt to write a readonly database", _NO_RIGHT),
    ("unable to open database file", _NO_RIGHT),
    ("Permission denied", _NO_RIGHT),
    ("Read-only file system", "its disk may not be written; set memory.path to another disk"),
    (
        "file is not a database",
        (
            "it is not a SQLite file; it is left as it is, set memory.path to another file, or"
            " memory.key_file (--key-file) if it is encrypted"
        ),
    ),
    ("disk I/O error", "the disk failed; check the disk, or set memory.path to another one"),
)


def error_classes(
    kind: type[sqlite3.Error], *others: type[Exception]
) -> tuple[type[Exception], ...]:
    """`kind` of Python's own SQLite and, once that is loaded, of SQLCipher's library, whose errors
    are derived from none of them; and `others`.
    """
    cipher = sys.modules.get("sqlcipher3.dbapi2")
    return (kind, *others) if cipher is None else (kind, getattr(cipher, kind.__name__), *others)


def explain(path: Path, error: Exception) -> MemoryFileError:
    """The sentence for what went wrong with the memory file at `path`: an OSError, or an error of
    SQLite.
    """
    said = str(error)
    if "malformed" in said:
        return MemoryDamaged(f"{path}: it is damaged; {DAMAGED} ({said})")
    for words, remedy in _REMEDIES:
        if words in said:
            return MemoryFileError(f"{path}: {remedy} ({said})")
    return MemoryFileError(f"{path}: the memory file failed: {said}")


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Turns the faults of the file (DatabaseError of either library but not a refused row, OSError)
    into `MemoryFileError`.

    A row that breaks the schema (IntegrityError) is a fault of the row: trying again cannot help,
    so it passes as it is.
    """
    try:
        yield
    except error_classes(sqlite3.IntegrityError):
        raise
    except error_classes(sqlite3.DatabaseError, OSError) as error:
        raise explain(path, error) from error
