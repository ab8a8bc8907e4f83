"""Writes MCAP files record by record, so that tests can leave out or damage any part."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rosbags.rosbag2.reader import zstd  # type: ignore[attr-defined]
from rosbags.typesys import Stores, get_typestore

from stream_vlm.types import NANOSECONDS

MAGIC = b"\x89MCAP0\r\n"
STORE = get_typestore(Stores.ROS2_JAZZY)


@dataclass
class Channel:
    """A channel and its messages: times of recording (ns) and bytes."""

    topic: str
    messages: Sequence[tuple[int, bytes]]
    type: str = "sensor_msgs/msg/Image"
    schema_encoding: str = "ros2msg"
    definition: bytes = b""
    encoding: str = "cdr"
    has_schema: bool = True


@dataclass
class McapFile:
    """Builds the bytes of a file with `channels`.

    Attributes:
        channels: what is in it.
        profile: of the header.
        compression: of the chunks; empty or zstd.
        per_chunk: messages in a chunk; 0 writes them outside of chunks.
        has_summary: False leaves out the index at the end.
        has_times: False leaves the times of each chunk at 0.
        has_end: False leaves out everything after the messages, as a power cut does.
    """

    channels: Sequence[Channel]
    profile: str = "ros2"
    compression: str = "zstd"
    per_chunk: int = 4
    has_summary: bool = True
    has_end: bool = True
    has_times: bool = True
    chunk_starts: list[int] = field(default_factory=list)

    def write(self, path: Path) -> Path:
        """Write the file to `path` and return it."""
        path.write_bytes(self.content())
        return path

    def content(self) -> bytes:
        """Return the bytes of the file."""
        self.chunk_starts.clear()
        data = MAGIC + record(0x01, text(self.profile) + text("test"))
        definitions = b"".join(self._definitions())
        messages = sorted(
            (recorded_ns, number, message)
            for number, channel in enumerate(self.channels, 1)
            for recorded_ns, message in channel.messages
        )
        indexes = b""
        if not self.per_chunk:
            data += definitions + b"".join(_message(*row) for row in messages)
        for start in range(0, len(messages) if self.per_chunk else 0, self.per_chunk or 1):
            rows = messages[start : start + self.per_chunk]
            raw = (b"" if start else definitions) + b"".join(_message(*row) for row in rows)
            packed = zstd.compress(raw) if self.compression else raw
            times = (rows[0][0], rows[-1][0]) if self.has_times else (0, 0)
            span = struct.pack("<QQ", *times)
            head = span + struct.pack("<QI", len(raw), 0) + text(self.compression)
            chunk = record(0x06, head + struct.pack("<Q", len(packed)) + packed)
            place = struct.pack("<QQ", len(data), len(chunk))
            sizes = struct.pack("<QQ", len(packed), len(raw))
            index = span + place + struct.pack("<IQ", 0, 0) + text(self.compression) + sizes
            indexes += record(0x08, index)
            self.chunk_starts.append(len(data))
            data += chunk
        if not self.has_end:
            return data
        data += record(0x0F, struct.pack("<I", 0))
        summary = len(data) if self.has_summary else 0
        if self.has_summary:
            counts = b"".join(
                struct.pack("<HQ", number, len(channel.messages))
                for number, channel in enumerate(self.channels, 1)
            )
            numbers = (len(messages), 0, len(self.channels), 0, 0, len(self.chunk_starts), 0, 0)
            statistics = struct.pack("<QHIIIIQQ", *numbers) + struct.pack("<I", len(counts))
            data += definitions + indexes + record(0x0B, statistics + counts)
        return data + record(0x02, struct.pack("<QQI", summary, 0, 0)) + MAGIC

    def _definitions(self) -> list[bytes]:
        parts = []
        for number, channel in enumerate(self.channels, 1):
            if channel.has_schema:
                schema = struct.pack("<H", number) + text(channel.type)
                schema += text(channel.schema_encoding)
                schema += struct.pack("<I", len(channel.definition)) + channel.definition
                parts.append(record(0x03, schema))
            entry = struct.pack("<HH", number, number) + text(channel.topic)
            parts.append(record(0x04, entry + text(channel.encoding) + struct.pack("<I", 0)))
        return parts


def record(code: int, content: bytes) -> bytes:
    """One record of an MCAP file."""
    return struct.pack("<BQ", code, len(content)) + content


def text(value: str) -> bytes:
    """A string of an MCAP file."""
    return struct.pack("<I", len(value.encode())) + value.encode()


def _message(recorded_ns: int, channel: int, data: bytes) -> bytes:
    return record(0x05, struct.pack("<HIQQ", channel, 0, recorded_ns, recorded_ns) + data)


def image_bytes(
    stamp_ns: int, frame_id: str = "cam", value: int = 100, encoding: str = ""
) -> bytes:
    """A sensor_msgs/Image of 8 x 6 pixels, serialized."""
    kinds = STORE.types
    seconds, nanoseconds = divmod(stamp_ns, NANOSECONDS)
    header = kinds["std_msgs/msg/Header"](
        stamp=kinds["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds),
        frame_id=frame_id,
    )
    image = kinds["sensor_msgs/msg/Image"](
        header=header,
        height=6,
        width=8,
        encoding=encoding or "rgb8",
        is_bigendian=0,
        step=24,
        data=np.full(144, value, np.uint8),
    )
    return bytes(STORE.serialize_cdr(image, "sensor_msgs/msg/Image"))


def film(
    topic: str = "/cam/image_raw",
    stamps_s: Sequence[float] = tuple(np.arange(0.0, 10.0, 0.5).tolist()),
    recorded_s: Sequence[float] | None = None,
    base_s: float = 1_700_000_000.0,
    **options: object,
) -> Channel:
    """A channel of images at `stamps_s`, recorded every half second from `base_s` on.

    Args:
        topic: its topic.
        stamps_s: header stamps, seconds.
        recorded_s: times of recording, seconds; None makes them.
        base_s: the first time of recording that is made.
        options: for `Channel`.
    """
    times = recorded_s or [base_s + index / 2 for index in range(len(stamps_s))]
    return Channel(
        topic,
        [
            (round(time * NANOSECONDS), image_bytes(round(stamp * NANOSECONDS)))
            for time, stamp in zip(times, stamps_s, strict=True)
        ],
        **options,  # type: ignore[arg-type]
    )
