"""The lock that allows one program at a time to write a memory file."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from stream_vlm.memory.storage.errors import MemoryFileError, translate_errors

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

    It is an advisory lock (flock) on a separate file. The kernel releases it when the process ends,
    so no stale lock remains after a kill -9. The memory file itself is not locked, because closing
    our own file descriptor would drop SQLite's POSIX locks on it. Readers need no lock.
    """

    path: Path
    _descriptor: int = -1

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
                return cls(path, descriptor)
            # The last holder deleted the file after we had opened it and before we locked it.
            os.close(descriptor)

    def release(self) -> None:
        """Let another program write; calling it again does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        # Deleted while we still hold the lock: a waiting program then sees that its descriptor is
        # no longer the current lock file.
        lock_path(self.path).unlink(missing_ok=True)
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
