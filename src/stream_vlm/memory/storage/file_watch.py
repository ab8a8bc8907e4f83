"""Notice that an open memory file was removed, moved, replaced, truncated or overwritten.

An open file outlives its name: SQLite goes on writing into it, and nothing of that is found at the
path. So the file at the path is compared with the one that is open. This takes three calls of
`stat`. No file is opened for it, because closing one would drop the locks that SQLite holds on it.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

REMOVED, MOVED, REPLACED, LOG_LOST, TRUNCATED, CHANGED = (
    "removed",
    "moved away",
    "replaced by another file",
    "separated from its write-ahead log (-wal or -shm)",
    "truncated",
    "changed by another program",
)
"""What can happen to an open file. CHANGED may be harmless, for example `touch`."""

SMALLEST_FILE = 512
"""No SQLite file has smaller pages, bytes; a memory always has its first page."""

OTHERS = 0o077
"""The permissions of other users, which no file of a memory has."""

PARTS = ("", "-wal", "-shm")
"""Endings of the files of one open memory."""

FileId = tuple[int, int]
"""Device and inode of a file."""

_log = logging.getLogger(__name__)


def part(path: Path, ending: str) -> Path:
    """Return the file of the memory at `path` with this ending of `PARTS`."""
    return path.with_name(path.name + ending)


def file_id(path: Path) -> FileId | None:
    """Return device and inode of the file at `path`, or None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def tighten(path: Path) -> None:
    """Take the permissions of other users off the file at `path` and its log, and log it."""
    for ending in (*PARTS, ".lock"):
        file = part(path, ending)
        try:
            mode = file.stat().st_mode & 0o777
            if mode & OTHERS:
                file.chmod(mode & ~OTHERS)
                _log.warning(
                    "%s: other users could use it (mode %04o); its mode is now %04o",
                    file,
                    mode,
                    mode & ~OTHERS,
                )
        except FileNotFoundError:
            continue
        except OSError as error:
            _log.warning(
                "%s: other users can use it and its mode cannot be changed (%s); run 'chmod 600 %s'"
                " as its owner",
                file,
                error.strerror,
                file,
            )


@dataclass(frozen=True)
class OpenFile:
    """The files of an open memory, as they were when it was used last.

    Attributes:
        path: the memory file.
        files: device and inode of each file of `PARTS`; None where there was none.
        size: of the memory file, bytes.
        changed_ns: last change of the memory file, ns on the computer's clock.
    """

    path: Path
    files: tuple[FileId | None, ...]
    size: int
    changed_ns: int

    @classmethod
    def now(cls, path: Path) -> OpenFile:
        """Return what is at `path` now.

        Raises:
            OSError: there is no file.
        """
        found = path.stat()
        files = tuple(file_id(part(path, ending)) for ending in PARTS[1:])
        return cls(path, ((found.st_dev, found.st_ino), *files), found.st_size, found.st_mtime_ns)

    def used(self) -> OpenFile:
        """Return this after the program itself has used the file; its identity stays."""
        try:
            found = self.path.stat()
        except OSError:
            return self
        if (found.st_dev, found.st_ino) != self.files[0]:
            return self
        return replace(self, size=found.st_size, changed_ns=found.st_mtime_ns)

    def happened(self) -> str:
        """Return what happened to the file since it was used last; empty if nothing."""
        try:
            found = self.path.stat()
        except OSError:
            return MOVED if self.found_at() else REMOVED
        if (found.st_dev, found.st_ino) != self.files[0]:
            return MOVED if self.found_at() else REPLACED
        if found.st_size < SMALLEST_FILE:
            return TRUNCATED
        for ending, known in zip(PARTS[1:], self.files[1:], strict=True):
            if known is not None and file_id(part(self.path, ending)) != known:
                return LOG_LOST
        if found.st_mode & OTHERS:
            tighten(self.path)
        changed = (found.st_size, found.st_mtime_ns) != (self.size, self.changed_ns)
        return CHANGED if changed else ""

    def found_at(self) -> Path | None:
        """Return where the open file is now, or None if it has no name any more.

        The kernel knows the present name of every open file; without /proc this is None.
        """
        for link in _descriptors():
            try:
                found = os.stat(link)
                if (found.st_dev, found.st_ino) != self.files[0]:
                    continue
                if found.st_nlink == 0:
                    return None
                there = Path(os.readlink(link))
                if file_id(there) == self.files[0]:
                    return there
            except OSError:
                continue
        return None


def open_descriptors(file: FileId) -> int:
    """Return how many descriptors of this process are of the file; 0 without /proc."""
    found = 0
    for link in _descriptors():
        try:
            there = os.stat(link)
        except OSError:
            continue
        found += (there.st_dev, there.st_ino) == file
    return found


def _descriptors() -> list[str]:
    folder = "/proc/self/fd"
    try:
        return [f"{folder}/{name}" for name in os.listdir(folder)]
    except OSError:
        return []
