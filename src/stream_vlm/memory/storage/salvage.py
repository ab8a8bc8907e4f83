"""Keep what an open memory has, after its file was removed, replaced or overwritten."""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path

from sqlite_utils import Database

from stream_vlm.memory.storage.encryption import Key, connect
from stream_vlm.memory.storage.errors import error_classes
from stream_vlm.memory.storage.file import free_name
from stream_vlm.memory.storage.file_watch import (
    MOVED,
    PARTS,
    OpenFile,
    file_id,
    part,
)

_log = logging.getLogger(__name__)


def keep_contents(db: Database, was: OpenFile, happened: str, key: Key | None) -> str:
    """Make sure that what was committed into the open file can be found.

    Args:
        db: the connection that writes, still open.
        was: the open file.
        happened: one of the words of `file_watch`.
        key: of an encrypted file, else None.

    Returns:
        Where the contents are, as the rest of a sentence.
    """
    if happened == MOVED and (there := was.found_at()) is not None and _checkpointed(db):
        return f"its contents until then are in {there}"
    try:
        if not db.execute("SELECT EXISTS (SELECT 1 FROM session)").fetchone()[0]:
            return "it had no contents"
        copy = free_name(was.path, f"removed-{datetime.now():%Y%m%d-%H%M%S}")
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            with closing(connect(copy, key)) as target:
                db.conn.backup(target.conn)
                target.execute("PRAGMA journal_mode = DELETE")
        except BaseException:
            copy.unlink()
            raise
    except error_classes(sqlite3.Error, OSError) as error:
        return f"its contents until then could not be kept ({error})"
    return f"its contents until then are in {copy}"


def merge_log(db: Database, was: OpenFile) -> bool:
    """Write the log of the open file into the file itself; return whether all of it is there."""
    return _checkpointed(db)


def leave_file(was: OpenFile, connections: list[Database]) -> Path | None:
    """Close all connections without writing the log into a file that was overwritten.

    SQLite writes the log into the file when the last connection closes, unless the file has another
    name by then. So it gets one for that moment.

    Returns:
        A name without a file, whose log (`-wal`) is that of the overwritten file; None if it had no
        log.
    """
    aside = free_name(was.path, f"overwritten-{datetime.now():%Y%m%d-%H%M%S}")
    hidden = free_name(was.path, "closing")
    os.rename(was.path, hidden)
    try:
        log = part(was.path, "-wal")
        has_log = file_id(log) == was.files[1] and log.stat().st_size > 0
        if has_log:
            os.rename(log, part(aside, "-wal"))
        remove_log(was)
        for connection in connections:
            with suppress(*error_classes(sqlite3.Error)):
                connection.close()
    finally:
        if not was.path.exists():
            os.rename(hidden, was.path)
    return aside if has_log else None


def remove_log(was: OpenFile) -> None:
    """Remove the log of the open file from the path.

    SQLite would take it for the log of whatever file is there next. A log of another file is left.
    """
    for ending, known in zip(PARTS[1:], was.files[1:], strict=True):
        file = part(was.path, ending)
        if known is not None and file_id(file) == known:
            with suppress(OSError):
                file.unlink()


def _checkpointed(db: Database) -> bool:
    """Write the whole log into the file; return whether it is complete."""
    try:
        busy, logged, written = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except error_classes(sqlite3.Error) as error:
        _log.warning("the write-ahead log cannot be written into its file (%s)", error)
        return False
    return not busy and logged == written
