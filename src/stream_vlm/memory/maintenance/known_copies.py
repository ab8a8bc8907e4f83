"""The copies of a memory that are known: backups, exports, reports, and files set aside."""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from sqlite_utils import Database

from stream_vlm.memory.storage.connections import transaction
from stream_vlm.memory.storage.encryption import Key, connect
from stream_vlm.memory.storage.errors import MemoryFileError, error_classes

BACKUP, EXPORT, BAG, REPORT = "backup", "export", "bag", "report"
"""Kinds of copies that commands make, wherever the user wants them."""

ENDINGS = (
    *("damaged-*", "version-*", "backup-*", "removed-*", "overwritten-*"),
    *("rescue", "rescue-*", "import-*", "converting"),
)
"""Endings of the files with contents of a memory that are made in its folder.

The last ones are left only by a program that was killed.
"""

RUN_FILES = ("utterances.jsonl", "events.jsonl", "states.jsonl")
"""What `stream-vlm run` writes beside the memory in its folder, with the same words."""

_log = logging.getLogger(__name__)


def note_copy(
    path: Path, copy: Path, kind: str, busy_timeout_s: float, key: Key | None = None
) -> bool:
    """Note in the memory at `path` that `copy` has its contents, also while a node writes it.

    Returns:
        Whether it could be noted. If not, the log says why: `forget` will not name the copy.
    """
    try:
        with closing(connect(path, key, "mode=rw", busy_timeout_s)) as db:
            # Only the program that holds the writer lock writes the log into the file.
            db.execute("PRAGMA wal_autocheckpoint = 0")
            with transaction(db, "IMMEDIATE"):
                db.execute(
                    "INSERT OR REPLACE INTO known_copy (path, kind, wall_made_ns) VALUES (?, ?, ?)",
                    [str(copy.absolute()), kind, time.time_ns()],
                )
        return True
    except error_classes(sqlite3.Error, OSError, MemoryFileError, UnicodeEncodeError) as error:
        _log.warning(
            "%s: cannot be noted as a copy of %s (%s), so 'forget' will not name it; keep it in"
            " mind",
            copy,
            path,
            error,
        )
        return False


def copies_beside(path: Path) -> tuple[Path, ...]:
    """Return the copies of the memory at `path` in its folder."""
    found = {copy for ending in ENDINGS for copy in path.parent.glob(f"{path.name}.{ending}")}
    found = {copy for copy in found if not copy.name.endswith(("-shm", "-journal"))}
    if path.name == "memory.db":
        found |= {file for name in RUN_FILES if (file := path.with_name(name)).is_file()}
    return tuple(sorted(found))


def known_copies(db: Database, path: Path) -> tuple[Path, ...]:
    """Return all copies of the memory in `db` that are known and still there."""
    noted = [Path(name) for (name,) in db.execute("SELECT path FROM known_copy").fetchall()]
    there = [copy for copy in noted if copy.exists() and copy != path]
    return tuple(sorted({*copies_beside(path), *there}))


def open_copy(copy: Path, key: Key | None) -> Database:
    """Open a copy for reading without leaving a file beside it.

    Raises:
        MemoryFileError: the key does not fit.
        sqlite3.Error: it is no database.
    """
    has_log = copy.with_name(copy.name + "-wal").exists()
    return connect(copy, key, "mode=ro" if has_log else "immutable=1")
