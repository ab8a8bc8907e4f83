"""camera_source publishes a recording over real DDS and in real time, as a camera driver would."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not in this environment")

from bag_fixtures import write_bag  # noqa: E402
from mcap_fixtures import McapFile, film  # noqa: E402
from nav_msgs.msg import Odometry  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from rclpy.subscription import Subscription  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from stream_fixtures import SECRETS, mjpeg_server  # noqa: E402

from stream_vlm.types import NANOSECONDS, Frame, Pose  # noqa: E402
from stream_vlm_ros.common.stamps import nanoseconds  # noqa: E402
from stream_vlm_ros.inputs.image_decoding import decode_image  # noqa: E402

SENSOR_QOS = QoSProfile(depth=500, reliability=ReliabilityPolicy.BEST_EFFORT)
PERIOD_NS = NANOSECONDS // 10
MOST = 6
"""Enough of ten frames: on a busy machine some are lost in transport, and late ones are skipped."""


class Listener:
    """Subscribes to topics and keeps the messages."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._subscriptions: list[Subscription] = []

    def listen(self, kind: Any, topic: str) -> list[Any]:
        messages: list[Any] = []
        self._subscriptions.append(
            self._node.create_subscription(kind, topic, messages.append, SENSOR_QOS)
        )
        return messages

    def spin_until(self, done: Callable[[], bool], timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < deadline, f"not true after {timeout_s} s"
            self._executor.spin_once(timeout_sec=0.05)

    def spin_until_end(self, process: subprocess.Popen[str], *topics: list[Any]) -> None:
        """Spin until `process` has ended with exit code 0 and each topic has most messages."""
        self.spin_until(lambda: process.poll() is not None)
        assert process.returncode == 0
        self.spin_until(lambda: all(len(messages) >= MOST for messages in topics))

    def close(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._executor.remove_node(self._node)
        self._executor.shutdown()


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    rclpy.init()
    node = rclpy.create_node("listener")
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


@pytest.fixture
def listener(node: Node) -> Iterator[Listener]:
    listener = Listener(node)
    yield listener
    listener.close()


@pytest.fixture
def play() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start camera_source as a process, which ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "stream_vlm_ros.camera_source.node", *arguments]
        started.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def recording(
    camera: str = "front", count: int = 10, first_ns: int = 1_700_000_000 * NANOSECONDS
) -> Iterator[Frame]:
    for index in range(count):
        image = np.full((48, 64, 3), 20 * index, dtype=np.uint8)
        yield Frame(
            camera,
            first_ns + index * PERIOD_NS,
            f"{camera}_optical",
            image,
            Pose("map", float(index), 0.0, 0.0),
        )


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    write_bag(tmp_path / "bag", recording(), {"front": "/front/image_raw"})
    return tmp_path / "bag"


def stamps(messages: list[Any]) -> list[int]:
    return [nanoseconds(message.header.stamp) for message in messages]


@pytest.mark.parametrize(
    ("transport", "kind", "suffix"),
    [("raw", Image, ""), ("compressed", CompressedImage, "/compressed")],
)
def test_frames_arrive_as_they_were_recorded(
    transport: str, kind: Any, suffix: str, bag: Path, listener: Listener, play: Callable[..., Any]
) -> None:
    images = listener.listen(kind, f"/eye/image_raw{suffix}")
    process = play(
        str(bag),
        *("--topic", "/eye/image_raw", "--transport", transport, "--listeners", "1", "--clock"),
    )
    listener.spin_until_end(process, images)
    recorded = {frame.stamp_ns: frame for frame in recording()}
    for message in images:
        frame = recorded[nanoseconds(message.header.stamp)]
        assert message.header.frame_id == frame.frame_id
        assert decode_image(message, "front").mean() == pytest.approx(frame.image.mean(), abs=2)


def test_without_a_clock_stamps_are_computer_time_with_the_recorded_distances(
    bag: Path, listener: Listener, play: Callable[..., Any]
) -> None:
    images = listener.listen(Image, "/image_raw")
    before = time.time_ns()
    listener.spin_until_end(play(str(bag), "--listeners", "1"), images)
    assert before < stamps(images)[0]
    assert stamps(images)[-1] < time.time_ns()
    assert all(step > 0 and step % PERIOD_NS == 0 for step in np.diff(stamps(images)).tolist())


def test_with_a_clock_the_recorded_stamps_are_kept_and_the_clock_ends_at_the_last_one(
    bag: Path, listener: Listener, play: Callable[..., Any]
) -> None:
    images, clock = listener.listen(Image, "/image_raw"), listener.listen(Clock, "/clock")
    recorded = [frame.stamp_ns for frame in recording()]
    listener.spin_until_end(play(str(bag), "--listeners", "1", "--clock"), images)
    listener.spin_until(lambda: nanoseconds(clock[-1].clock) == recorded[-1] if clock else False)
    assert set(stamps(images)) <= set(recorded)
    times = [nanoseconds(message.clock) for message in clock]
    assert times == sorted(times)


def test_a_loop_with_a_clock_goes_back_to_the_first_recorded_stamp(
    bag: Path, listener: Listener, play: Callable[..., Any]
) -> None:
    images = listener.listen(Image, "/image_raw")
    play(str(bag), "--listeners", "1", "--clock", "--loop", "--rate", "4")
    listener.spin_until(lambda: len(images) > 1 and bool(min(np.diff(stamps(images))) < 0))
    assert set(stamps(images)) <= {frame.stamp_ns for frame in recording()}


def test_a_loop_without_a_clock_has_rising_stamps(
    bag: Path, listener: Listener, play: Callable[..., Any]
) -> None:
    images = listener.listen(Image, "/image_raw")
    play(str(bag), "--listeners", "1", "--loop", "--rate", "4")
    listener.spin_until(lambda: len(images) > 10)
    assert min(np.diff(stamps(images))) > 0


def test_poses_of_a_recording_have_the_stamps_of_the_frames(
    bag: Path, listener: Listener, play: Callable[..., Any]
) -> None:
    poses = listener.listen(Odometry, "/base/odom")
    listener.listen(Image, "/image_raw")
    process = play(
        str(bag),
        *("--listeners", "1", "--clock", "--bag-odom", "/odom", "--odom-topic", "/base/odom"),
    )
    listener.spin_until_end(process, poses)
    recorded = {frame.stamp_ns: frame.pose for frame in recording()}
    for message in poses:
        pose = recorded[nanoseconds(message.header.stamp)]
        assert pose is not None
        assert (message.header.frame_id, message.pose.pose.position.x) == (pose.frame_id, pose.x)


def test_each_camera_of_a_recording_has_its_own_topic(
    tmp_path: Path, listener: Listener, play: Callable[..., Any]
) -> None:
    frames = sorted([*recording("left"), *recording("right")], key=lambda frame: frame.stamp_ns)
    write_bag(tmp_path / "two", frames, {"left": "/left/image_raw", "right": "/right/image_raw"})
    left, right = (
        listener.listen(Image, "/left/image_raw"),
        listener.listen(Image, "/right/image_raw"),
    )
    listener.spin_until_end(play(str(tmp_path / "two"), "--listeners", "1"), left, right)
    assert {message.header.frame_id for message in left} == {"left_optical"}
    assert {message.header.frame_id for message in right} == {"right_optical"}


STEADY = [index / 2 for index in range(20)]


@pytest.mark.parametrize(
    ("header", "published", "left_out"),
    [
        (STEADY, 20, {}),
        ([time - 3 for time in STEADY], 20, {}),
        ([0.0] * 20, 20, {}),
        ([t + 3600 * (t == 4) for t in STEADY], 19, {"cam": {"stamp off the clock": 1}}),
    ],
)
def test_every_picture_of_a_recording_is_published_whatever_its_clock(
    tmp_path: Path,
    play: Callable[..., Any],
    header: list[float],
    published: int,
    left_out: dict[str, dict[str, int]],
) -> None:
    path = McapFile([film(stamps_s=header)]).write(tmp_path / "a.mcap")
    output, _ = play(str(path), "--rate", "10", "--clock").communicate(timeout=60)
    first, last = (json.loads(line) for line in output.splitlines())
    assert last["published"] + last["skipped"] == published
    assert last["left_out"] == left_out
    assert last["last_stamp_ns"] - first["first_stamp_ns"] <= 9.5 * NANOSECONDS


def test_it_prints_what_it_published_as_json(bag: Path, play: Callable[..., Any]) -> None:
    process = play(str(bag), "--rate", "10", "--clock")
    output, _ = process.communicate(timeout=30)
    first, last = (json.loads(line) for line in output.splitlines())
    frames = list(recording())
    assert first == {"first_stamp_ns": frames[0].stamp_ns, "topics": {"front": "/image_raw"}}
    assert last["published"] + last["skipped"] == 10
    assert frames[0].stamp_ns <= last["last_stamp_ns"] <= frames[-1].stamp_ns


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nothing.mp4"], "no such source; it can be a video file"),
        (["world:1", "--rate", "0"], "--rate 0.0: must be above 0"),
        (["world:1", "--listeners", "1", "--wait", "0.5"], "/image_raw: 0 of 1 listeners after"),
    ],
)
def test_a_source_that_cannot_be_played_ends_with_one_error_message(
    arguments: list[str], error: str, play: Callable[..., Any]
) -> None:
    process = play(*arguments)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert error in errors
    assert "Traceback" not in errors


