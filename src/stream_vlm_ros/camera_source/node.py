"""`camera_source`: any source as a camera topic, in real time, so that the node hears it as it
would a driver.
"""

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
from rclpy.qos import qos_profile_sensor_data
from rclpy.utilities import remove_ros_args
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from stream_vlm.sources import Source, SourceError, open_source
from stream_vlm.sources.open_source import POSSIBLE
from stream_vlm.types import NANOSECONDS, Frame, StreamError
from stream_vlm_ros.camera_source.messages import (
    Transport,
    compressed_message,
    image_message,
    odometry_message,
)
from stream_vlm_ros.common.conversions import stamp_message

LATE_NS = NANOSECONDS // 4
"""A picture later than this is passed over, as a driver that cannot keep up would: what comes after
it must not be late too.
"""
SETTLE_S = 0.3
CLOCK_PERIOD_NS = NANOSECONDS // 40
LAST_CLOCKS = 8
FIRST_CLOCK_NS = NANOSECONDS
"""Where /clock begins for a recording that counts from 0: a ROS time of zero means that there is no
time yet.
"""


class CameraSource(Node):
    """Publishes frames when they are due and keeps count.

    Args:
        topics: camera name to image topic.
        transport: raw or compressed.
        odom_topic: publishes the frames' poses there; empty publishes none.
        simulated_clock: keep recorded stamps and publish them on /clock, instead of stamping with
            this computer's time.
    """

    def __init__(
        self, topics: dict[str, str], transport: Transport, odom_topic: str, simulated_clock: bool
    ) -> None:
        super().__init__("camera_source")
        self._to_message: Callable[[Frame, int], Image | CompressedImage] = (
            image_message if transport == "raw" else compressed_message
        )
        kind = Image if transport == "raw" else CompressedImage
        self._images: dict[str, Publisher] = {
            camera: self.create_publisher(kind, topic, qos_profile_sensor_data)
            for camera, topic in topics.items()
        }
        self._odometry = (
            self.create_publisher(Odometry, odom_topic, qos_profile_sensor_data)
            if odom_topic
            else None
        )
        self._clock_publisher = (
            self.create_publisher(Clock, "/clock", 10) if simulated_clock else None
        )
        self._clock = Clock()
        self.published = 0
        self.passed_over = 0
        self.first_stamp_ns: int | None = None
        self.last_stamp_ns = 0

    def topics(self) -> dict[str, str]:
        """Image topic by camera, as resolved by namespace and remappings."""
        return {camera: publisher.topic_name for camera, publisher in self._images.items()}

    def wait_for_listeners(self, count: int, timeout_s: float) -> None:
        """Return when every image topic has `count` subscriptions.

        Raises:
            SourceError: it has not after `timeout_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        while rclpy.ok():
            missing = [
                name for name in self._images if self._images[name].get_subscription_count() < count
            ]
            if not missing:
                # A subscription is seen from here a moment before it sees us; what is sent in
                # between is lost.
                time.sleep(SETTLE_S)
                return
            if time.monotonic() > deadline:
                topic = self._images[missing[0]].topic_name
                heard = self._images[missing[0]].get_subscription_count()
                raise SourceError(
                    f"{topic}: {heard} of {count} listeners after {timeout_s:.0f} s; is the node"
                    " active, on this topic and domain?"
                )
            time.sleep(0.02)

    def play(self, source: Source, rate: float) -> bool:
        """Publish `source` once, `rate` times as fast as it was recorded; False when interrupted.

        Raises:
            SourceError: the source breaks off.
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
                self.passed_over += 1
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
            self._say({"first_stamp_ns": stamp_ns, "topics": self.topics()})
        self.last_stamp_ns = stamp_ns
        self.published += 1

    def say_end(self) -> None:
        """Print what was published, as one line of JSON, once every listener has the last of the
        clock.

        A best-effort listener acknowledges nothing and may lose a message, the last one included:
        it is told more than once.
        """
        if self._clock_publisher is not None:
            for _ in range(LAST_CLOCKS):
                self._clock_publisher.publish(self._clock)
                time.sleep(CLOCK_PERIOD_NS / NANOSECONDS)
            self._clock_publisher.wait_for_all_acked(Duration(seconds=1))
        self._say(
            {
                "last_stamp_ns": self.last_stamp_ns,
                "published": self.published,
                "passed_over": self.passed_over,
            }
        )

    def _say(self, facts: dict[str, object]) -> None:
        print(json.dumps(facts), flush=True)


def parser() -> argparse.ArgumentParser:
    """Declare the options."""
    options = argparse.ArgumentParser(
        prog="camera_source",
        description=(
            "Publish a source as a camera topic in real time. Prints one line of JSON when the"
            " first picture is out and one at the end."
        ),
    )
    options.add_argument("source", help=POSSIBLE)
    options.add_argument(
        "--topic",
        default="",
        help=(
            "image topic; image_raw when left out, or CAMERA/image_raw for each of several cameras"
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
        help="publish the poses of the frames there as nav_msgs/Odometry",
    )
    options.add_argument(
        "--bag-topic",
        action="append",
        default=[],
        help="image topic of a recording to play; all cameras when left out",
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
        help="length of stream to play; all of it when left out",
    )
    options.add_argument(
        "--rate", type=float, default=1.0, help="play this many times as fast as real time"
    )
    options.add_argument("--loop", action="store_true", help="begin again at the end")
    options.add_argument(
        "--clock", action="store_true", help="keep the recorded stamps and publish them on /clock"
    )
    options.add_argument(
        "--listeners",
        type=int,
        default=0,
        help="wait until this many subscriptions are there before the first picture",
    )
    options.add_argument("--wait", type=float, default=60.0, help="seconds to wait for listeners")
    return options


def image_topics(source: Source, topic: str, transport: Transport) -> dict[str, str]:
    """Return the topic of each camera of `source`; `topic` may be chosen for a source with one
    camera.

    Raises:
        SourceError: one topic for several cameras.
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

    def opened() -> Source:
        return open_source(
            arguments.source,
            seconds=arguments.seconds,
            topics=arguments.bag_topic,
            odom_topic=arguments.bag_odom,
        )

    source = opened()
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
            source = opened()
        node.say_end()
    finally:
        node.destroy_node()


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish until the source ends or the process is interrupted; 1 and one message when something
    is wrong.
    """
    given = sys.argv if arguments is None else ["camera_source", *arguments]
    options = parser().parse_args(remove_ros_args(given)[1:])
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
