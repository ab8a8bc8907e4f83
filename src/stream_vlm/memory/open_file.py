"""Open a memory file: take the writer lock, and rescue the rows of a damaged file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sqlite_utils import Database

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.rescue.rescue import Rescue, is_ours, rescue
from stream_vlm.memory.rescue.restore_log import restore_log
from stream_vlm.memory.storage.connections import Connections
from stream_vlm.memory.storage.encryption import Key
from stream_vlm.memory.storage.errors import MemoryDamaged, MemoryFileError, translate_errors
from stream_vlm.memory.storage.file import (
    acquire_again,
    acquire_writer,
    check_for_reading,
    open_for_writing,
)
from stream_vlm.memory.storage.open_writer import OpenWriter
from stream_vlm.memory.storage.writer_lock import WriterLock

Made = TypeVar("Made")


@dataclass(frozen=True)
class Opened:
    """An open memory file.

    Attributes:
        connections: to the file.
        records: how many it has.
        lock: the writer lock, or None if the file is open for reading only.
        rescued: what was rescued from a damaged file, or None.
    """

    connections: Connections
    records: int
    lock: WriterLock | None = None
    rescued: Rescue | None = None


def open_file(settings: MemorySettings, make: Callable[[Opened], Made], *, read_only: bool) -> Made:
    """Open as `Memory.open`.

    Args:
        settings: of the memory.
        make: makes the memory from what was opened. Damage that it finds is handled like damage
            found at opening.
        read_only: open for reading only.
    """
    if not settings.path.strip() or "\0" in settings.path:
        raise MemoryFileError(f"memory.path: {settings.path!r} is not a path; give one of a file")
    # Resolved, so that two names of one file use the same lock file.
    path = Path(settings.path).expanduser().resolve()
    key = Key.read(settings.key_file)
    if read_only:
        check_for_reading(path, settings.busy_timeout_s, key)
        connections = Connections(path, settings.busy_timeout_s, None, key)
        return make(Opened(connections, count_records(connections)))
    lock = acquire_writer(path, settings.busy_timeout_s)
    try:
        return _open_to_write(path, key, settings, make, lock)
    except BaseException:
        lock.release()
        raise


def count_records(connections: Connections) -> int:
    """Return how many records the file has."""
    with connections.reader() as db:
        return int(db.execute("SELECT count(*) FROM record").fetchone()[0])


def _open_to_write(
    path: Path,
    key: Key | None,
    settings: MemorySettings,
    make: Callable[[Opened], Made],
    lock: WriterLock,
) -> Made:
    rescued: list[Rescue] = []

    def reopen() -> Database:
        """Open the file at the path, which may be another one than before."""
        acquire_again(lock, path)
        try:
            db = open_for_writing(path, settings.busy_timeout_s, key)
        except MemoryDamaged as damage:
            if not is_ours(path, key):
                raise
            rescued.append(rescue(path, str(damage), key))
            db = open_for_writing(path, settings.busy_timeout_s, key)
        try:
            lock.hold_file()
        except BaseException:
            db.close()
            raise
        return db

    def restore(db: Database, aside: Path) -> int:
        with translate_errors(path):
            return restore_log(db, aside, encrypted=key is not None)

    def open_once() -> Made:
        writer = OpenWriter(path, key, reopen, restore)
        connections = Connections(path, settings.busy_timeout_s, writer, key)
        try:
            records = count_records(connections)
            return make(Opened(connections, records, lock, rescued[-1] if rescued else None))
        except BaseException:
            connections.close()
            raise

    with translate_errors(path):
        try:
            return open_once()
        except MemoryDamaged as damage:
            # Damage that only the first questions find.
            if rescued or not is_ours(path, key):
                raise
            rescued.append(rescue(path, str(damage), key))
            return open_once()
