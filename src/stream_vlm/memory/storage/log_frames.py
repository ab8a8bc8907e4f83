"""Find the committed pages in a write-ahead log of SQLite."""

from __future__ import annotations

import mmap
import struct


def committed_frames(log: mmap.mmap | bytes, page_size: int) -> dict[int, int]:
    """Return the offset of the newest committed copy of each page in a WAL, by page number.

    It stops at the first damaged frame.
    """
    if len(log) < 32:
        return {}
    header = bytes(log[:32])
    magic, _, size = struct.unpack(">III", header[:12])
    if magic not in (0x377F0682, 0x377F0683) or size != page_size:
        return {}
    order = ">" if magic & 1 else "<"
    sums = _checksum(header[:24], (0, 0), order)
    if sums != struct.unpack(">II", header[24:32]):
        return {}
    committed: dict[int, int] = {}
    pending: dict[int, int] = {}
    for start in range(32, len(log) - 24 - page_size + 1, 24 + page_size):
        frame = bytes(log[start : start + 24 + page_size])
        number, pages_after_commit = struct.unpack(">II", frame[:8])
        sums = _checksum(frame[24:], _checksum(frame[:8], sums, order), order)
        if frame[8:16] != header[16:24] or sums != struct.unpack(">II", frame[16:24]):
            break
        pending[number] = start + 24
        if pages_after_commit:
            committed.update(pending)
            pending.clear()
    return committed


def _checksum(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
