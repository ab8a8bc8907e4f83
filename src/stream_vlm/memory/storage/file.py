"""The memory file itself: found or created, checked before it is trusted, and connected to."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

from sqlite_utils import Database

from stream_vlm.memory.storage.encryption import Key, connect
from stream_vlm.memory.storage.errors import (
    DAMAGED,
    MemoryDamaged,
    MemoryFileError,
    error_classes,
    translate_errors,
)
from stream_vlm.memory.storage.schema import APPLICATION_ID, SCHEMA_VERSION, migrate, version_of
from stream_vlm.memory.storage.writer_lock import WriterLock

_log = logging.getLogger(__name__)

MAX_WAL_BYTES = 64 * 2**20
"""A log of this length is brought into the file by the commit that finds it."""

CHECK_S = 0.1
"""The check at opening takes at most this long, seconds; what it has not come to by then is taken
as sound.
"""

CHECKED = ("session", "record", "")
"""What is checked, in this order: the tables that recall rests on, then the whole file."""


def acquire_writer(path: Path, timeout_s: float) -> WriterLock:
    """Make the folder of `path` where it is missing, and become the one program that writes the
    memory there.

    Raises:
        MemoryFileError: the path can be no file, or another program writes it and did not end
            within `timeout_s` seconds.
    """
    _refuse_what_is_no_file(path)
    with translate_errors(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return WriterLock.take(path, timeout_s)


def open_for_writing(path: Path, busy_timeout_s: float, key: Key | None = None) -> Database:
    """Create the file where it is missing (mode 0600, under `key`), check it, bring it to today's
    schema and return the writer's connection.

    The connection may be used from any thread, by one at a time. The caller holds the lock of
    `claim`.

    Raises:
        MemoryDamaged: the file is not sound. It is left as it was.
        MemoryFileError: the path is no usable file, or the file is another program's or of a newer
            version. It is left as it was.
    """
    _refuse_what_is_no_file(path)
    if not path.exists():
        with translate_errors(path):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    with translate_errors(path):
        db = connect(path, key, "mode=rw", busy_timeout_s)
    deadline = time.monotonic() + busy_timeout_s
    try:
        while True:
            try:
                with translate_errors(path):
                    _set_up(db, path, key)
                return db
            except MemoryFileError as error:
                # SQLite does not wait for a lock while it changes the journal mode, as two programs
                # that create one file at once do.
                if "database is locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
    except BaseException:
        db.close()
        raise


def _set_up(db: Database, path: Path, key: Key | None) -> None:
    refuse_what_is_not_ours(db, path)
    _refuse_damage(db, path)
    version = version_of(db)
    if version == 0:
        # Only an empty file can take this: later a `forget` gives its pages back without rewriting
        # the file.
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    journal_mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if journal_mode != "wal":
        raise MemoryFileError(
            f"{path}: its file system cannot share a write-ahead log (journal mode stays"
            f" '{journal_mode}'); set memory.path to a folder on a local disk"
        )
    # FULL, not NORMAL: with a write-ahead log NORMAL would lose the last commits in a power cut,
    # and what was published is promised to be stored. It costs one fsync a step, on the writer's
    # thread.
    db.execute("PRAGMA synchronous = FULL")
    page_size = int(db.execute("PRAGMA page_size").fetchone()[0])  # SQLCipher gives it as text
    # The writer brings the log into the file between two steps (`Memory.settle`). Only where it
    # finds no such time does SQLite do it within a commit, which then takes several times as long.
    db.execute(f"PRAGMA wal_autocheckpoint = {MAX_WAL_BYTES // page_size}")
    db.execute("PRAGMA foreign_keys = ON")
    # What is deleted from a page is overwritten with zeros. Whole free pages are not (FAST): to
    # forget gives those back.
    db.execute("PRAGMA secure_delete = FAST")
    if 0 < version < SCHEMA_VERSION:
        _keep_version(db, path, version, key)
    migrate(db)


def _keep_version(db: Database, path: Path, version: int, key: Key | None) -> None:
    """Copy the file as it is, under its key, beside it, before its tables are changed."""
    backup = free_name(path, f"version-{version}")
    os.close(os.open(backup, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(connect(backup, key)) as copy:
            db.conn.backup(copy.conn)
    except BaseException:
        backup.unlink()
        raise
    _log.warning(
        "%s: was written by version %d of the memory and is brought to %d; as it was it stays"
        " in %s",
        path,
        version,
        SCHEMA_VERSION,
        backup,
    )


def free_name(path: Path, ending: str) -> Path:
    """`path` with `.ending` added, and a number where that is taken."""
    number = 1
    while True:
        candidate = path.with_name(f"{path.name}.{ending}" + (f"-{number}" if number > 1 else ""))
        if not candidate.exists():
            return candidate
        number += 1


def check_for_reading(path: Path, busy_timeout_s: float, key: Key | None = None) -> None:
    """Make sure that the file at `path` can be asked; nothing is created, nothing is changed.

    Raises:
        MemoryFileError: there is no memory at `path`, or it is damaged, another program's, or of
            another version.
    """
    _refuse_what_is_no_file(path)
    if not path.exists():
        raise MemoryFileError(
            f"{path}: no such memory file; check memory.path, or let the node run first"
        )
    db = open_for_reading(path, busy_timeout_s, key)
    try:
        with translate_errors(path):
            refuse_what_is_not_ours(db, path)
            version = version_of(db)
            if version == 0:
                raise MemoryFileError(f"{path}: the file is empty; let the node run first")
            if version < SCHEMA_VERSION:
                raise MemoryFileError(
                    f"{path}: version {version} of the memory is older than this program's"
                    f" {SCHEMA_VERSION}; start the node on it once, which brings it up to date"
                )
            _refuse_damage(db, path)
    finally:
        db.close()


def open_for_reading(path: Path, busy_timeout_s: float, key: Key | None = None) -> Database:
    """Return a connection that can only read; it sees each commit whole, while the writer goes on.

    In a folder that may not be written SQLite cannot set up the shared memory of a write-ahead log.
    Where there is no log either, nobody is writing, and the file is read as it lies.

    Raises:
        MemoryFileError: the file cannot be opened.
    """
    try:
        db = connect(path, key, "mode=ro", busy_timeout_s)
        try:
            db.execute("PRAGMA schema_version").fetchone()
            return db
        except BaseException:
            db.close()
            raise
    except error_classes(sqlite3.OperationalError) as error:
        needs_shared_memory = any(
            words in str(error) for words in ("unable to open", "readonly database")
        )
        if not needs_shared_memory or _log_of(path).exists():
            with translate_errors(path):
                raise
    except error_classes(sqlite3.DatabaseError):
        with translate_errors(path):
            raise
    with translate_errors(path):
        return connect(path, key, "immutable=1", busy_timeout_s)


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _refuse_what_is_no_file(path: Path) -> None:
    with translate_errors(path):
        if path.is_dir():
            raise MemoryFileError(
                f"{path}: is a folder; set memory.path to a file in it, for example"
                f" {path / 'memory.db'}"
            )
        if not path.exists():
            above = next(folder for folder in path.parents if folder.exists())
            if not above.is_dir():
                raise MemoryFileError(
                    f"{path}: {above} is no folder; set memory.path to a file in a folder"
                )
            return
        if not path.is_file():
            raise MemoryFileError(f"{path}: is not an ordinary file; set memory.path to one")


def refuse_what_is_not_ours(db: Database, path: Path) -> None:
    """Raises MemoryFileError where the file at `path` is another program's or of a newer version."""
    # Tables first: another program that creates this very memory meanwhile commits them and the
    # mark together.
    has_tables = bool(db.table_names())
    application_id = db.execute("PRAGMA application_id").fetchone()[0]
    if has_tables and application_id != APPLICATION_ID:
        raise MemoryFileError(
            f"{path}: is another program's SQLite file (application_id {application_id}); it is"
            " left as it is, set memory.path to another file"
        )
    version = version_of(db)
    if version > SCHEMA_VERSION:
        raise MemoryFileError(
            f"{path}: version {version} of the memory is newer than this program's"
            f" {SCHEMA_VERSION}; it is left as it is, upgrade stream_vlm_ros or set memory.path to"
            " another file"
        )


def _refuse_damage(db: Database, path: Path) -> None:
    """As much of SQLite's quick check as `CHECK_S` allows."""
    deadline = time.monotonic() + CHECK_S
    for table in CHECKED:
        if table and table not in db.table_names():
            continue
        # SQLite's own progress callback is not called inside this check; an interruption ends it
        # all the same.
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return
        end = threading.Timer(left_s, db.conn.interrupt)
        end.start()
        try:
            found = db.execute(f"PRAGMA quick_check({table or 1})").fetchone()[0]
        except error_classes(sqlite3.OperationalError) as error:
            if "interrupted" not in str(error):
                raise
            return
        finally:
            end.cancel()
            # An interruption that comes late would hit the next statement.
            end.join()
        if found != "ok":
            raise MemoryDamaged(f"{path}: is damaged ({' '.join(str(found).split())}); {DAMAGED}")
