"""Poses from odometry messages: the same from a subscription and from a recording."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from nav_msgs.msg import Odometry
from rclpy.node import Node

from stream_vlm.config.settings import load_settings
from stream_vlm.sources.pose_buffer import PoseBuffer
from stream_vlm.sources.rosbag import BagSource
from stream_vlm.sources.rosbag_writer import BagWriter
from stream_vlm.types import NANOSECONDS, Frame, Pose
from stream_vlm_ros.camera_source.messages import odometry_message
from stream_vlm_ros.common.health_counters import FaultLog
from stream_vlm_ros.inputs.odometry_subscription import OdometrySubscription

SECOND = NANOSECONDS
MAX_AGE_S = 0.3

Messages = Sequence[tuple[float, Pose]]
"""Poses in the order of arrival, each with its stamp in seconds."""
GetPoses = Callable[[Messages, Sequence[float], Path], "list[Pose | None]"]
"""Returns the poses of pictures with these stamps in seconds; the path is an empty folder."""


@dataclass
class FakeNode:
    """A node with the time `now_ns`; `deliver` calls the callback of its subscription."""

    now_ns: int = 100 * SECOND
    deliver: Callable[[Odometry], None] = field(init=False)

    def create_subscription(
        self, kind: type, topic: str, callback: Callable[[Odometry], None], *_: Any, **__: Any
    ) -> None:
        assert kind is Odometry
        self.deliver = callback

    def resolve_topic_name(self, topic: str) -> str:
        return f"/{topic}"

    def get_clock(self) -> SimpleNamespace:
        return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=self.now_ns))


class Subscription:
    """An `OdometrySubscription` of a fake node, with its poses and its log."""

    def __init__(self, now_ns: int = 100 * SECOND) -> None:
        self.node = FakeNode(now_ns)
        self.poses = PoseBuffer()
        self.log: list[str] = []
        self.sessions: list[str] = []
        OdometrySubscription(
            cast(Node, self.node),
            load_settings({"pose.odom_topic": "odom"}),
            self.poses,
            FaultLog(self.log.append),
            self.sessions.append,
        )

    def deliver(self, stamp_s: float, pose: Pose) -> None:
        self.node.deliver(odometry_message(pose, round(stamp_s * SECOND)))


def poses_of_subscription(
    messages: Messages, pictures_s: Sequence[float], folder: Path
) -> list[Pose | None]:
    subscription = Subscription()
    for stamp_s, pose in messages:
        subscription.deliver(stamp_s, pose)
    return [subscription.poses.at(round(at_s * SECOND), MAX_AGE_S) for at_s in pictures_s]


class ArrivalBagWriter(BagWriter):
    """Records each message 1 ms after the one before, without regard to its stamp."""

    arrivals = 0

    def message(self, topic: str, recorded_ns: int, message: Any) -> None:
        self.arrivals += 1
        super().message(topic, 10 * SECOND + self.arrivals * SECOND // 1000, message)


def poses_of_recording(
    messages: Messages, pictures_s: Sequence[float], folder: Path
) -> list[Pose | None]:
    with ArrivalBagWriter(folder / "bag") as writer:
        for stamp_s, pose in messages:
            writer.pose(pose, round(stamp_s * SECOND))
        for at_s in pictures_s:
            frame = Frame("front", round(at_s * SECOND), "", np.zeros((2, 2, 3), np.uint8))
            writer.frame(frame, "/front")
    bag = BagSource(folder / "bag", odom_topic="/odom", pose_max_age_s=MAX_AGE_S)
    return [frame.pose for frame in bag.frames()]


def place(x: float, frame_id: str = "odom", qw: float = 1.0) -> Pose:
    return Pose(frame_id, x, 0.0, 0.0, qw=qw)


STRAIGHT = [(10.0 + number / 10, place(float(number))) for number in range(11)]
"""The robot drives with 10 m/s from 10 s to 11 s."""
SCENARIOS: dict[str, Messages] = {
    "in order": STRAIGHT,
    "backwards": STRAIGHT[::-1],
    "every other one late": [*STRAIGHT[::2], *STRAIGHT[1::2]],
    "everything twice": [message for message in STRAIGHT for _ in range(2)],
    "a second publisher half a second late": [*STRAIGHT[:5], *STRAIGHT],
    "a second publisher in another frame": [
        *STRAIGHT,
        *((10.05 + number / 10, place(900.0, "map")) for number in (0, 1, 2, 8)),
    ],
    "some that are no poses": [
        message
        for stamp_s, pose in STRAIGHT
        for message in (
            (stamp_s, pose),
            (stamp_s + 0.02, place(math.nan)),
            (stamp_s + 0.03, place(5.0, qw=0.0)),
            (stamp_s + 0.04, place(5.0, frame_id="")),
        )
    ],
}


@pytest.mark.parametrize("get_poses", [poses_of_subscription, poses_of_recording])
@pytest.mark.parametrize("messages", SCENARIOS.values(), ids=SCENARIOS)
def test_a_picture_gets_the_same_pose_live_and_from_a_recording(
    tmp_path: Path, get_poses: GetPoses, messages: Messages
) -> None:
    found = get_poses(messages, [9.5, 9.8, 10.0, 10.32, 10.97, 11.2, 11.5], tmp_path)
    assert [pose is None for pose in found] == [True, *5 * [False], True]
    places = [(pose.frame_id, pose.x) for pose in found if pose is not None]
    expected = [0.0, 0.0, 3.2, 9.7, 10.0]
    assert places == [("odom", pytest.approx(x, abs=1e-5)) for x in expected]


@pytest.mark.parametrize("get_poses", [poses_of_subscription, poses_of_recording])
def test_a_quaternion_is_normalized_live_and_from_a_recording(
    tmp_path: Path, get_poses: GetPoses
) -> None:
    (found,) = get_poses([(10.0, place(1.0, qw=2.0))], [10.0], tmp_path)
    assert found == place(1.0, qw=1.0)


@pytest.mark.parametrize(
    ("stamp_s", "pose", "now_ns", "says"),
    [
        (10.0, place(math.inf), 100 * SECOND, "odometry: position (inf, 0.0, 0.0)"),
        (10.0, place(0.0, ""), 100 * SECOND, "odometry: a pose has no frame_id"),
        (0.0, place(0.0), 100 * SECOND, "odometry: poses on /odom have the stamp 0 ns"),
        (102.0, place(0.0), 100 * SECOND, "the stamp of a pose on /odom is 2.0 s ahead"),
        (10.0, place(0.0), 0, "use_sim_time is true, but nothing came on /clock yet"),
    ],
)
def test_bad_odometry_is_reported_and_not_used(
    stamp_s: float, pose: Pose, now_ns: int, says: str
) -> None:
    subscription = Subscription(now_ns)
    subscription.deliver(stamp_s, pose)
    assert len(subscription.poses) == 0
    assert len(subscription.log) == 1
    assert says in subscription.log[0]


def test_odometry_that_begins_anew_begins_a_session_and_mixes_no_poses() -> None:
    subscription = Subscription()
    subscription.deliver(10.0, place(8.0))
    subscription.deliver(10.2, place(0.0))
    assert len(subscription.sessions) == 1
    assert "jumped from (8.00, 0.00) to (0.00, 0.00)" in subscription.sessions[0]
    assert subscription.poses.at(round(10.1 * SECOND), MAX_AGE_S) == place(0.0)
    subscription.deliver(10.4, place(8.0))
    subscription.deliver(10.6, place(0.0))
    assert len(subscription.sessions) == 1, "contradicting publishers begin no session each time"
    assert "check whether two publishers share the topic" in subscription.log[0]
