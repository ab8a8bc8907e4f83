"""What a compressed picture says about itself: its kind, and whether its file is complete."""

from __future__ import annotations

import re

DEPTH_ENCODINGS = ("16uc1", "32fc1", "64fc1")
"""Encodings of depth, in small letters."""

VIDEO_CODECS = {
    "h264": "h264",
    "avc": "h264",
    "hevc": "hevc",
    "h265": "hevc",
    "av1": "av1",
    "vp8": "vp8",
    "vp9": "vp9",
}
"""FFmpeg's name of the codec, by the words in which drivers name it."""

JPEG_START, PNG_START = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
JPEG_END, JPEG_SCAN = 0xD9, 0xDA
_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
"""A mark that ends a scan; inside a scan only stuffed zeros and restart marks follow 0xFF."""


def encoding_of(format_text: str) -> str:
    """Return the encoding before the semicolon of CompressedImage.format, in small letters.

    image_transport writes `ENCODING; CODEC compressed ENCODING` or `ENCODING; compressedDepth`;
    many drivers write the codec alone, such as `jpeg`.
    """
    return format_text.partition(";")[0].strip().lower()


def is_depth(format_text: str) -> bool:
    """Whether CompressedImage.format names a depth picture.

    The encoding before the semicolon decides, whatever follows.
    """
    first = encoding_of(format_text)
    return first in DEPTH_ENCODINGS or first.startswith("compresseddepth")


def video_codec(format_text: str) -> str | None:
    """Return FFmpeg's name of the video codec in CompressedImage.format; None for pictures."""
    words = re.findall(r"[a-z0-9]+", format_text.lower().replace("h.26", "h26"))
    return next((VIDEO_CODECS[word] for word in words if word in VIDEO_CODECS), None)


def missing_end(data: bytes) -> str | None:
    """Return the kind of file whose end is missing in `data`, such as JPEG; None for none.

    Bytes behind the end do not matter: many drivers publish their whole buffer. Decoders fill the
    missing part of a truncated picture with grey and report no error, so the file itself is read.
    """
    if data.startswith(JPEG_START):
        return None if _jpeg_ends(data) else "JPEG"
    if data.startswith(PNG_START):
        return None if _png_ends(data) else "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return None if len(data) >= 8 + int.from_bytes(data[4:8], "little") else "WebP"
    return None


def _jpeg_ends(data: bytes) -> bool:
    """Whether the end mark of the JPEG at the start of `data` is there.

    The segments are walked, because a thumbnail inside one of them has an end mark of its own.
    """
    at = len(JPEG_START)
    while (marker := _NEXT_MARKER.match(data, at)) is not None:
        kind, at = data[marker.end() - 1], marker.end()
        if kind == JPEG_END:
            return True
        length = int.from_bytes(data[at : at + 2], "big")
        at += length
        if length < 2 or at > len(data):
            break
        if kind == JPEG_SCAN:
            scan_end = _NEXT_MARKER.search(data, at)
            if scan_end is None:
                return False
            at = scan_end.start()
    # No JPEG that can be walked: its decoder says what is wrong, unless there is no end at all.
    return at <= len(data) and bytes((0xFF, JPEG_END)) in data[at:]


def _png_ends(data: bytes) -> bool:
    at = len(PNG_START)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at += 12 + length
    return False
