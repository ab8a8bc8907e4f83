"""Read the messages of one MCAP file, also where it was not closed.

The format is at https://mcap.dev/spec. Only the channels that are asked for are looked at, so no
other channel can spoil them, whatever it holds.
"""

from __future__ import annotations

import heapq
import io
import struct
from array import array
from binascii import crc32
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from rosbags.rosbag2.storage_mcap import decompress

from stream_vlm.sources.recordings.storage import HEAD_BYTES, ZSTD_MAGIC, FileError, Topic

MAGIC = b"\x89MCAP0\r\n"
FOOTER_BYTES = 9 + 20 + len(MAGIC)
SCHEMA, CHANNEL, MESSAGE, CHUNK, CHUNK_INDEX = 0x03, 0x04, 0x05, 0x06, 0x08
STATISTICS, FOOTER = 0x0B, 0x02
MAX_NS = 2**63 - 1

Row = tuple[int, int, bytes]
"""Channel, time of recording (ns), data."""


class _Record(NamedTuple):
    code: int
    start: int
    size: int


class _Chunk(NamedTuple):
    """Where the records of a chunk are."""

    first_ns: int
    last_ns: int
    start: int
    size: int
    unpacked_size: int
    crc: int
    compression: str


class McapFile:
    """One MCAP file; see `StorageFile`.

    A file without an end is read from its beginning: every whole chunk counts, and `remarks` says
    what is missing.

    Raises:
        FileError: it is no MCAP file, or nothing whole is in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.remarks: list[str] = []
        self._types: dict[int, str] = {}
        self._channels: dict[int, tuple[int, str, str]] = {}
        self._chunks: list[_Chunk] = []
        self._chunk_count: int | None = None
        self._counts: dict[int, int] = {}
        # Messages outside of chunks: time of recording (ns), start and size of the record.
        self._loose = (array("Q"), array("Q"), array("Q"))
        self._file: BinaryIO = path.open("rb")
        try:
            self._size = self._file.seek(0, io.SEEK_END)
            self._check_magic()
            if not self._read_summary():
                self._scan()
        except BaseException:
            self._file.close()
            raise
        self.topics = [
            Topic(key, name, self._types.get(schema, ""), encoding)
            for key, (schema, name, encoding) in self._channels.items()
        ]
        self.counts = {
            name: sum(self._counts.get(key, 0) for key in self._keys_of(name))
            for name in {channel[1] for channel in self._channels.values()}
        }
        firsts = [chunk.first_ns for chunk in self._chunks]
        lasts = [chunk.last_ns for chunk in self._chunks]
        self.start_ns = min([*firsts, *self._loose[0]], default=0)
        self.end_ns = max([*lasts, *self._loose[0]], default=0)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _keys_of(self, name: str) -> list[int]:
        return [key for key, channel in self._channels.items() if channel[1] == name]

    def messages(self, keys: Collection[int], heads_only: bool) -> Iterator[Row]:
        """Yield channel, time of recording (ns) and data, in order of recording."""
        wanted = frozenset(keys)
        parts = [self._of_chunk(chunk, wanted, heads_only) for chunk in self._chunks]
        if self._loose[0]:
            parts.append(self._of_loose(wanted, heads_only))
        for channel, recorded_ns, data in heapq.merge(*parts, key=lambda row: row[1]):
            if channel >= 0:
                yield channel, recorded_ns, data

    def _of_chunk(self, chunk: _Chunk, wanted: frozenset[int], heads_only: bool) -> Iterator[Row]:
        # Before anything is read, so that only chunks of the present time are in memory.
        yield -1, chunk.first_ns, b""
        file, start, end = self._open_chunk(chunk, check=not heads_only)
        rows: list[Row] = []
        for record in _records(file, start, end):
            if record.code == MESSAGE and record.size >= 22:
                row = _message(file, record, wanted, heads_only)
                if row is not None and chunk.first_ns <= row[1] <= (chunk.last_ns or MAX_NS):
                    rows.append(row)
                elif row is not None:
                    self._remark(f"messages in the chunk at byte {chunk.start} are damaged")
        yield from sorted(rows, key=lambda row: row[1])

    def _of_loose(self, wanted: frozenset[int], heads_only: bool) -> Iterator[Row]:
        times, starts, sizes = self._loose
        for index in np.argsort(np.array(times), kind="stable").tolist():
            record = _Record(MESSAGE, starts[index], sizes[index])
            row = _message(self._file, record, wanted, heads_only)
            if row is not None:
                yield row

    def _open_chunk(self, chunk: _Chunk, check: bool) -> tuple[BinaryIO, int, int]:
        """Return a file with the chunk's records, and where they start and end in it."""
        if not chunk.compression and not (check and chunk.crc):
            return self._file, chunk.start, chunk.start + chunk.size
        self._file.seek(chunk.start)
        data = self._file.read(chunk.size)
        try:
            data = decompress(data, chunk.compression, chunk.unpacked_size, 0)
        except Exception as error:
            # Each compression raises an error of its own.
            self._remark(f"a chunk at byte {chunk.start} is damaged and left out: {error}")
            return io.BytesIO(), 0, 0
        if check and chunk.crc and crc32(data) != chunk.crc:
            self._remark(
                f"a chunk at byte {chunk.start} does not have its checksum; its pictures may be"
                " damaged"
            )
        return io.BytesIO(data), 0, len(data)

    def _remark(self, sentence: str) -> None:
        if sentence not in self.remarks:
            self.remarks.append(sentence)

    def _check_magic(self) -> None:
        self._file.seek(0)
        magic = self._file.read(len(MAGIC))
        if not self._size:
            raise FileError(f"{self.path}: the file is empty (0 bytes); nothing was recorded")
        if magic != MAGIC:
            raise FileError(
                f"{self.path}: not an MCAP file; it does not begin with the bytes of one"
            )

    def _read_summary(self) -> bool:
        """Read channels and chunks from the end of the file; False where there is no good end."""
        if self._size < 2 * len(MAGIC) + 29:
            return False
        self._file.seek(self._size - FOOTER_BYTES)
        end = self._file.read(FOOTER_BYTES)
        if end[0] != FOOTER or not end.endswith(MAGIC):
            return False
        (start,) = struct.unpack_from("<Q", end, 9)
        if not len(MAGIC) <= start < self._size:
            return False
        reached = start
        try:
            for record in _records(self._file, start, self._size - FOOTER_BYTES):
                reached = record.start + record.size
                if record.code in (SCHEMA, CHANNEL):
                    self._define(self._file, record)
                elif record.code == CHUNK_INDEX:
                    self._read_chunk_head(_read(self._file, record))
                elif record.code == STATISTICS:
                    self._read_statistics(_read(self._file, record))
        except (struct.error, ValueError):
            self._chunks.clear()
        is_whole = reached == self._size - FOOTER_BYTES and bool(self._channels)
        if not is_whole or self._chunk_count not in (None, len(self._chunks)):
            self._chunks.clear()
        return bool(self._chunks)

    def _read_statistics(self, data: bytes) -> None:
        self._chunk_count = struct.unpack_from("<QHIIIIQQ", data)[5]
        (size,) = struct.unpack_from("<I", data, 42)
        self._counts = dict(struct.iter_unpack("<HQ", data[46 : 46 + size]))

    def _read_chunk_head(self, index: bytes) -> None:
        """Take in the chunk that a record of the summary points at."""
        (offset,) = struct.unpack_from("<Q", index, 16)
        record = next(_records(self._file, offset, self._size), None)
        if record is None or record.code != CHUNK:
            self._remark(f"the chunk at byte {offset} is missing")
            return
        self._add_chunk(_chunk(self._file, record))

    def _add_chunk(self, chunk: _Chunk) -> None:
        # Some writers leave both times at 0.
        if chunk.first_ns <= chunk.last_ns <= MAX_NS:
            self._chunks.append(chunk)
        else:
            self._remark(f"the chunk at byte {chunk.start} is damaged and left out")

    def _scan(self) -> None:
        """Find channels and chunks from the beginning of the file."""
        end, has_end = len(MAGIC), False
        for record in _records(self._file, end, self._size):
            end = record.start + record.size
            if record.code in (SCHEMA, CHANNEL):
                self._define(self._file, record)
            elif record.code == MESSAGE and record.size >= 22:
                self._file.seek(record.start + 6)
                (recorded_ns,) = struct.unpack("<Q", self._file.read(8))
                if recorded_ns > MAX_NS:
                    self._remark(f"the message at byte {record.start} is damaged")
                    continue
                for column, value in zip(
                    self._loose, (recorded_ns, record.start, record.size), strict=True
                ):
                    column.append(value)
            elif record.code == CHUNK:
                self._scan_chunk(_chunk(self._file, record))
            elif record.code == FOOTER:
                has_end = end + len(MAGIC) == self._size
        if not has_end:
            self._remark(
                f"it was not closed properly or is damaged: what can be read ends after {end} of"
                f" {self._size} bytes, and what is whole is watched; 'mcap recover"
                f" {self.path.name}' repairs the file"
            )
            if not self._chunks and not self._loose[0]:
                raise FileError(
                    f"{self.path}: the file was not closed properly, and no whole chunk is in its"
                    f" {self._size} bytes; 'mcap recover' may find single messages"
                )

    def _scan_chunk(self, chunk: _Chunk) -> None:
        file, start, end = self._open_chunk(chunk, check=False)
        self._add_chunk(chunk)
        for record in _records(file, start, end):
            if record.code in (SCHEMA, CHANNEL):
                self._define(file, record)

    def _define(self, file: BinaryIO, record: _Record) -> None:
        """Take in a schema or a channel; one that cannot be read is as good as absent."""
        data = _read(file, record)
        try:
            (key,) = struct.unpack_from("<H", data)
            if record.code == SCHEMA:
                self._types[key] = _text(data, 2)[0]
                return
            (schema,) = struct.unpack_from("<H", data, 2)
            name, offset = _text(data, 4)
            self._channels[key] = (schema, name, _text(data, offset)[0])
        except (struct.error, ValueError):
            self._remark(f"a definition at byte {record.start} cannot be read")


