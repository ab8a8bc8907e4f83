"""Read the messages of one SQLite file of a recording (.db3), with what its log beside it holds."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from stream_vlm.sources.recordings.storage import HEAD_BYTES, ZSTD_MAGIC, FileError, Topic


class SqliteFile:
    """One SQLite file; see `StorageFile`.

    A recorder that was killed leaves a write-ahead log beside the file (`-wal`, or `-journal`). Its
    messages are read too, and the recording is not changed.

    Raises:
        FileError: it is no SQLite file of a recording.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.remarks: list[str] = []
        self.counts: dict[str, int] = {}
        self._folder: TemporaryDirectory[str] | None = None
        if not path.stat().st_size:
            raise FileError(f"{path}: the file is empty (0 bytes); nothing was recorded")
        try:
            self._connection = self._open()
        except (sqlite3.Error, OSError) as error:
            self._drop_copy()
            raise FileError(f"{path}: not a recording that can be read: {error}") from error
        try:
            self.topics = self._read_topics()
            self.start_ns, self.end_ns = self._span()
        except sqlite3.Error as error:
            self.close()
            raise FileError(
                f"{path}: not a recording that can be read: {error};"
                f" 'sqlite3 {path.name} .recover' saves what is left of a damaged file"
            ) from error

    def close(self) -> None:
        """Close the file, and remove the copy if one was needed."""
        self._connection.close()
        self._drop_copy()

    def messages(self, keys: Collection[int], heads_only: bool) -> Iterator[tuple[int, int, bytes]]:
        """Yield topic, time of recording (ns) and data, in order of recording."""
        last = -1
        try:
            for row in self._rows(keys, heads_only, "messages", "timestamp, id"):
                last = row[1]
                yield row
        except sqlite3.DatabaseError as error:
            self._remark(
                f"it is damaged ({error}), and what is before that point is watched;"
                f" 'sqlite3 {self.path.name} .recover' may save more"
            )
            if last == -1:
                # The index may be what is damaged.
                with contextlib.suppress(sqlite3.DatabaseError):
                    yield from self._rows(keys, heads_only, "messages NOT INDEXED", "id")

    def _rows(
        self, keys: Collection[int], heads_only: bool, table: str, order: str
    ) -> Iterator[tuple[int, int, bytes]]:
        content = "NULL" if heads_only else "CAST(data AS BLOB)"
        query = f"SELECT id, topic_id, timestamp, {content} FROM {table} WHERE topic_id IN"
        query += f" ({','.join('?' * len(keys))}) ORDER BY {order}"
        for row, topic, recorded_ns, data in self._connection.execute(query, tuple(keys)):
            yield topic, recorded_ns, self._head(row) if heads_only else data or b""

    def _head(self, row: int) -> bytes:
        """Return the first bytes of a message; a blob is read in part, a column only as a whole."""
        if sys.version_info >= (3, 11):
            try:
                with self._connection.blobopen("messages", "data", row, readonly=True) as blob:
                    head = blob.read(HEAD_BYTES)
                    return head + blob.read() if head.startswith(ZSTD_MAGIC) else head
            except sqlite3.OperationalError:
                return b""  # no bytes in this row
        query = "SELECT CAST(data AS BLOB) FROM messages WHERE id = ?"
        (data,) = self._connection.execute(query, (row,)).fetchone()
        return data if (data or b"").startswith(ZSTD_MAGIC) else (data or b"")[:HEAD_BYTES]

    def _open(self) -> sqlite3.Connection:
        logs = [
            log
            for log in (Path(f"{self.path}-wal"), Path(f"{self.path}-journal"))
            if log.exists() and log.stat().st_size
        ]
        if not logs:
            return _connect(self.path, "immutable=1")
        # A reader of the log needs an index of it, which SQLite would write beside the recording.
        if Path(f"{self.path}-shm").exists() and logs[0].name.endswith("-wal"):
            with contextlib.suppress(sqlite3.OperationalError):  # read-only folder: copied below
                connection = _connect(self.path, "mode=ro")
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                return connection
        self._folder = TemporaryDirectory(prefix="stream_vlm_")
        copy = Path(self._folder.name) / "recording.db3"
        shutil.copyfile(self.path, copy)
        for log in logs:
            shutil.copyfile(log, f"{copy}{log.name[len(self.path.name) :]}")
        return _connect(copy, "mode=rw")

    def _read_topics(self) -> list[Topic]:
        tables = {
            name
            for (name,) in self._connection.execute("SELECT name FROM sqlite_master").fetchall()
        }
        if not {"messages", "topics"} <= tables:
            raise sqlite3.DatabaseError("it has no tables 'messages' and 'topics'")
        return [
            Topic(key, str(name), str(kind or ""), str(encoding or ""))
            for key, name, kind, encoding in self._connection.execute(
                "SELECT id, name, type, serialization_format FROM topics ORDER BY id"
            )
        ]

    def _span(self) -> tuple[int, int]:
        """Times of the first and the last message, ns."""
        try:
            query = "SELECT min(timestamp), max(timestamp) FROM messages"
            start_ns, end_ns = self._connection.execute(query).fetchone()
        except sqlite3.DatabaseError:
            return 0, 0  # the damage is told where the messages are read
        return start_ns or 0, end_ns or 0

    def _remark(self, sentence: str) -> None:
        if sentence not in self.remarks:
            self.remarks.append(sentence)

    def _drop_copy(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def _connect(path: Path, option: str) -> sqlite3.Connection:
    # Quoted, because # ? and % end the path in a URI or stand for other characters.
    address = f"file:{quote(os.fsencode(path.absolute()))}?{option}"
    connection = sqlite3.connect(address, uri=True, check_same_thread=False)
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    return connection
