"""Encrypt a plain memory or decrypt an encrypted one; a new file replaces the old one."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

from sqlite_utils import Database

from stream_vlm.memory.maintenance.check_and_backup import verify
from stream_vlm.memory.maintenance.export_import import export_lines
from stream_vlm.memory.storage.encryption import Key, attach, connect, connect_sqlcipher
from stream_vlm.memory.storage.errors import MemoryFileError, translate_errors
from stream_vlm.memory.storage.file import acquire_writer, open_for_reading, refuse_foreign_file
from stream_vlm.memory.storage.schema import APPLICATION_ID, version_of

ENDING = ".converting"
"""Ending of the new file while it is made.

If a program was killed and left such a file, the next one overwrites it.
"""


def convert(path: Path, before: Key | None, after: Key | None, busy_timeout_s: float) -> int:
    """Convert the memory at `path` from key `before` to key `after`; None means a plain file.

    All pages of the new file are checked and all its rows compared before it replaces the old file.
    Until then the old file is complete, also after a crash. No other program may have the file
    open.

    Returns:
        How many rows were converted.

    Raises:
        MemoryFileError: the file is open elsewhere, damaged, of another program, not encrypted as
            `before` says, or there is no room for the new file; it was not changed.
    """
    lock = acquire_writer(path, busy_timeout_s)
    try:
        with closing(open_for_reading(path, busy_timeout_s, before)) as db, translate_errors(path):
            refuse_foreign_file(db, path)
        if wrong := verify(path, busy_timeout_s, before):
            raise MemoryFileError(
                f"{path}: is damaged ({wrong[0]}); rescue it first with 'stream-vlm memory verify"
                " --rescue'"
            )
        fresh = path.with_name(path.name + ENDING)
        _remove(fresh)
        with (
            translate_errors(path),
            closing(connect_sqlcipher(path, before, "mode=rw", busy_timeout_s)) as db,
        ):
            try:
                return _convert(db, path, fresh, after)
            finally:
                _remove(fresh)
    finally:
        lock.release()


def _convert(db: Database, path: Path, fresh: Path, after: Key | None) -> int:
    version = version_of(db)
    # Exclusive access from here on, and no WAL that could be taken for that of the new file.
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("PRAGMA journal_mode = DELETE").fetchone()
    os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    attach(db, fresh, "fresh", after)
    db.execute("PRAGMA fresh.auto_vacuum = INCREMENTAL")
    db.execute("BEGIN EXCLUSIVE")
    db.execute("SELECT sqlcipher_export('fresh')").fetchone()
    db.execute("COMMIT")
    db.execute(f"PRAGMA fresh.application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA fresh.user_version = {version}")
    db.execute("DETACH DATABASE fresh")
    if wrong := verify(fresh, 0.0, after):
        raise MemoryFileError(
            f"{path}: the new file is damaged ({wrong[0]}); the old one was not changed, check the"
            " disk"
        )
    rows, digest = _contents(db)
    with closing(connect(fresh, after, "mode=ro")) as made:
        if _contents(made) != (rows, digest):
            raise MemoryFileError(
                f"{path}: the new file differs from the old one, which was not changed; check the"
                " disk"
            )
    os.replace(fresh, path)
    return rows


def _contents(db: Database) -> tuple[int, str]:
    """Return the number of rows, and a checksum of all rows."""
    last = b""
    for line in export_lines(db):
        last = line
    said = json.loads(last)
    return sum(said["rows"].values()), said["sha256"]


def _remove(fresh: Path) -> None:
    for ending in ("", "-journal"):
        fresh.with_name(fresh.name + ending).unlink(missing_ok=True)