def test_a_network_stream_is_published_until_an_interruption_without_its_secrets(
    listener: Listener, play: Callable[..., Any]
) -> None:
    images = listener.listen(Image, "/image_raw")
    with mjpeg_server() as server:
        process = play(server.url, "--stream-timeout", "60")
        listener.spin_until(lambda: len(images) >= 3)
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(output.splitlines()[0])["topics"] == {"camera": "/image_raw"}
    assert stamps(images) == sorted(stamps(images))
    assert not any(secret in shown + output + errors for secret in SECRETS)


def test_an_override_of_qos_without_an_effect_is_refused_and_one_with_an_effect_is_used(
    bag: Path, node: Node, play: Callable[..., Any]
) -> None:
    override = "qos_overrides./eye/image_raw.publisher"
    options = ("--topic", "/eye/image_raw", "--ros-args", "-p")
    refused = play(str(bag), *options, f"{override}.deadline:=5")
    assert refused.wait(60) == 1
    assert f"{override}.deadline: the policy deadline cannot be overridden" in refused.stderr.read()
    process = play(str(bag), "--loop", *options, f"{override}.reliability:=reliable")
    deadline = time.monotonic() + 60
    while not (found := node.get_publishers_info_by_topic("/eye/image_raw")):
        assert process.poll() is None
        assert time.monotonic() < deadline
    assert found[0].qos_profile.reliability == ReliabilityPolicy.RELIABLE
