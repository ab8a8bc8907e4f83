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
from stream_vlm.memory.storage.file_watch import FileId, file_id, part
from stream_vlm.memory.storage.open_writer import OpenWriter

CHECKPOINT_BYTES = 4 * 2**20
"""The WAL is checkpointed after about this many bytes."""


READERS_END_S = 5.0
"""How long a file that was replaced waits for the searches that still read it, seconds."""


class Connections:
    """Lends connections to the file; file errors while one is lent are raised as `MemoryFileError`.

    Any thread may ask for any connection. Only one thread at a time gets the one that writes.
    Before one is lent, the file at the path is compared with the open one: if it was removed,
    replaced or damaged meanwhile, the writer goes on in a new file (see `OpenWriter`).

    Args:
        path: the memory file.
        busy_timeout_s: how long to wait for another program's lock, seconds.
        writer: the connection that writes, or None where the file was opened for reading only.
        key: of an encrypted file, else None.

    Attributes:
        generation: how often the writer went on in a new file.
    """

    def __init__(
        self, path: Path, busy_timeout_s: float, writer: OpenWriter | None, key: Key | None = None
    ) -> None:
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        self.key = key
        self.generation = 0
        self._writer = writer
        self._write_lock = threading.Lock()
        self._readers: queue.LifoQueue[tuple[Database, _Read]] = queue.LifoQueue()
        self._lent = 0
        self._no_reader = threading.Condition()
        self._closed = threading.Event()
        self._wal_bytes = 0

    @property
    def can_write(self) -> bool:
        """Whether the file was opened for writing."""
        return self._writer is not None

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
                self._open_writer().note_newest()

    @contextmanager
    def writer(self) -> Iterator[Database]:
        """Lend the write connection outside of any transaction, for statements such as VACUUM."""
        with self._write_lock:
            writer = self._open_writer()
            self._refuse_closed()
            self._follow_file()
            try:
                yield writer.db
            except Exception as error:
                raise_translated(self.path, error)
            finally:
                writer.note_use()

    def follow_file(self) -> None:
        """Look whether the file is still the one at the path, and go on in a new one if not.

        Raises:
            MemoryFileError: there can be no memory at the path now; the next call tries again.
        """
        with self._write_lock:
            self._refuse_closed()
            self._follow_file()

    @property
    def happened(self) -> str:
        """What happened to the file last while it was open, in one sentence; empty if nothing."""
        return self._writer.sentence if self._writer is not None else ""

    def _follow_file(self) -> None:
        writer = self._open_writer()
        if not writer.is_lost():
            return
        with self._no_reader:
            if not self._no_reader.wait_for(lambda: not self._lent, READERS_END_S):
                raise MemoryFileError(
                    f"{self.path}: was changed while searches still read it; ask again"
                )
            self._close_readers()
            with translate_errors(self.path):
                writer.go_on()
            self.generation += 1

    def _open_writer(self) -> OpenWriter:
        if self._writer is None:
            raise MemoryFileError(f"{self.path}: was opened for reading only")
        return self._writer

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
        self._follow_file_now()
        with self._no_reader:
            db, read = self._take_reader()
            self._lent += 1
        try:
            with translate_errors(self.path):
                yield db
        finally:
            with self._no_reader:
                self._lent -= 1
                self._no_reader.notify_all()
                if self._closed.is_set():
                    db.close()
                else:
                    self._readers.put((db, read))

    def _follow_file_now(self) -> None:
        """Let the writer go on in a new file before a search, unless a step is just stored."""
        if self._writer is None or not self._writer.is_displaced():
            return
        if not self._write_lock.acquire(timeout=self._busy_timeout_s):
            return  # the thread that stores finds the same
        try:
            self._follow_file()
        finally:
            self._write_lock.release()

    def _take_reader(self) -> tuple[Database, _Read]:
        now = _read_now(self.path)
        while True:
            try:
                db, read = self._readers.get_nowait()
            except queue.Empty:
                break
            if _same(read, now):
                return db, read
            db.close()
        if now[0] is None:
            raise MemoryFileError(
                f"{self.path}: there is no such file any more; start the node, which makes a new"
                " one, or set memory.path to where it is"
            )
        db = open_for_reading(self.path, self._busy_timeout_s, self.key)
        return db, _read_now(self.path)

    def _close_readers(self) -> None:
        while True:
            try:
                self._readers.get_nowait()[0].close()
            except queue.Empty:
                break

    def close(self) -> None:
        """Close every connection; a lent one is closed when it comes back.

        If the file was removed or replaced since it was used last, its contents are kept in a copy.
        Calling it again does nothing.
        """
        self._closed.set()
        self._close_readers()
        with self._write_lock:
            if self._writer is not None:
                self._writer.close()

    def _refuse_closed(self) -> None:
        if self._closed.is_set():
            raise MemoryFileError(f"{self.path}: was closed; open it again")


_Read = tuple[FileId | None, FileId | None]
"""The memory file and its log that a connection reads."""


def _read_now(path: Path) -> _Read:
    return file_id(path), file_id(part(path, "-wal"))


def _same(read: _Read, now: _Read) -> bool:
    """Return whether a connection of `read` sees the files `now`; a log may come later."""
    return (read[0] == now[0] and None in (read[1], now[1])) or read == now


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
