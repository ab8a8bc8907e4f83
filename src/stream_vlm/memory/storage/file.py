"""Create, check and open the memory file."""

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
from stream_vlm.memory.storage.file_watch import tighten
from stream_vlm.memory.storage.schema import APPLICATION_ID, SCHEMA_VERSION, migrate, version_of
from stream_vlm.memory.storage.writer_lock import WriterLock

_log = logging.getLogger(__name__)

MAX_WAL_BYTES = 64 * 2**20
"""A commit that finds a longer WAL checkpoints it."""

CHECK_S = 0.1
"""Time limit for the check at opening, seconds; what was not checked by then is taken as sound."""

CHECKED = ("session", "record", "")
"""What is checked, in this order: the tables that recall needs, then the whole file."""


def acquire_writer(path: Path, timeout_s: float) -> WriterLock:
    """Become the only program that writes the memory at `path`; a missing folder is created.

    Raises:
        MemoryFileError: there can be no file at the path, or another program still writes it after
            `timeout_s` seconds.
    """
    _refuse_non_file(path)
    with translate_errors(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return WriterLock.take(path, timeout_s)


def acquire_again(lock: WriterLock, path: Path) -> None:
    """Hold `lock` for the path as it is now, after its folder or its file was replaced.

    Raises:
        MemoryFileError: as `acquire_writer`.
    """
    _refuse_non_file(path)
    with translate_errors(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock.hold_path()


def open_for_writing(path: Path, busy_timeout_s: float, key: Key | None = None) -> Database:
    """Create the file if missing, check it, migrate its schema and return the write connection.

    A new file has mode 0600 and is encrypted with `key`, if given. Any thread may use the
    connection, one at a time. The caller holds the lock of `acquire_writer`.

    Raises:
        MemoryDamaged: the file is damaged. It was not changed.
        MemoryFileError: the file cannot be used, or belongs to another program or a newer version.
            It was not changed.
    """
    _refuse_non_file(path)
    if not path.exists():
        with translate_errors(path):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    tighten(path)
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
                # SQLite does not wait for a lock when it changes the journal mode. Two programs
                # that create the same file at once get here.
                if "database is locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
    except BaseException:
        db.close()
        raise


def _set_up(db: Database, path: Path, key: Key | None) -> None:
    refuse_foreign_file(db, path)
    refuse_damage(db, path)
    version = version_of(db)
    if version == 0:
        # This can only be set on an empty file. With it, `forget` can shrink the file without
        # rewriting it.
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    journal_mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if journal_mode != "wal":
        raise MemoryFileError(
            f"{path}: its file system cannot share a write-ahead log (journal mode stays"
            f" '{journal_mode}'); set memory.path to a folder on a local disk"
        )
    # FULL, not NORMAL: in WAL mode NORMAL can lose the last commits in a power cut, but every
    # published result must be stored. It costs one fsync per step, on the writer's thread.
    db.execute("PRAGMA synchronous = FULL")
    page_size = int(db.execute("PRAGMA page_size").fetchone()[0])  # SQLCipher gives it as text
    # The writer checkpoints the WAL between two steps (`Memory.run_maintenance`). Only if it finds
    # no time for that, SQLite does it within a commit, which then takes several times as long.
    db.execute(f"PRAGMA wal_autocheckpoint = {MAX_WAL_BYTES // page_size}")
    db.execute("PRAGMA foreign_keys = ON")
    # Deleted data within a page is overwritten with zeros. Free pages are not (FAST): `forget`
    # returns those to the file system.
    db.execute("PRAGMA secure_delete = FAST")
    if 0 < version < SCHEMA_VERSION:
        _backup_before_migration(db, path, version, key)
    migrate(db)


def _backup_before_migration(db: Database, path: Path, version: int, key: Key | None) -> None:
    """Copy the file, with the same key, before its tables are changed."""
    backup = free_name(path, f"version-{version}")
    os.close(os.open(backup, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(connect(backup, key)) as copy:
            db.conn.backup(copy.conn)
    except BaseException:
        backup.unlink()
        raise
    _log.warning(
        "%s: has schema version %d and is migrated to version %d; a copy of the old file is %s",
        path,
        version,
        SCHEMA_VERSION,
        backup,
    )


def free_name(path: Path, ending: str) -> Path:
    """Return `path` with `.ending` added, and a number if that name is taken."""
    number = 1
    while True:
        candidate = path.with_name(f"{path.name}.{ending}" + (f"-{number}" if number > 1 else ""))
        if not candidate.exists():
            return candidate
        number += 1


def check_for_reading(path: Path, busy_timeout_s: float, key: Key | None = None) -> None:
    """Check that the file at `path` can be read as a memory; nothing is created or changed.

    Raises:
        MemoryFileError: there is no memory at `path`, or it is damaged, or belongs to another
            program or another version.
    """
    _refuse_non_file(path)
    if not path.exists():
        raise MemoryFileError(
            f"{path}: no such memory file; check memory.path, or let the node run first"
        )
    db = open_for_reading(path, busy_timeout_s, key)
    try:
        with translate_errors(path):
            refuse_foreign_file(db, path)
            version = version_of(db)
            if version == 0:
                raise MemoryFileError(f"{path}: the file is empty; let the node run first")
            if version < SCHEMA_VERSION:
                raise MemoryFileError(
                    f"{path}: its schema version {version} is older than this program's"
                    f" {SCHEMA_VERSION}; start the node with it once, which migrates the file"
                )
            refuse_damage(db, path)
    finally:
        db.close()


def open_for_reading(path: Path, busy_timeout_s: float, key: Key | None = None) -> Database:
    """Return a read-only connection; it sees whole commits, also while another program writes.

    In a folder without write permission SQLite cannot create the shared memory of a WAL. If there
    is no WAL either, nobody writes, and the file is opened as immutable.

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


def _refuse_non_file(path: Path) -> None:
    with translate_errors(path):
        if path.is_dir():
            raise MemoryFileError(
                f"{path}: is a folder; set memory.path to a file, for example {path / 'memory.db'}"
            )
        if not path.exists():
            above = next(folder for folder in path.parents if folder.exists())
            if not above.is_dir():
                raise MemoryFileError(
                    f"{path}: {above} is not a folder; set memory.path to a file in a folder"
                )
            return
        if not path.is_file():
            raise MemoryFileError(f"{path}: is not an ordinary file; set memory.path to one")


def refuse_foreign_file(db: Database, path: Path) -> None:
    """Check that the file at `path` is a memory of this version or an older one.

    Raises:
        MemoryFileError: the file belongs to another program or has a newer version.
    """
    # Tables first: another program that creates this memory at the same time commits the tables
    # and the application_id together.
    has_tables = bool(db.table_names())
    application_id = db.execute("PRAGMA application_id").fetchone()[0]
    if has_tables and application_id != APPLICATION_ID:
        raise MemoryFileError(
            f"{path}: is another program's SQLite file (application_id {application_id}) and was"
            " not changed; set memory.path to another file"
        )
    version = version_of(db)
    if version > SCHEMA_VERSION:
        raise MemoryFileError(
            f"{path}: its schema version {version} is newer than this program's"
            f" {SCHEMA_VERSION}; it was not changed, upgrade stream_vlm_ros or set memory.path to"
            " another file"
        )


def refuse_damage(db: Database, path: Path) -> None:
    """Run SQLite's quick check for at most `CHECK_S` seconds.

    Raises:
        MemoryDamaged: it found damage.
    """
    deadline = time.monotonic() + CHECK_S
    for table in CHECKED:
        if table and table not in db.table_names():
            continue
        # SQLite calls no progress handler during this check, but an interrupt ends it.
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
            # A late interrupt would hit the next statement.
            end.join()
        if found != "ok":
            raise MemoryDamaged(f"{path}: is damaged ({' '.join(str(found).split())}); {DAMAGED}")
