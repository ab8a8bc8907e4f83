"""The connections to one memory file: one that writes, by one thread at a time, and as many that
read as threads ask at once.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlite_utils import Database

from stream_vlm.memory.storage.encryption import Key
from stream_vlm.memory.storage.errors import MemoryFileError, translate_errors
from stream_vlm.memory.storage.file import open_for_reading
from stream_vlm.memory.storage.schema import transaction

CHECKPOINT_BYTES = 4 * 2**20
"""About so much is left in the log before it is brought into the file."""


class Connections:
    """Lends connections; what goes wrong with the file while one is lent comes as
    `MemoryFileError`.

    Any thread may ask for any of them.
    """

    def __init__(
        self, path: Path, busy_timeout_s: float, writing: Database | None, key: Key | None = None
    ) -> None:
        """`writing` is the connection that writes, or None where the file was opened for reading
        only; `key` is that of an encrypted file.
        """
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        self.key = key
        self._writing = writing
        self._alone = threading.Lock()
        self._readers: queue.LifoQueue[Database] = queue.LifoQueue()
        self._closed = threading.Event()
        self._wal_bytes = 0

    @property
    def can_write(self) -> bool:
        """Whether the file was opened for writing."""
        return self._writing is not None

    @contextmanager
    def writing(self, lock_timeout_s: float | None = None) -> Iterator[Database]:
        """One transaction that writes, undone when the block fails.

        `lock_timeout_s` is how long to wait for another program's lock; None takes the setting
        `memory.busy_timeout_s`.
        """
        seconds = self._busy_timeout_s if lock_timeout_s is None else lock_timeout_s
        with self.writer() as db:
            db.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")
            with transaction(db, "IMMEDIATE"):
                yield db

    @contextmanager
    def writer(self) -> Iterator[Database]:
        """Lend the writing connection outside of any transaction, for what SQLite does to the file
        as a whole.
        """
        with self._alone, translate_errors(self.path):
            if self._writing is None:
                raise MemoryFileError(f"{self.path}: was opened for reading only")
            self._refuse_closed()
            yield self._writing

    def note_wal_bytes(self, size: int) -> None:
        """About `size` bytes more are in the log; called by the thread that writes."""
        self._wal_bytes += size

    def checkpoint_wal(self) -> None:
        """Bring what the log holds into the file, once it is worth it: tens of milliseconds of the
        disk.
        """
        if self._wal_bytes >= CHECKPOINT_BYTES:
            with self.writer() as db:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self._wal_bytes = 0

    @contextmanager
    def snapshot(self) -> Iterator[Database]:
        """Lend a reading connection to which the file does not change until the block ends."""
        with self.reader() as db, transaction(db, "DEFERRED"):
            yield db

    @contextmanager
    def reader(self) -> Iterator[Database]:
        """Lend a reading connection, for a single statement."""
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
        """Close every connection, those that are lent when they come back; calling it again does
        nothing.
        """
        self._closed.set()
        while True:
            try:
                self._readers.get_nowait().close()
            except queue.Empty:
                break
        with self._alone:
            if self._writing is not None:
                self._writing.close()

    def _refuse_closed(self) -> None:
        if self._closed.is_set():
            raise MemoryFileError(f"{self.path}: was closed; open it again")
