"""Read rows from the raw pages of a SQLite file that SQLite itself refuses to read.

SQLite finds a row by following pointers from the root page of a table. One damaged page hides all
rows below it, and a damaged first page hides everything. But each leaf page has complete rows and
describes its own layout (https://www.sqlite.org/fileformat2.html), so they can be read from any
leaf page.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from stream_vlm.memory.storage.log_frames import committed_frames

Value = int | float | str | bytes | None

LEAF = 0x0D
"""First byte of a page with rows of a table."""

MAX_ROW_BYTES = 2**26
"""A row that claims to be larger is damaged."""

DEFAULT_PAGE_SIZE = 4096
"""Bytes; used if the header is damaged."""


class BadRow(Exception):
    """The bytes are not a complete row."""


@dataclass(frozen=True)
class RawRow:
    """One row: its rowid and its values in the order of the columns.

    A column that is the rowid has the value NULL.
    """

    rowid: int
    values: tuple[Value, ...]


class RawFile:
    """The pages of a SQLite file after its last commit: from the WAL, else from the file."""

    def __init__(self, path: Path) -> None:
        self._stack = ExitStack()
        self._file = self._map(path)
        size = int.from_bytes(self._file[16:18], "big")
        size = 65536 if size == 1 else size
        self.page_size = (
            size if 512 <= size <= 65536 and size & (size - 1) == 0 else DEFAULT_PAGE_SIZE
        )
        reserved = self._file[20] if len(self._file) > 20 else 0
        self.usable = self.page_size - reserved if reserved <= 32 else self.page_size
        self._log = self._map(path.with_name(path.name + "-wal"))
        self._logged = committed_frames(self._log, self.page_size)
        self.pages = max([len(self._file) // self.page_size, *self._logged])

    def page(self, number: int) -> bytes:
        """Return page `number`, counted from 1; empty if the file is shorter."""
        if number in self._logged:
            start = self._logged[number]
            return bytes(self._log[start : start + self.page_size])
        start = (number - 1) * self.page_size
        return bytes(self._file[start : start + self.page_size]) if number >= 1 else b""

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def _map(self, path: Path) -> mmap.mmap | bytes:
        if not path.exists() or not path.stat().st_size:
            return b""
        file = self._stack.enter_context(path.open("rb"))
        return self._stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def rows(file: RawFile) -> Iterator[RawRow]:
    """Yield every complete row of every leaf page, of any table; others are skipped."""
    for number in range(1, file.pages + 1):
        page = file.page(number)
        start = 100 if number == 1 else 0
        if len(page) < file.page_size or page[start] != LEAF:
            continue
        cells = int.from_bytes(page[start + 3 : start + 5], "big")
        for cell in range(min(cells, (len(page) - start - 8) // 2)):
            at = start + 8 + 2 * cell
            try:
                yield _row(file, page, int.from_bytes(page[at : at + 2], "big"))
            except (BadRow, IndexError, struct.error, UnicodeDecodeError):
                continue


def _row(file: RawFile, page: bytes, at: int) -> RawRow:
    size, at = _varint(page, at)
    rowid, at = _varint(page, at)
    if not 0 < size <= MAX_ROW_BYTES:
        raise BadRow
    most = file.usable - 35
    if size <= most:
        payload = page[at : at + size]
    else:
        least = (file.usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (file.usable - 4)
        local = local if local <= most else least
        payload = page[at : at + local] + _overflow(
            file, int.from_bytes(page[at + local : at + local + 4], "big"), size - local
        )
    if len(payload) != size:
        raise BadRow
    return RawRow(rowid if rowid < 2**63 else rowid - 2**64, tuple(_values(payload)))


def _overflow(file: RawFile, number: int, size: int) -> bytes:
    parts = []
    while size > 0:
        page = file.page(number)
        if len(page) < file.page_size:
            raise BadRow
        part = page[4 : 4 + min(size, file.usable - 4)]
        parts.append(part)
        size -= len(part)
        number = int.from_bytes(page[:4], "big")
    return b"".join(parts)


def _values(payload: bytes) -> Iterator[Value]:
    header, at = _varint(payload, 0)
    if header > len(payload):
        raise BadRow
    body = header
    while at < header:
        kind, at = _varint(payload, at)
        if kind in (10, 11):
            raise BadRow
        width = (kind - 12) // 2 if kind >= 12 else (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)[kind]
        data = payload[body : body + width]
        body += width
        if len(data) != width:
            raise BadRow
        if kind == 0:
            yield None
        elif kind <= 6:
            yield int.from_bytes(data, "big", signed=True)
        elif kind == 7:
            yield struct.unpack(">d", data)[0]
        elif kind <= 9:
            yield kind - 8
        else:
            yield data.decode("utf-8") if kind % 2 else data
    if at != header or body != len(payload):
        raise BadRow


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(at, at + 8):
        byte = data[index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, index + 1
    return value << 8 | data[at + 8], at + 9
