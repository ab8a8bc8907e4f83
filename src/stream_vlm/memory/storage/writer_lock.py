"""The lock that allows one program at a time to write a memory file."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from stream_vlm.memory.storage.errors import MemoryFileError, explain, translate_errors
from stream_vlm.memory.storage.file_watch import FileId, file_id, open_descriptors

RETRY_PERIOD_S = 0.05
"""How often a lock that another program holds is tried again, seconds."""


def lock_path(path: Path) -> Path:
    """Return the lock file of the memory at `path`.

    It exists while a program writes the memory, or after that program was killed.
    """
    return path.with_name(path.name + ".lock")


@dataclass
class WriterLock:
    """The right to write one memory file, held from `take` to `release`.

    It is two advisory locks (flock). One is on a separate file, which names the holder and exists
    before the memory does. The other is on the memory file itself, so that a second name of the
    same file, such as a hard link, has the same lock. The kernel releases both when the process
    ends, so no stale lock remains after a kill -9. Readers need no lock.
    """

    path: Path
    _descriptor: int = -1
    _file: FileId | None = None

    @classmethod
    def take(cls, path: Path, timeout_s: float) -> WriterLock:
        """Become the only writer of the memory at `path`.

        Args:
            path: the memory file.
            timeout_s: how long to wait for another writer to end, seconds.

        Raises:
            MemoryFileError: another program writes it (the message gives its process id and host),
                or the lock file cannot be created.
        """
        lock = cls(path, _lock_beside(path, timeout_s))
        try:
            lock.hold_file(timeout_s)
        except BaseException:
            lock.release()
            raise
        return lock

    def hold_path(self) -> None:
        """Hold the lock file at the path, if the one that was held is no longer there.

        Raises:
            MemoryFileError: another program holds it.
        """
        if not _is_same_file(self._descriptor, lock_path(self.path)):
            taken = _lock_beside(self.path, 0.0)
            os.close(self._descriptor)
            self._descriptor = taken

    def hold_file(self, timeout_s: float = 0.0) -> None:
        """Lock the memory file itself, if there is one and it is not the one that is locked.

        Raises:
            MemoryFileError: a program writes it under another name.
        """
        found = file_id(self.path)
        if found is None or found == self._file:
            return
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                _files.lock(self.path, found)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise MemoryFileError(
                        f"{self.path}: another program writes the same file under another name"
                        " (a link), and a memory has only one writer; stop that program, or set"
                        " memory.path to another file"
                    ) from None
                time.sleep(RETRY_PERIOD_S)
            except OSError as error:
                raise explain(self.path, error) from error
        self._unlock_file()
        self._file = found

    def release(self) -> None:
        """Let another program write; calling it again does nothing."""
        self._unlock_file()
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        # Deleted while we still hold the lock: a waiting program then sees that its descriptor is
        # no longer the current lock file. One of another program is left.
        if _is_same_file(descriptor, lock_path(self.path)):
            lock_path(self.path).unlink(missing_ok=True)
        os.close(descriptor)

    def _unlock_file(self) -> None:
        if self._file is not None:
            _files.unlock(self._file)
            self._file = None


class _LockedFiles:
    """The descriptors by which memory files are locked.

    One stays open while the process has its file open otherwise: closing it would drop the locks
    that SQLite holds on the file for other connections of this process.
    """

    def __init__(self) -> None:
        self._open: dict[FileId, int] = {}
        self._locked: set[FileId] = set()
        self._changing = threading.Lock()

    def lock(self, path: Path, file: FileId) -> None:
        """Lock the file at `path`.

        Raises:
            BlockingIOError: it is locked already, by this process or another one.
            OSError: it cannot be locked.
        """
        with self._changing:
            self._close_unused()
            if file in self._locked:
                raise BlockingIOError
            if file not in self._open:
                self._open[file] = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            fcntl.flock(self._open[file], fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._locked.add(file)

    def read(self, file: FileId, start: int, size: int) -> bytes:
        """Return bytes of the file, or nothing if it is not locked."""
        with self._changing:
            return os.pread(self._open[file], size, start) if file in self._open else b""

    def unlock(self, file: FileId) -> None:
        """Release the lock on the file."""
        with self._changing:
            if file in self._locked:
                self._locked.discard(file)
                fcntl.flock(self._open[file], fcntl.LOCK_UN)
            self._close_unused()

    def _close_unused(self) -> None:
        """Close the descriptors of files that this process has not open otherwise."""
        for file in [file for file in self._open if file not in self._locked]:
            if os.fstat(self._open[file]).st_nlink == 0 or open_descriptors(file) == 1:
                os.close(self._open.pop(file))


_files = _LockedFiles()


def read_bytes(file: FileId, start: int, size: int) -> bytes:
    """Return bytes of a memory file that this process has locked, else nothing.

    They are read by the descriptor of the lock, so no file is opened or closed.
    """
    return _files.read(file, start, size)


def _lock_beside(path: Path, timeout_s: float) -> int:
    """Lock the lock file of the memory at `path`, and return its descriptor."""
    deadline = time.monotonic() + timeout_s
    lock_file = lock_path(path)
    while True:
        with translate_errors(path):
            descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            if time.monotonic() >= deadline:
                raise MemoryFileError(
                    f"{path}: {holder} writes it already, and a memory has only one writer;"
                    " stop that program, or set memory.path to another file"
                ) from None
            time.sleep(RETRY_PERIOD_S)
            continue
        except OSError as error:
            os.close(descriptor)
            raise MemoryFileError(
                f"{path}: its file system cannot lock files ({error.strerror}); set memory.path"
                " to a folder on a local disk"
            ) from error
        if _is_same_file(descriptor, lock_file):
            _write_holder(descriptor)
            return descriptor
        # The last holder deleted the file after we had opened it and before we locked it.
        os.close(descriptor)


def _is_same_file(descriptor: int, path: Path) -> bool:
    ours = os.fstat(descriptor)
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)


def _write_holder(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(
        descriptor,
        json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode() + b"\n",
        0,
    )


def _holder(descriptor: int) -> str:
    """Return who holds the lock, in words; unknown until the holder has written its process id."""
    try:
        signed = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {signed['pid']} on {signed['host']}"
    except (ValueError, KeyError, TypeError):
        return "another program"
