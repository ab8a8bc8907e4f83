"""The connection that writes, and what becomes of it when its file is removed or replaced."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from stream_vlm.memory.storage.encryption import Key
from stream_vlm.memory.storage.errors import MemoryFileError, error_classes
from stream_vlm.memory.storage.file import open_for_reading, refuse_damage, refuse_foreign_file
from stream_vlm.memory.storage.file_watch import (
    CHANGED,
    LOG_LOST,
    REMOVED,
    TRUNCATED,
    OpenFile,
    part,
)
from stream_vlm.memory.storage.log_frames import committed_frames
from stream_vlm.memory.storage.salvage import keep_contents, leave_file, merge_log, remove_log
from stream_vlm.memory.storage.writer_lock import read_bytes

PAGE_SIZE = 4096
"""Of the files that this package makes, bytes."""

YOUNG_NS = 1_000_000_000
"""A change of the file is young for this long, ns; clocks of file systems are far finer."""

REMEDY = "stop the program that writes a memory before its file is moved, deleted or restored"
"""What to do the next time."""

_NEWEST = (
    "SELECT ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'record'), 0),"
    " (SELECT session_id FROM session ORDER BY rowid DESC LIMIT 1)"
)
"""The highest record number that was given, and the session that was stored last."""

_log = logging.getLogger(__name__)


class OpenWriter:
    """The connection that writes the memory at `path`, and what it knows about its file.

    Args:
        path: the memory file.
        key: of an encrypted file, else None.
        reopen: opens the file at the path for writing, and makes one where there is none.
        restore: stores the rows of a log again that are missing in the file; gets the connection
            and the name to which `-wal` is added, and returns how many records it stored.

    Attributes:
        db: the connection.
        sentence: what happened to the file last, and the remedy; empty if nothing.
    """

    db: Database
    _file: OpenFile
    _first_page: bytes
    _newest: Any

    def __init__(
        self,
        path: Path,
        key: Key | None,
        reopen: Callable[[], Database],
        restore: Callable[[Database, Path], int],
    ) -> None:
        self.sentence = ""
        self._path = path
        self._key = key
        self._reopen = reopen
        self._restore = restore
        self._left = False
        self._happened = ""
        self._kept = ""
        self._log_aside: Path | None = None
        self._use(reopen())

    def is_displaced(self) -> bool:
        """Return whether the open file is no longer the one at the path; any thread may ask."""
        return self._left or self._file.happened() not in ("", CHANGED)

    def is_lost(self) -> bool:
        """Return whether the open file is no longer the memory; for the thread that writes."""
        if self._left:
            return True
        happened = self._file.happened()
        if happened == CHANGED:
            if self._is_sound():
                self.note_use()
                return False
        elif not happened:
            return False
        self._happened = happened
        return True

    def go_on(self) -> None:
        """Keep the contents of the open file, and go on in the file at the path.

        The caller has closed the connections that read.

        Raises:
            MemoryFileError: there can be no memory at the path now. The contents are kept, and the
                next call only tries the path again.
        """
        if not self._left:
            self._leave()
            self._left = True
        try:
            self._use(self._reopen())
        except MemoryFileError as error:
            raise MemoryFileError(
                f"{self._path}: was {self._happened} while it was open; {self._kept}. Nothing can"
                f" be stored at the path now: {error}"
            ) from error
        self._left = False
        restored = ""
        if self._log_aside is not None:
            aside, self._log_aside = self._log_aside, None
            restored = f"; {self._restore(self.db, aside)} records from its log were stored again"
            self.note_newest()
            self.note_use()
        self.sentence = (
            f"{self._path}: was {self._happened} while it was open; {self._kept}{restored}; what"
            f" comes after is stored in the file that is at the path now. {REMEDY.capitalize()}"
        )
        _log.error("%s", self.sentence)

    def note_newest(self) -> None:
        """Note what was stored last, by which the file is recognised; within the transaction."""
        self._newest = self.db.execute(_NEWEST).fetchone()

    def note_use(self) -> None:
        """Note that the program itself has used the file."""
        before, self._file = self._file, self._file.used()
        # With a write-ahead log the file itself changes only at a checkpoint. Two changes soon one
        # after the other may have the same time, so after a young one the page is read again.
        is_young = abs(time.time_ns() - self._file.changed_ns) < YOUNG_NS
        if is_young or self._file != before:
            self._first_page = self._page(1)

    def close(self) -> None:
        """Close the connection; if the file was removed or replaced, keep its contents."""
        if not self._left and self.is_lost():
            self._leave()
            self._left = True
            _log.error(
                "%s: was %s while it was open; %s. %s",
                self._path,
                self._happened,
                self._kept,
                REMEDY.capitalize(),
            )
        with suppress(*error_classes(sqlite3.Error)):
            self.db.close()

    def _use(self, db: Database) -> None:
        self.db = db
        self._file = OpenFile.now(self._path)
        self._first_page = self._page(1)
        self.note_newest()

    def _leave(self) -> None:
        """Keep what the open file has, and close it."""
        if self._happened in (TRUNCATED, CHANGED):
            self._log_aside = leave_file(self._file, [self.db])
            self._kept = "what was there before is lost as far as it was overwritten"
            return
        if self._happened == LOG_LOST and merge_log(self.db, self._file):
            self._kept = "the log was written into the file and nothing is lost"
        else:
            self._kept = keep_contents(self.db, self._file, self._happened or REMOVED, self._key)
        with suppress(*error_classes(sqlite3.Error)):
            self.db.close()
        remove_log(self._file)

    def _is_sound(self) -> bool:
        """Return whether a changed file is still the memory that was written here.

        Its log may hide that it was overwritten: SQLite reads a page from the log if it is there.
        So the pages are looked at in the file itself.
        """
        try:
            if self._page(1) != self._first_page and not self._is_checkpoint():
                return False
            with closing(open_for_reading(self._path, 0.0, self._key)) as db:
                refuse_foreign_file(db, self._path)
                refuse_damage(db, self._path)
                number, _ = db.execute(_NEWEST).fetchone()
                known = db.execute(
                    "SELECT 1 FROM session WHERE session_id = ?", [self._newest[1]]
                ).fetchone()
        except error_classes(sqlite3.Error, MemoryFileError, OSError):
            return False
        return number >= self._newest[0] and (self._newest[1] is None or known is not None)

    def _is_checkpoint(self) -> bool:
        """Return whether another program wrote the log into the file, which changes nothing.

        Then every page of the log is in the file.
        """
        log = part(self._path, "-wal").read_bytes()
        return all(
            self._page(number) == log[start : start + PAGE_SIZE]
            for number, start in committed_frames(log, PAGE_SIZE).items()
        )

    def _page(self, number: int) -> bytes:
        file = self._file.files[0]
        return b"" if file is None else read_bytes(file, (number - 1) * PAGE_SIZE, PAGE_SIZE)
