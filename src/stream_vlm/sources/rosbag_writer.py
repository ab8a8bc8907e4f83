"""Write frames and poses as a rosbag2 recording."""

from __future__ import annotations

import re
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import cv2
import numpy as np
from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, get_typestore

from stream_vlm.sources.source import SourceError
from stream_vlm.types import NANOSECONDS, Frame, Pose

Transport = Literal["raw", "compressed"]


class BagWriter:
    """Records frames and poses into a new bag; use it as a context manager.

    Args:
        path: folder of the bag; must not exist yet.
        storage: mcap or sqlite3.
        transport: raw images, or JPEG-compressed ones.

    Raises:
        SourceError: the folder already exists, or an SQLite file cannot have this path.
    """

    def __init__(
        self, path: Path, storage: Literal["mcap", "sqlite3"] = "mcap", transport: Transport = "raw"
    ) -> None:
        # rosbags takes the path for a URI, in which these characters mean something else.
        if storage == "sqlite3" and re.search("[#?%]", str(path)):
            raise SourceError(
                f"{path}: an SQLite recording cannot be written to a path with # ? or %"
            )
        self._transport = transport
        self._typestore = get_typestore(Stores.ROS2_JAZZY)
        self._types = self._typestore.types
        self._connections: dict[str, Connection] = {}
        try:
            self._writer = Writer(path, version=9, storage_plugin=StoragePlugin[storage.upper()])
        except WriterError as error:
            raise SourceError(f"{path}: cannot be written: {error}") from error

    def __enter__(self) -> BagWriter:
        self._writer.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def frame(self, frame: Frame, topic: str) -> None:
        """Record a frame; its stamp is also the time of recording."""
        header = self.header(frame.stamp_ns, frame.frame_id)
        if self._transport == "compressed":
            _, data = cv2.imencode(".jpg", cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
            message = self.make(
                "sensor_msgs/msg/CompressedImage",
                header=header,
                format="jpeg",
                data=data.reshape(-1),
            )
        else:
            height, width, _ = frame.image.shape
            message = self.make(
                "sensor_msgs/msg/Image",
                header=header,
                height=height,
                width=width,
                encoding="rgb8",
                is_bigendian=0,
                step=width * 3,
                data=frame.image.reshape(-1),
            )
        self.message(topic, frame.stamp_ns, message)

    def pose(self, pose: Pose, stamp_ns: int, topic: str = "/odom") -> None:
        """Record a pose as nav_msgs/Odometry; velocities are zero."""
        point = self.make("geometry_msgs/msg/Point", x=pose.x, y=pose.y, z=pose.z)
        turn = self.make("geometry_msgs/msg/Quaternion", x=pose.qx, y=pose.qy, z=pose.qz, w=pose.qw)
        zero = self.make("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.0)
        unknown = np.zeros(36)
        message = self.make(
            "nav_msgs/msg/Odometry",
            header=self.header(stamp_ns, pose.frame_id),
            child_frame_id="base_link",
            pose=self.make(
                "geometry_msgs/msg/PoseWithCovariance",
                pose=self.make("geometry_msgs/msg/Pose", position=point, orientation=turn),
                covariance=unknown,
            ),
            twist=self.make(
                "geometry_msgs/msg/TwistWithCovariance",
                twist=self.make("geometry_msgs/msg/Twist", linear=zero, angular=zero),
                covariance=unknown,
            ),
        )
        self.message(topic, stamp_ns, message)

    def message(self, topic: str, recorded_ns: int, message: Any) -> None:
        """Record any message object of the Jazzy type store at `recorded_ns` (ns)."""
        kind = message.__msgtype__
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=self._typestore
            )
        self._writer.write(
            self._connections[topic], recorded_ns, self._typestore.serialize_cdr(message, kind)
        )

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        """Make a std_msgs/Header."""
        seconds, nanoseconds = divmod(stamp_ns, NANOSECONDS)
        stamp = self.make("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
        return self.make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)

    def make(self, kind: str, **fields: Any) -> Any:
        """Make a message of type `kind`, for example `std_msgs/msg/String`; give every field."""
        return self._types[kind](**fields)
