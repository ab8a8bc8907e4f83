"""What every storage file of a recording offers, whatever its format."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple, Protocol

# rosbags brings both; under which name Zstandard is found depends on the version of Python.
from rosbags.rosbag2.reader import YAML, zstd  # type: ignore[attr-defined]

from stream_vlm.sources.source import SourceError

__all__ = ["HEAD_BYTES", "YAML", "FileError", "Message", "StorageFile", "Topic", "unpacked", "zstd"]

HEAD_BYTES = 16
"""So many bytes of a message hold its stamp: see `stamp_of` in `cdr.py`."""
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
"""The first bytes of compressed data. A CDR message never starts with them."""


class FileError(SourceError):
    """A storage file that cannot be read; the message names it and the remedy."""


class Topic(NamedTuple):
    """A topic of one file; one name may stand for several, one for each publisher.

    Attributes:
        key: number of the topic in its file.
        name: for example /front/image_raw.
        type: for example sensor_msgs/msg/Image; empty where the file does not say.
        encoding: how the messages are serialized; cdr is ROS 2's way.
    """

    key: int
    name: str
    type: str
    encoding: str


class Message(NamedTuple):
    """One recorded message, not decoded.

    Attributes:
        topic: name of its topic.
        recorded_ns: when it was recorded, int64 ns.
        data: the serialized message, or its first `HEAD_BYTES`.
    """

    topic: str
    recorded_ns: int
    data: bytes


class StorageFile(Protocol):
    """One file of a recording.

    Attributes:
        topics: every topic of the file.
        start_ns: time of its first message (ns); 0 where there is none.
        end_ns: time of its last message (ns).
        counts: number of messages by topic, where the file states it.
        remarks: what is wrong with the file, in sentences.
    """

    topics: list[Topic]
    start_ns: int
    end_ns: int
    counts: dict[str, int]
    remarks: list[str]

    def messages(self, keys: Collection[int], heads_only: bool) -> Iterator[tuple[int, int, bytes]]:
        """Yield key of the topic, time of recording (ns) and data, in order of recording.

        Args:
            keys: the topics to read.
            heads_only: give the first `HEAD_BYTES` bytes only, which is quick.
        """
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def unpacked(data: bytes) -> bytes:
    """Return a message without the compression that `ros2 bag record` may have added."""
    if not data.startswith(ZSTD_MAGIC):
        return data
    try:
        return bytes(zstd.decompress(data))
    except zstd.ZstdError:
        return b""  # no message: it is counted where it is decoded
