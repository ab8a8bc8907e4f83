"""One writer a memory file: a lock beside it that says who holds it, and that the system takes back
when its holder dies.
"""

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
"""How often a lock that another holds is tried again, seconds."""


def lock_path(path: Path) -> Path:
    """The lock file of the memory at `path`: there only while a program writes that memory, or was
    killed while it did.
    """
    return path.with_name(path.name + ".lock")


@dataclass
class WriterLock:
    """The right to write one memory file, held from `take` to `release`.

    An advisory lock (flock) on a file of its own: the kernel frees it when the process ends,
    however it ends, so nothing is stale after a kill -9. It is not put on the memory itself, whose
    POSIX locks SQLite would lose when we closed a descriptor of ours. Readers take none.
    """

    path: Path
    _descriptor: int = -1

    @classmethod
    def take(cls, path: Path, timeout_s: float) -> WriterLock:
        """Become the one writer of the memory at `path`, waiting at most `timeout_s` seconds for
        another to end.

        Raises:
            MemoryFileError: another program writes it; the message gives its process number and
                host. Or the lock file cannot be made.
        """
        deadline = time.monotonic() + timeout_s
        beside = lock_path(path)
        while True:
            with translate_errors(path):
                descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _holder(descriptor)
                os.close(descriptor)
                if time.monotonic() >= deadline:
                    raise MemoryFileError(
                        f"{path}: {holder} writes it already, and one memory has one writer; stop"
                        " that program, or set memory.path to a file of its own for each"
                    ) from None
                time.sleep(RETRY_PERIOD_S)
                continue
            except OSError as error:
                os.close(descriptor)
                raise MemoryFileError(
                    f"{path}: its file system cannot lock files ({error.strerror}); set memory.path"
                    " to a folder on a local disk"
                ) from error
            if _is_still(descriptor, beside):
                _sign(descriptor)
                return cls(path, descriptor)
            # Its last holder took the file away between our opening and our locking it.
            os.close(descriptor)

    def release(self) -> None:
        """Let another write; doing it again does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        # Taken away while it is still ours: whoever waits on it notices that it is no longer the
        # file beside the memory.
        lock_path(self.path).unlink(missing_ok=True)
        os.close(descriptor)


def _is_still(descriptor: int, path: Path) -> bool:
    ours = os.fstat(descriptor)
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)


def _sign(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(
        descriptor,
        json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode() + b"\n",
        0,
    )


def _holder(descriptor: int) -> str:
    """Who holds the lock, in words; less is known in the instant before the holder has signed."""
    try:
        signed = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {signed['pid']} on {signed['host']}"
    except (ValueError, KeyError, TypeError):
        return "another program"