def _records(file: BinaryIO, start: int, end: int) -> Iterator[_Record]:
    """Yield the whole records between two offsets; the caller may seek meanwhile."""
    while start + 9 <= end:
        file.seek(start)
        code, size = struct.unpack("<BQ", file.read(9))
        start += 9
        if code == 0 or start + size > end:
            return
        yield _Record(code, start, size)
        start += size


def _read(file: BinaryIO, record: _Record) -> bytes:
    file.seek(record.start)
    return file.read(record.size)


def _text(data: bytes, offset: int) -> tuple[str, int]:
    """Return a string at `offset`, and where it ends."""
    (size,) = struct.unpack_from("<I", data, offset)
    begin, end = offset + 4, offset + 4 + size
    if end > len(data):
        raise ValueError(f"a string of {size} bytes in {len(data)}")
    return data[begin:end].decode("utf-8", "replace"), end


def _chunk(file: BinaryIO, record: _Record) -> _Chunk:
    file.seek(record.start)
    first_ns, last_ns, unpacked_size, crc, length = struct.unpack("<QQQII", file.read(32))
    compression = file.read(min(length, record.size)).decode("utf-8", "replace")
    (size,) = struct.unpack("<Q", file.read(8))
    start = record.start + 40 + length
    size = min(size, max(0, record.start + record.size - start))
    return _Chunk(first_ns, last_ns, start, size, unpacked_size, crc, compression)


def _message(
    file: BinaryIO, record: _Record, wanted: frozenset[int], heads_only: bool
) -> Row | None:
    file.seek(record.start)
    head = file.read(min(record.size, 22 + HEAD_BYTES))
    channel, _, recorded_ns = struct.unpack_from("<HIQ", head)
    if channel not in wanted:
        return None
    data = head[22:]
    if not heads_only or data.startswith(ZSTD_MAGIC):
        data += file.read(record.size - len(head))
    return channel, recorded_ns, data
