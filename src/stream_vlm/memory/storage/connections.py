"""The connections to one memory file: one writes, any number read."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from sqlite_utils import Database

from stream_vlm.memory.storage.encryption import Key
from stream_vlm.memory.storage.errors import MemoryFileError, raise_translated, translate_errors
from stream_vlm.memory.storage.file import open_for_reading

CHECKPOINT_BYTES = 4 * 2**20
"""The WAL is checkpointed after about this many bytes."""


class Connections:
    """Lends connections to the file; file errors while one is lent are raised as `MemoryFileError`.

    Any thread may ask for any connection. Only one thread at a time gets the one that writes.

    Args:
        path: the memory file.
        busy_timeout_s: how long to wait for another program's lock, seconds.
        writing: the connection that writes, or None where the file was opened for reading only.
        key: of an encrypted file, else None.
    """

    def __init__(
        self, path: Path, busy_timeout_s: float, writing: Database | None, key: Key | None = None
    ) -> None:
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        self.key = key
        self._writing = writing
        self._write_lock = threading.Lock()
        self._readers: queue.LifoQueue[Database] = queue.LifoQueue()
        self._closed = threading.Event()
        self._wal_bytes = 0

    @property
    def can_write(self) -> bool:
        """Whether the file was opened for writing."""
        return self._writing is not None

    @contextmanager
    def writing(self, lock_timeout_s: float | None = None) -> Iterator[Database]:
        """Run the block in one write transaction, which is rolled back if the block fails.

        Args:
            lock_timeout_s: how long to wait for another program's lock, seconds; None takes
                `memory.busy_timeout_s`.
        """
        seconds = self._busy_timeout_s if lock_timeout_s is None else lock_timeout_s
        with self.writer() as db:
            db.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")
            with transaction(db, "IMMEDIATE"):
                yield db

    @contextmanager
    def writer(self) -> Iterator[Database]:
        """Lend the write connection outside of any transaction, for statements such as VACUUM."""
        with self._write_lock:
            if self._writing is None:
                raise MemoryFileError(f"{self.path}: was opened for reading only")
            self._refuse_closed()
            try:
                yield self._writing
            except Exception as error:
                raise_translated(self.path, error)

    def note_wal_bytes(self, size: int) -> None:
        """Count about `size` bytes that the writing thread has added to the WAL."""
        self._wal_bytes += size

    def checkpoint_wal(self) -> None:
        """Checkpoint the WAL if it has grown enough; this takes tens of milliseconds."""
        if self._wal_bytes >= CHECKPOINT_BYTES:
            with self.writer() as db:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self._wal_bytes = 0

    @contextmanager
    def snapshot(self) -> Iterator[Database]:
        """Lend a read connection that sees the same state of the file until the block ends."""
        with self.reader() as db, transaction(db, "DEFERRED"):
            yield db

    @contextmanager
    def reader(self) -> Iterator[Database]:
        """Lend a read connection for a single statement."""
        self._refuse_closed()
        try:
            db = self._readers.get_nowait()
        except queue.Empty:
            db = open_for_reading(self.path, self._busy_timeout_s, self.key)
        try:
            with translate_errors(self.path):
                yield db
        finally:
            if self._closed.is_set():
                db.close()
            else:
                self._readers.put(db)

    def close(self) -> None:
        """Close every connection; a lent one is closed when it comes back.

        Calling it again does nothing.
        """
        self._closed.set()
        while True:
            try:
                self._readers.get_nowait().close()
            except queue.Empty:
                break
        with self._write_lock:
            if self._writing is not None:
                self._writing.close()

    def _refuse_closed(self) -> None:
        if self._closed.is_set():
            raise MemoryFileError(f"{self.path}: was closed; open it again")


@contextmanager
def transaction(db: Database, kind: Literal["IMMEDIATE", "DEFERRED"]) -> Iterator[None]:
    """Run the block in one transaction, which is rolled back if the block fails.

    IMMEDIATE is for writing, DEFERRED for reading one consistent state. A write transaction takes
    the lock at its start: if it read first, SQLite could refuse the lock later without waiting.
    """
    db.execute(f"BEGIN {kind}")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # After some errors (a full disk, a disk error) SQLite has already rolled back.
        if db.conn.in_transaction:
            db.execute("ROLLBACK")
        raise
