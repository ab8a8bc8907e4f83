"""Opening a memory file: the right to write it is taken, damage is set aside and what can be read
of it is rescued.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.rescue.rescue import Rescue, is_ours, rescue
from stream_vlm.memory.storage.connections import Connections
from stream_vlm.memory.storage.encryption import Key
from stream_vlm.memory.storage.errors import MemoryDamaged, MemoryFileError
from stream_vlm.memory.storage.file import acquire_writer, check_for_reading, open_for_writing
from stream_vlm.memory.storage.writer_lock import WriterLock

Made = TypeVar("Made")


@dataclass(frozen=True)
class Opened:
    """A memory file, open.

    Attributes:
        records: how many it holds.
        lock: the right to write it, or None where it is only read.
        rescued: what became of the damaged file that was found, or None.
    """

    connections: Connections
    records: int
    lock: WriterLock | None = None
    rescued: Rescue | None = None


def open_file(settings: MemorySettings, make: Callable[[Opened], Made], *, read_only: bool) -> Made:
    """As `Memory.open`; `make` makes the memory of what was opened, and damage that it runs into is
    damage found at opening, too.
    """
    if not settings.path.strip() or "\0" in settings.path:
        raise MemoryFileError(f"memory.path: {settings.path!r} names no file; give the path of one")
    # Resolved, so that two names of one file have one lock beside it.
    path = Path(settings.path).expanduser().resolve()
    key = Key.read(settings.key_file)
    if read_only:
        check_for_reading(path, settings.busy_timeout_s, key)
        connections = Connections(path, settings.busy_timeout_s, None, key)
        return make(Opened(connections, count_records(connections)))
    lock = acquire_writer(path, settings.busy_timeout_s)
    try:
        try:
            return _open_to_write(path, key, settings, make, lock)
        except MemoryDamaged as damage:
            if not is_ours(path, key):
                raise
            return _open_to_write(path, key, settings, make, lock, rescue(path, str(damage), key))
    except BaseException:
        lock.release()
        raise


def count_records(connections: Connections) -> int:
    """How many records the file holds."""
    with connections.reader() as db:
        return int(db.execute("SELECT count(*) FROM record").fetchone()[0])


def _open_to_write(
    path: Path,
    key: Key | None,
    settings: MemorySettings,
    make: Callable[[Opened], Made],
    lock: WriterLock,
    rescued: Rescue | None = None,
) -> Made:
    connections = Connections(
        path, settings.busy_timeout_s, open_for_writing(path, settings.busy_timeout_s, key), key
    )
    try:
        return make(Opened(connections, count_records(connections), lock, rescued))
    except BaseException:
        connections.close()
        raise
