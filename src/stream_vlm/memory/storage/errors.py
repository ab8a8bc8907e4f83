"""Turn errors of SQLite and the file system into one sentence with file and remedy."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from stream_vlm.types import StreamError


class MemoryFileError(StreamError):
    """The memory file cannot be opened, read or written; nothing in it was changed.

    The message names the file and the remedy.
    """


class MemoryDamaged(MemoryFileError):
    """The memory file is damaged.

    When it is opened for writing, the damaged file is renamed and its readable rows are copied into
    a new file.
    """


class SessionError(StreamError):
    """A session was started twice, or written to before it was started."""


class RowRefused(StreamError):
    """A row cannot be stored, or a value cannot be looked up; another attempt cannot help.

    A link, a number or a time of it breaks the tables, or SQLite has no such value.
    """


class SummarizerError(StreamError):
    """The running model cannot write summaries; the message names setting, reason and remedy."""


class CaptionerError(StreamError):
    """No captions can be written as set; the message names setting, reason and remedy."""


class RecallError(StreamError):
    """An invalid memory query; the message names the value and what is allowed."""


_FULL = "the disk is full; free some space or set memory.path to another disk"
_NO_PERMISSION = (
    "this user has no permission; allow this user to read and write the file and its folder, or"
    " set memory.path to another folder"
)

DAMAGED = (
    "at its next start the node renames the file and copies its readable rows into a new one;"
    " 'stream-vlm memory verify --rescue' does the same"
)
"""The remedy for a damaged file."""

# Parts of the messages of SQLite and the system; the first match counts. Python 3.10 does not
# expose SQLite's error codes.
_REMEDIES = (
    (
        "is locked",
        "another program holds it locked; close that program or raise memory.busy_timeout_s",
    ),
    ("database or disk is full", _FULL),
    ("No space left on device", _FULL),
    ("attempt to write a readonly database", _NO_PERMISSION),
    ("unable to open database file", _NO_PERMISSION),
    ("Permission denied", _NO_PERMISSION),
    ("Read-only file system", "its disk is read-only; set memory.path to another disk"),
    (
        "file is not a database",
        (
            "it is not a SQLite file and was not changed; set memory.path to another file, or"
            " memory.key_file (--key-file) if it is encrypted"
        ),
    ),
    ("disk I/O error", "the disk failed; check the disk, or set memory.path to another one"),
)


def error_classes(
    kind: type[sqlite3.Error], *others: type[Exception]
) -> tuple[type[Exception], ...]:
    """Return the error class `kind` of Python's SQLite and of SQLCipher, and `others`.

    SQLCipher's errors are not subclasses of those in `sqlite3`. They are included once its library
    has been loaded.
    """
    cipher = sys.modules.get("sqlcipher3.dbapi2")
    return (kind, *others) if cipher is None else (kind, getattr(cipher, kind.__name__), *others)


def explain(path: Path, error: Exception) -> MemoryFileError:
    """Return the error with file and remedy for `error`, an OSError or an error of SQLite."""
    said = str(error)
    if "malformed" in said:
        return MemoryDamaged(f"{path}: it is damaged; {DAMAGED} ({said})")
    for words, remedy in _REMEDIES:
        if words in said:
            return MemoryFileError(f"{path}: {remedy} ({said})")
    return MemoryFileError(f"{path}: the memory file failed: {said}")


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Raise the errors of SQLite and of the file system in the block as errors of this package.

    Raises:
        MemoryFileError: the file cannot be used; it may be possible later.
        RowRefused: a row breaks the tables, or a value is none that SQLite can store. Another
            attempt cannot help.
    """
    try:
        yield
    except Exception as error:
        raise_translated(path, error)


def raise_translated(path: Path, error: Exception) -> NoReturn:
    """Raise `error` as `translate_errors` does."""
    if isinstance(error, error_classes(sqlite3.IntegrityError)):
        raise RowRefused(f"{path}: a row breaks a rule of the tables: {error}") from error
    if isinstance(error, OverflowError):
        raise RowRefused(
            f"{path}: a number does not fit into 64 bits ({error}); give one between -2^63 and"
            " 2^63 - 1"
        ) from error
    if isinstance(error, UnicodeEncodeError):
        raise RowRefused(
            f"{path}: a text has half a surrogate pair, which UTF-8 cannot hold ({error.reason});"
            " give the text without it"
        ) from error
    if "binding parameter" in str(error) and isinstance(error, error_classes(sqlite3.Error)):
        raise RowRefused(
            f"{path}: a value has a type that SQLite cannot store ({error}); give a number, a text"
            " or bytes"
        ) from error
    if isinstance(error, error_classes(sqlite3.Error, OSError)):
        raise explain(path, error) from error
    raise error
