"""What a video file says without decoding: the stamps of its packets, its key frames, its size.

Frame counts and average rates of containers are estimates, so everything is taken from packets.
"""

from __future__ import annotations

import statistics
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import cv2

MP4_BOXES = (b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"pnot")
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
SLACK_BYTES = 16
"""AVI writers count padding bytes differently; so few missing bytes are no cut."""


@dataclass(frozen=True)
class VideoIndex:
    """The packets of a video, in the order in which they are shown.

    Attributes:
        stamps_ns: stamp of each packet since the container's start, ns, sorted.
        keys_ns: those of the key frames.
    """

    stamps_ns: tuple[int, ...]
    keys_ns: tuple[int, ...]

    @property
    def has_advancing_stamps(self) -> bool:
        """Whether no two packets have one stamp."""
        return len(set(self.stamps_ns)) == len(self.stamps_ns)

    @property
    def period_ns(self) -> int | None:
        """The most usual distance of two pictures, ns; None with fewer than two."""
        steps = [
            later - earlier
            for earlier, later in zip(self.stamps_ns, self.stamps_ns[1:], strict=False)
            if later > earlier
        ]
        return round(statistics.median(steps)) if steps else None

    def key_before(self, stamp_ns: int) -> int | None:
        """Stamp of the last key frame that is not after `stamp_ns` (ns), or None."""
        at = bisect_right(self.keys_ns, stamp_ns)
        return self.keys_ns[at - 1] if at else None


def read_index(path: Path) -> VideoIndex | None:
    """Read the packets of the video in `path` once; None if its demuxer gives none.

    Nothing is decoded, but the file is read to its end. The last results are kept while the file
    does not change.
    """
    status = path.stat()
    return _read_index(str(path), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _read_index(path: str, size: int, modified_ns: int) -> VideoIndex | None:
    # With this format OpenCV gives undecoded packets.
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
    stamps: list[int] = []
    keys: list[int] = []
    try:
        while capture.isOpened() and capture.grab():
            stamp_ns = container_ns(capture)
            stamps.append(stamp_ns)
            if capture.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME) > 0:
                keys.append(stamp_ns)
    finally:
        capture.release()
    return VideoIndex(tuple(sorted(stamps)), tuple(sorted(keys))) if stamps else None


def container_ns(capture: cv2.VideoCapture) -> int:
    """Stamp of the newest picture or packet of `capture` since the container's start, ns."""
    return round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)


def missing_bytes(path: Path) -> int | None:
    """How many bytes the container in `path` announces beyond the file's end.

    0 means that the file is whole; None that its kind of container announces no size (MPEG-TS, a
    recording of a live stream in Matroska).
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        if start[4:8] in MP4_BOXES:
            return _missing_of_mp4(file, size)
        if start[:4] == EBML:
            return _missing_of_matroska(file, size)
        if start[:4] == b"RIFF":
            return _missing_of_riff(file, size)
    return None


def lacks_index(path: Path) -> bool:
    """Whether `path` is an MP4 or MOV file without the index that a recorder writes at the end."""
    with path.open("rb") as file:
        if file.read(12)[4:8] not in MP4_BOXES:
            return False
        kinds = [kind for kind, _ in _boxes(file, path.stat().st_size)]
    return b"moov" not in kinds


def _boxes(file: BinaryIO, size: int) -> list[tuple[bytes, int]]:
    """Kind and end of each top-level box of an MP4 file of `size` bytes."""
    boxes: list[tuple[bytes, int]] = []
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length == 0:
            length = size - at
        if length < 8 or not kind.isalnum():
            break
        at += length
        boxes.append((kind, at))
    return boxes


def _missing_of_mp4(file: BinaryIO, size: int) -> int:
    return max(0, *(end - size for _, end in _boxes(file, size)), 0)


def _missing_of_matroska(file: BinaryIO, size: int) -> int | None:
    at = 4
    head_length, at = _ebml_size(file, at)
    if head_length is None:
        return None
    at += head_length
    file.seek(at)
    if file.read(4) != SEGMENT:
        return None
    length, at = _ebml_size(file, at + 4)
    return None if length is None else max(0, at + length - size)


def _ebml_size(file: BinaryIO, at: int) -> tuple[int | None, int]:
    """The size that is written at `at`, None for unknown, and where its element's content is."""
    file.seek(at)
    first = file.read(1)
    if not first or not first[0]:
        return None, at
    width = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(width - 1), "big") & ((1 << 7 * width) - 1)
    return (None if value == (1 << 7 * width) - 1 else value), at + width


def _missing_of_riff(file: BinaryIO, size: int) -> int | None:
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(8)
        if head[:4] != b"RIFF":
            break
        length = int.from_bytes(head[4:8], "little")
        if length in (0, 0xFFFFFFFF):  # the recorder did not come to the end
            return None
        at += 8 + length + length % 2
    return at - size if at - size > SLACK_BYTES else 0
