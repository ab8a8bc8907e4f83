"""Recordings that tests write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from stream_vlm.sources.rosbag_writer import BagWriter, Transport
from stream_vlm.types import Frame

Storage = Literal["mcap", "sqlite3"]


def write_bag(
    path: Path,
    frames: Iterable[Frame],
    topics: Mapping[str, str],
    storage: Storage = "mcap",
    transport: Transport = "raw",
) -> None:
    """Write `frames` as a bag at `path`; frames with a pose also write to `/odom`.

    Args:
        path: folder of the bag; must not exist yet.
        frames: in the order of recording.
        topics: the topic of each camera, by camera name.
        storage: mcap or sqlite3.
        transport: raw images, or JPEG-compressed ones.

    Raises:
        SourceError: the folder already exists.
    """
    with BagWriter(path, storage, transport) as writer:
        for frame in frames:
            writer.frame(frame, topics[frame.camera])
            if frame.pose is not None:
                writer.pose(frame.pose, frame.stamp_ns)
