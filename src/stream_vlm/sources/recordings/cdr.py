"""Decode the messages of a recording: images and odometry, in the CDR format of ROS 2."""

from __future__ import annotations

import functools
import struct
from typing import Any

from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from stream_vlm.types import NANOSECONDS, StreamError

PLAIN_CDR = (0x00, 0x01)
"""Second byte of a message: CDR in big or little endian."""
TEXT_FIELDS = ("format", "encoding", "child_frame_id")


class NoMessage(StreamError):
    """Recorded bytes that are no message of their type; the message says why."""


@functools.cache
def _store() -> Typestore:
    # The types that are read here are the same in all distributions of ROS 2. So the definitions
    # in a recording are not needed, and one that is damaged or missing does no harm.
    return get_typestore(Stores.ROS2_JAZZY)


def stamp_of(data: bytes) -> int | None:
    """Return the header stamp (ns) of a message that begins with a header.

    None where it is too short, or not CDR.
    """
    if len(data) < 12 or data[0] != 0 or data[1] not in PLAIN_CDR:
        return None
    seconds, nanoseconds = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return int(seconds) * NANOSECONDS + int(nanoseconds)


def decode_message(data: bytes, kind: str) -> Any:
    """Return the message of type `kind`, for example nav_msgs/msg/Odometry.

    Texts that are no UTF-8 get replacement characters, as in a ROS node.

    Raises:
        NoMessage: the bytes are no such message.
    """
    if stamp_of(data) is None:
        raise NoMessage(f"{len(data)} bytes that begin with {data[:4].hex() or 'nothing'}")
    replaced: dict[str, str] = {}
    while True:
        try:
            message = _store().deserialize_cdr(data, kind)
            return _with_texts(message, replaced) if replaced else message
        except Exception as error:
            # Damaged bytes raise index, assertion or memory errors, or the library's own.
            wrong = error if isinstance(error, UnicodeDecodeError) else error.__cause__
            if not isinstance(wrong, UnicodeDecodeError):
                reason = str(error) or type(error).__name__
                raise NoMessage(f"{len(data)} bytes could not be decoded ({reason})") from error
            data = _as_ascii(data, bytes(wrong.object), replaced)


def _as_ascii(data: bytes, text: bytes, replaced: dict[str, str]) -> bytes:
    """Return `data` with the bytes of `text` that are not ASCII exchanged, at the same length."""
    blank = bytes(byte if byte < 0x80 else 0x1A for byte in text)
    replaced[blank.decode()] = text.decode("utf-8", "replace")
    size = struct.pack("<I" if data[1] & 1 else ">I", len(text) + 1)
    start = data.find(size + text, 12)
    if start < 0:
        raise NoMessage(f"{len(data)} bytes with a text that is no UTF-8")
    start += len(size)
    return data[:start] + blank + data[start + len(text) :]


def _with_texts(message: Any, replaced: dict[str, str]) -> Any:
    owners = [(message.header, "frame_id")]
    owners += [(message, name) for name in TEXT_FIELDS if hasattr(message, name)]
    for owner, name in owners:
        text = getattr(owner, name)
        # The classes of the library are frozen.
        object.__setattr__(owner, name, replaced.get(text, text))
    return message
