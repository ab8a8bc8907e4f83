"""The program `camera_source`: publishes any source in real time, as a camera driver would."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence

import rclpy
from nav_msgs.msg import Odometry
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.utilities import remove_ros_args
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from stream_vlm.redact import hide_arguments
from stream_vlm.sources import Source, SourceError, open_source
from stream_vlm.sources.open_source import POSSIBLE
from stream_vlm.sources.source import Reconnect, left_out_by
from stream_vlm.types import NANOSECONDS, Frame, StreamError
from stream_vlm_ros.camera_source.messages import (
    Transport,
    compressed_message,
    image_message,
    odometry_message,
)
from stream_vlm_ros.common.qos_overrides import (
    OVERRIDABLE,
    PREFIX,
    PUBLISHER,
    override_faults,
    own_profile,
    values_at_start,
)
from stream_vlm_ros.common.stamps import stamp_message

LATE_NS = NANOSECONDS // 4
"""A frame that is later than this is skipped, so the frames after it are not late too."""
SETTLE_S = 0.3
"""Wait after all subscriptions are found, because they may not have found this publisher yet."""
CLOCK_PERIOD_NS = NANOSECONDS // 40
LAST_CLOCKS = 8
"""The last /clock message is sent this often, because best-effort transport may lose it."""
FIRST_CLOCK_NS = NANOSECONDS
"""/clock never starts before this time, because a ROS time of 0 means that there is no time yet."""


class CameraSource(Node):
    """Publishes frames when they are due, and counts them.

    Args:
        topics: image topic by camera name.
        transport: raw or compressed.
        odom_topic: topic for the poses of the frames; empty publishes no poses.
        simulated_clock: True keeps the recorded stamps and publishes them on /clock. False stamps
            with the time of this computer.

    Raises:
        SourceError: an override of QoS has no effect or cannot be used.
    """

    def __init__(
        self, topics: dict[str, str], transport: Transport, odom_topic: str, simulated_clock: bool
    ) -> None:
        super().__init__("camera_source")
        self._refuse_useless_overrides(
            [
                *topics.values(),
                *([odom_topic] if odom_topic else []),
                *(["/clock"] if simulated_clock else []),
            ]
        )
        self._to_message: Callable[[Frame, int], Image | CompressedImage] = (
            image_message if transport == "raw" else compressed_message
        )
        kind = Image if transport == "raw" else CompressedImage
        self._images: dict[str, Publisher] = {
            camera: self._publisher(kind, topic, qos_profile_sensor_data)
            for camera, topic in topics.items()
        }
        self._odometry = (
            self._publisher(Odometry, odom_topic, qos_profile_sensor_data) if odom_topic else None
        )
        self._clock_publisher = (
            self._publisher(Clock, "/clock", QoSProfile(depth=10)) if simulated_clock else None
        )
        self._clock = Clock()
        self.published = 0
        self.skipped = 0
        self.first_stamp_ns: int | None = None
        self.last_stamp_ns = 0

    def _publisher(self, kind: type, topic: str, qos: QoSProfile) -> Publisher:
        return self.create_publisher(
            kind, topic, own_profile(qos), qos_overriding_options=OVERRIDABLE
        )

    def _refuse_useless_overrides(self, topics: Sequence[str]) -> None:
        entities = {self.resolve_topic_name(topic): PUBLISHER for topic in topics}
        faults = override_faults(values_at_start(self), entities)
        if faults:
            raise SourceError("; ".join(faults))
        for name in sorted(values_at_start(self)):
            if not name.startswith(PREFIX) and not self.has_parameter(name):
                self.get_logger().warning(
                    f"{name}: no such parameter, so its value has no effect; camera_source takes"
                    " its options on the command line (--help)"
                )

    def topics(self) -> dict[str, str]:
        """Return the full image topic by camera, after namespace and remappings."""
        return {camera: publisher.topic_name for camera, publisher in self._images.items()}

    def wait_for_listeners(self, count: int, timeout_s: float) -> None:
        """Wait until every image topic has `count` subscriptions.

        Raises:
            SourceError: a topic has fewer after `timeout_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        while rclpy.ok():
            missing = [
                name for name in self._images if self._images[name].get_subscription_count() < count
            ]
            if not missing:
                time.sleep(SETTLE_S)
                return
            if time.monotonic() > deadline:
                topic = self._images[missing[0]].topic_name
                found = self._images[missing[0]].get_subscription_count()
                raise SourceError(
                    f"{topic}: {found} of {count} listeners after {timeout_s:.0f} s; check that the"
                    " node is active, and that it uses this topic and the same ROS_DOMAIN_ID"
                )
            time.sleep(0.02)

    def play(self, source: Source, rate: float) -> bool:
        """Publish `source` once, `rate` times as fast as it was recorded.

        Returns:
            False if it was interrupted.

        Raises:
            SourceError: the source can no longer be read.
        """
        begun_ns = time.monotonic_ns()
        origin_ns: int | None = None
        base_ns = 0
        for frame in source.frames():
            if origin_ns is None:
                origin_ns = frame.stamp_ns
                begun_ns = time.monotonic_ns()
                base_ns = self._base_ns(origin_ns)
            due_ns = begun_ns + round((frame.stamp_ns - origin_ns) / rate)
            stamp_ns = base_ns + (
                frame.stamp_ns - origin_ns if self._clock_publisher else due_ns - begun_ns
            )
            if source.live:
                stamp_ns = frame.stamp_ns
            elif not self._wait_until(due_ns, stamp_ns, rate):
                return False
            elif time.monotonic_ns() - due_ns > LATE_NS:
                self.skipped += 1
                continue
            if not rclpy.ok():
                return False
            self._publish(frame, stamp_ns)
        return True

    def _base_ns(self, origin_ns: int) -> int:
        if self._clock_publisher is None:
            return time.time_ns()
        return max(origin_ns, FIRST_CLOCK_NS)

    def _wait_until(self, due_ns: int, stamp_ns: int, rate: float) -> bool:
        while rclpy.ok():
            left_ns = due_ns - time.monotonic_ns()
            if self._clock_publisher is not None:
                now_ns = stamp_ns - round(max(0, left_ns) * rate)
                self._clock = Clock(clock=stamp_message(max(0, now_ns)))
                self._clock_publisher.publish(self._clock)
            if left_ns <= 0:
                return True
            time.sleep(min(left_ns, CLOCK_PERIOD_NS) / NANOSECONDS)
        return False

    def _publish(self, frame: Frame, stamp_ns: int) -> None:
        if self._odometry is not None and frame.pose is not None:
            self._odometry.publish(odometry_message(frame.pose, stamp_ns))
        self._images[frame.camera].publish(self._to_message(frame, stamp_ns))
        if self.first_stamp_ns is None:
            self.first_stamp_ns = stamp_ns
            self._print({"first_stamp_ns": stamp_ns, "topics": self.topics()})
        self.last_stamp_ns = stamp_ns
        self.published += 1

    def report_end(self, left_out: dict[str, dict[str, int]]) -> None:
        """Send the last time on /clock to all subscribers, then print one line of JSON.

        Args:
            left_out: what the source could not use, by camera and reason.
        """
        if self._clock_publisher is not None:
            for _ in range(LAST_CLOCKS):
                self._clock_publisher.publish(self._clock)
                time.sleep(CLOCK_PERIOD_NS / NANOSECONDS)
            self._clock_publisher.wait_for_all_acked(Duration(seconds=1))
        self._print(
            {
                "last_stamp_ns": self.last_stamp_ns,
                "published": self.published,
                "skipped": self.skipped,
                "left_out": left_out,
            }
        )

    def _print(self, facts: dict[str, object]) -> None:
        print(json.dumps(facts), flush=True)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = argparse.ArgumentParser(
        prog="camera_source",
        description=(
            "Publish a source as camera topics in real time. Prints one line of JSON after the"
            " first frame, and one at the end."
        ),
    )
    options.add_argument("source", help=POSSIBLE)
    options.add_argument(
        "--topic",
        default="",
        help=(
            "image topic; the default is image_raw, or CAMERA/image_raw for each camera if there"
            " are several"
        ),
    )
    options.add_argument(
        "--transport",
        choices=("raw", "compressed"),
        default="raw",
        help="compressed publishes on TOPIC/compressed",
    )
    options.add_argument(
        "--odom-topic",
        default="",
        help="publish the poses of the frames on this topic, as nav_msgs/Odometry",
    )
    options.add_argument(
        "--bag-topic",
        action="append",
        default=[],
        help="image topic of a recording to play; the default is all of them",
    )
    options.add_argument(
        "--bag-odom",
        default="",
        help="odometry topic of a recording that gives the frames their poses",
    )
    options.add_argument(
        "--seconds",
        type=float,
        default=None,
        help="play this many seconds of the source; the default is all of it",
    )
    options.add_argument(
        "--rate", type=float, default=1.0, help="play this many times as fast as recorded"
    )
    options.add_argument("--loop", action="store_true", help="start again at the end")
    options.add_argument(
        "--clock", action="store_true", help="keep the recorded stamps and publish them on /clock"
    )
    options.add_argument(
        "--listeners",
        type=int,
        default=0,
        help="wait for this many subscriptions before the first frame",
    )
    options.add_argument("--wait", type=float, default=60.0, help="seconds to wait for listeners")
    options.add_argument(
        "--stream-timeout",
        type=float,
        default=10.0,
        help="seconds in which a stream must open and each of its pictures must come",
    )
    options.add_argument(
        "--reconnect-wait",
        type=float,
        default=30.0,
        help="longest time in seconds between two attempts to open a stream that broke off",
    )
    return options


def image_topics(source: Source, topic: str, transport: Transport) -> dict[str, str]:
    """Return the image topic of each camera of `source`.

    Args:
        source: the source to publish.
        topic: the topic of a source with one camera; empty takes the default.
        transport: raw or compressed; compressed topics end in /compressed.

    Raises:
        SourceError: `topic` is given, but the source has several cameras.
    """
    if topic and len(source.cameras) > 1:
        raise SourceError(
            f"--topic {topic}: {source.name} has the cameras {', '.join(source.cameras)}; choose"
            " one with --bag-topic"
        )
    suffix = "/compressed" if transport == "compressed" else ""
    if len(source.cameras) == 1:
        return {source.cameras[0]: (topic or "image_raw") + suffix}
    return {camera: f"{camera}/image_raw{suffix}" for camera in source.cameras}


def _run(arguments: argparse.Namespace) -> None:
    if not arguments.rate > 0:
        raise SourceError(f"--rate {arguments.rate}: must be above 0")

    longest_s = arguments.reconnect_wait
    reconnect = Reconnect(arguments.stream_timeout, min(0.5, longest_s), longest_s)

    def open_from_start() -> Source:
        return open_source(
            arguments.source,
            seconds=arguments.seconds,
            topics=arguments.bag_topic,
            odom_topic=arguments.bag_odom,
            reconnect=reconnect,
        )

    source = open_from_start()
    node = CameraSource(
        image_topics(source, arguments.topic, arguments.transport),
        arguments.transport,
        arguments.odom_topic,
        arguments.clock,
    )
    try:
        if arguments.listeners:
            node.wait_for_listeners(arguments.listeners, arguments.wait)
        while node.play(source, arguments.rate) and arguments.loop:
            source = open_from_start()
        node.report_end(left_out_by(source))
    finally:
        node.destroy_node()


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish until the source ends or the process is interrupted.

    Returns:
        The exit code: 0 at the end, 1 after an error message, 130 after an interruption.
    """
    given = sys.argv if arguments is None else ["camera_source", *arguments]
    options = parser().parse_args(remove_ros_args(given)[1:])
    hide_arguments([options.source])
    rclpy.init(args=given)
    try:
        _run(options)
    except StreamError as error:
        print(f"camera_source: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 130
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
