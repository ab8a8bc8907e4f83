"""Read the rows of a damaged encrypted file with SQLCipher, skipping damaged pages.

Only SQLCipher can decrypt the pages, so damaged ones are skipped by row number. Unlike for a plain
file (see `sqlite_pages`), the first page and the schema must be sound: the first shows that the key
is right, and the schema is needed to find the rows.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from stream_vlm.memory.storage.encryption import Key, connect
from stream_vlm.memory.storage.errors import MemoryFileError, error_classes
from stream_vlm.memory.storage.schema import APPLICATION_ID

MAX_ROWID = 2**61
"""No table has a higher row number."""

_log = logging.getLogger(__name__)


def open_damaged(path: Path, key: Key | None) -> Database:
    """Open the damaged file at `path` for reading; the file is not changed.

    Raises:
        MemoryFileError: as `connect`.
    """
    # Without a WAL the file is opened as immutable; otherwise SQLite would create one.
    return connect(
        path,
        key,
        "mode=ro" if path.with_name(path.name + "-wal").exists() else "immutable=1",
        lenient=True,
    )


def is_ours(path: Path, key: Key) -> bool:
    """Return whether `key` opens the file at `path` and the file is marked as a memory."""
    try:
        with closing(open_damaged(path, key)) as db:
            return bool(db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID)
    except error_classes(sqlite3.DatabaseError, MemoryFileError) as error:
        _log.warning("%s: cannot be recognised as a memory (%s)", path, error)
        return False


def rows(path: Path, key: Key, table: str) -> Iterator[dict[str, Any]]:
    """Yield every readable row of `table` by column name, in the order of row numbers."""
    db = open_damaged(path, key)
    gaps = 0
    try:
        names = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
        at: int | None = 1
        while names and at is not None:
            try:
                for number, *values in db.execute(
                    f"SELECT rowid, {', '.join(names)} FROM {table} WHERE rowid >= ? ORDER BY"
                    " rowid",
                    [at],
                ):
                    at = number + 1
                    yield dict(zip(names, values, strict=True))
                return
            except error_classes(sqlite3.DatabaseError) as error:
                gaps += 1
                if gaps == 1:
                    _log.warning(
                        "%s: rows of %s are lost, starting with number %d (%s)",
                        path,
                        table,
                        at,
                        error,
                    )
            at = _next_readable(path, key, table, at)
            # After a page with a wrong HMAC the connection cannot read any other page.
            db.close()
            db = open_damaged(path, key)
    except error_classes(sqlite3.DatabaseError) as error:
        _log.warning("%s: rows of %s are lost (%s)", path, table, error)
    finally:
        db.close()


def _next_readable(path: Path, key: Key, table: str, bad: int) -> int | None:
    """Return the first number above `bad` from which the table can be read again, or None.

    It assumes that the damaged pages are adjacent.
    """
    step, good = 1, bad + 1
    while not _is_readable(path, key, table, good):
        if good >= MAX_ROWID:
            return None
        bad, step = good, 2 * step
        good = bad + step
    while good - bad > 1:
        middle = (bad + good) // 2
        if _is_readable(path, key, table, middle):
            good = middle
        else:
            bad = middle
    return good


def _is_readable(path: Path, key: Key, table: str, number: int) -> bool:
    with closing(open_damaged(path, key)) as db:
        try:
            db.execute(
                f"SELECT rowid FROM {table} WHERE rowid >= ? ORDER BY rowid LIMIT 1", [number]
            ).fetchone()
            return True
        except error_classes(sqlite3.DatabaseError):
            return False
