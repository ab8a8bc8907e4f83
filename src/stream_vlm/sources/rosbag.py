"""Read frames from a rosbag2 recording (mcap or sqlite3) without ROS."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Connection
from rosbags.typesys import Stores, get_typestore

from stream_vlm.sources.image_decoding import (
    CameraEncodingError,
    decode_picture,
    decode_with_rosbags,
)
from stream_vlm.sources.pose_buffer import REACH_S, PoseBuffer, PoseError, odometry_pose
from stream_vlm.sources.source import SourceError
from stream_vlm.types import NANOSECONDS, Frame, Pose

LOG = logging.getLogger(__name__)

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
ODOMETRY_TYPE = "nav_msgs/msg/Odometry"
LATE_S = 10.0
"""A pose may be recorded so much later than a frame of the same stamp, seconds."""


def camera_name(topic: str) -> str:
    """Return a camera name made from its topic.

    `/front/image_raw/compressed` gives `front`, `/robot1/left/image` gives `robot1_left`.
    """
    parts = [part for part in topic.split("/") if part]
    kept = [
        part
        for part in parts
        if part
        not in (
            "image",
            "image_raw",
            "image_rect",
            "image_color",
            "image_rect_color",
            "compressed",
        )
    ]
    name = re.sub(r"\W", "_", "_".join(kept or parts[:1]))
    return name if re.match(r"[A-Za-z]", name) else f"camera_{name}".rstrip("_")


class BagSource:
    """The image topics of a rosbag2 recording; header stamps and frame ids are kept.

    A message without a header stamp gets the time at which it was recorded. A message that cannot
    be decoded is skipped and counted in `unreadable`; the first one of each camera is logged.

    Args:
        path: the bag's folder, or its .mcap or .db3 file.
        topics: image topics to read. Empty reads every camera except depth cameras; where a camera
            has raw and compressed topics, the raw one is read.
        odom_topic: nav_msgs/Odometry topic that gives each frame its pose (see
            `PoseBuffer`); empty gives no poses.
        pose_max_age_s: a pose farther than this from the frame's stamp is not used, seconds.
        seconds: stop after this much stream; None reads to the end.

    Raises:
        SourceError: missing, unreadable or empty bag, or a topic that is not in it.
    """

    live = False

    def __init__(
        self,
        path: Path,
        topics: Sequence[str] = (),
        odom_topic: str = "",
        pose_max_age_s: float = 0.5,
        seconds: float | None = None,
    ) -> None:
        self.path = path
        self.name = path.stem if path.is_file() else path.resolve().name
        self.unreadable: dict[str, int] = {}
        self._seconds = seconds
        self._reader = _open(path)
        self.topics = self._choose(topics)
        self.cameras = tuple(sorted(self.topics))
        span_s = self._reader.duration / NANOSECONDS
        self.duration_s: float | None = span_s if seconds is None else min(span_s, seconds)
        self._poses = self._open_poses(odom_topic, pose_max_age_s) if odom_topic else None

    def frames(self) -> Iterator[Frame]:
        """Yield frames in the order in which they were recorded, uint8 RGB (H, W, 3).

        Raises:
            SourceError: the bag is truncated, or none of its images can be decoded.
        """
        cameras = {topic: camera for camera, topic in self.topics.items()}
        first_ns: int | None = None
        yielded, reason = 0, "its image topics are empty"
        for connection, recorded_ns, message in _messages(self.path, self._reader, list(cameras)):
            camera = cameras[connection.topic]
            stamp_ns = _stamp_ns(message, recorded_ns)
            first_ns = stamp_ns if first_ns is None else first_ns
            if self._seconds is not None and stamp_ns - first_ns >= self._seconds * NANOSECONDS:
                break
            try:
                image = decode_picture(message, camera, decode_with_rosbags)
            except CameraEncodingError as error:
                self.unreadable[camera] = self.unreadable.get(camera, 0) + 1
                reason = str(error)
                if self.unreadable[camera] == 1:
                    LOG.warning("%s: frame skipped: %s", self.path, error)
                continue
            yielded += 1
            pose = self._poses.at(stamp_ns, recorded_ns) if self._poses is not None else None
            yield Frame(camera, stamp_ns, message.header.frame_id, image, pose)
        self._reader.close()
        if self._poses is not None:
            self._poses.close()
        if not yielded:
            raise SourceError(f"{self.path}: no frame can be decoded: {reason}")

    def _choose(self, wanted: Sequence[str]) -> dict[str, str]:
        """Return the topic of each camera, by camera name."""
        types = {connection.topic: connection.msgtype for connection in self._reader.connections}
        images = sorted(topic for topic in types if types[topic] in IMAGE_TYPES)
        images.sort(key=lambda topic: IMAGE_TYPES.index(types[topic]))
        for topic in wanted:
            if topic not in images:
                kind = (
                    f"is a {types[topic]}, not an image topic"
                    if topic in types
                    else "is not in the bag"
                )
                raise SourceError(
                    f"{self.path}: {topic} {kind}; its image topics are {images or 'none'}"
                )
        chosen: dict[str, str] = {}
        for topic in wanted or [topic for topic in images if "depth" not in topic.lower()]:
            name = camera_name(topic)
            if not wanted and name in chosen:
                continue
            while name in chosen:
                name += "_again"
            chosen[name] = topic
        if not chosen:
            raise SourceError(
                f"{self.path}: no usable image topic among {sorted(types) or 'no topics'}"
            )
        return chosen

    def _open_poses(self, topic: str, max_age_s: float) -> _RecordedPoses:
        types = {connection.topic: connection.msgtype for connection in self._reader.connections}
        if types.get(topic) != ODOMETRY_TYPE:
            odometries = sorted(name for name, kind in types.items() if kind == ODOMETRY_TYPE)
            raise SourceError(
                f"{self.path}: {topic} is not a {ODOMETRY_TYPE} topic; the bag's are"
                f" {odometries or 'none'}"
            )
        return _RecordedPoses(self.path, topic, max_age_s)


class _RecordedPoses:
    """The poses of a recording, read a little ahead of its frames.

    Only those near the frame are in memory.
    """

    def __init__(self, path: Path, topic: str, max_age_s: float) -> None:
        self._path = path
        self._max_age_s = max_age_s
        self._ahead_s = max_age_s + LATE_S
        self._buffer = PoseBuffer(REACH_S + self._ahead_s)
        # A separate reader: two iterators over one reader may change each other's file position.
        self._reader = _open(path)
        self._messages = _messages(path, self._reader, [topic])
        self._next = next(self._messages, None)
        self._has_warned = False

    def at(self, stamp_ns: int, recorded_ns: int) -> Pose | None:
        """Return the pose at `stamp_ns` for a frame recorded at `recorded_ns` (both ns)."""
        until_ns = recorded_ns + round(self._ahead_s * NANOSECONDS)
        while self._next is not None and self._next[1] <= until_ns:
            _, pose_recorded_ns, message = self._next
            try:
                self._buffer.put(_stamp_ns(message, pose_recorded_ns), odometry_pose(message))
            except PoseError as error:
                if not self._has_warned:
                    LOG.warning("%s: pose skipped: %s", self._path, error)
                self._has_warned = True
            self._next = next(self._messages, None)
        return self._buffer.at(stamp_ns, self._max_age_s)

    def close(self) -> None:
        self._reader.close()


def _stamp_ns(message: Any, recorded_ns: int) -> int:
    """Return the header stamp (ns); if it is zero, the time of recording."""
    stamp = message.header.stamp
    return int(stamp.sec * NANOSECONDS + stamp.nanosec) or recorded_ns


def _messages(
    path: Path, reader: AnyReader, topics: list[str]
) -> Iterator[tuple[Connection, int, Any]]:
    connections = [connection for connection in reader.connections if connection.topic in topics]
    try:
        for connection, recorded_ns, data in reader.messages(connections=connections):
            yield connection, recorded_ns, reader.deserialize(data, connection.msgtype)
    except (AnyReaderError, ValueError, OSError) as error:
        raise SourceError(f"{path}: the recording is truncated: {error}") from error


def _open(path: Path) -> AnyReader:
    if not path.exists():
        raise SourceError(f"{path}: no such bag")
    if path.is_dir() and not (path / "metadata.yaml").exists():
        raise SourceError(
            f"{path}: a folder without metadata.yaml is not a bag; if the recorder was killed,"
            " repair the folder with 'ros2 bag reindex'"
        )
    reader: AnyReader | None = None
    try:
        # Recordings of older distributions contain no message definitions.
        reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY))
        reader.open()
        return reader
    except Exception as error:
        # According to where the file is damaged, the library raises its own error, or one of
        # sqlite3, struct or assert.
        raise SourceError(
            f"{path}: not a rosbag2 recording that can be read:"
            f" {str(error) or type(error).__name__}"
        ) from error
