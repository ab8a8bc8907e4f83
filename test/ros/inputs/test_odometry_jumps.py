"""Odometry that begins anew at the origin is found; drives, corrections and late poses are not."""

from __future__ import annotations

import pytest

from stream_vlm.types import NANOSECONDS, Pose
from stream_vlm_ros.inputs.odometry_jumps import Jump, OdometryJumps


def jumps(*poses: tuple[float, float], frame_id: str = "odom", turn: float = 0.0) -> list[Jump]:
    """The jumps of poses (time in seconds, x in metres)."""
    watched = OdometryJumps("/odom", ["map"])
    found = [
        watched.observe(round(at_s * NANOSECONDS), Pose(frame_id, x, 0.0, 0.0, qz=turn))
        for at_s, x in poses
    ]
    return [jump for jump in found if jump is not None]


@pytest.mark.parametrize(
    "poses",
    [
        [(1.0, 8.0), (1.1, 0.0)],
        [(1.0, 8.0), (1.1, 0.02)],
        [(1.0, 0.9), (1.1, 0.0)],
        [(1.0, 3.0), (9.0, 0.0)],
    ],
    ids=["at once", "not exactly at zero", "after a short way", "after its driver was started"],
)
def test_a_jump_back_to_the_origin_is_a_new_beginning(poses: list[tuple[float, float]]) -> None:
    (jump,) = jumps(*poses)
    assert jump.is_new_origin
    assert f"odometry /odom: the pose in odom jumped from ({poses[0][1]:.2f}, 0.00)" in jump.reason


@pytest.mark.parametrize("frame_id", ["map", "robot1/map"])
def test_a_jump_in_a_map_is_a_correction(frame_id: str) -> None:
    assert jumps((1.0, 8.0), (1.1, 0.0), frame_id=frame_id) == []


@pytest.mark.parametrize(
    "poses",
    [
        [(1.0, 0.0), (1.1, 0.1)],
        [(1.0, 1.0), (2.0, 0.0)],
        [(number / 10, 2.0 - number / 5) for number in range(11)],
        [(1.0, 8.0), (1.1, 4.0)],
        [(1.0, 0.3), (1.1, 0.0)],
        [(1.1, 8.0), (1.0, 0.0)],
        [(1.0, 8.0), (1.0, 0.0)],
    ],
    ids=["start", "slow", "home", "elsewhere", "short", "late", "same stamp"],
)
def test_other_ways_are_no_new_beginning(poses: list[tuple[float, float]]) -> None:
    assert jumps(*poses) == []


def test_a_robot_that_is_turned_did_not_begin_anew() -> None:
    assert jumps((1.0, 8.0), (1.1, 0.0), turn=0.7) == []


def test_two_publishers_that_contradict_each_other_begin_anew_once() -> None:
    found = jumps(*((number / 10, 8.0 * (number % 2)) for number in range(1, 50)))
    assert [jump.is_new_origin for jump in found] == [True] + [False] * (len(found) - 1)
    assert "check whether two publishers share the topic" in found[1].reason


def test_frames_are_compared_apart() -> None:
    watched = OdometryJumps("/odom", ["map"])
    assert watched.observe(1 * NANOSECONDS, Pose("odom", 8.0, 0.0, 0.0)) is None
    assert watched.observe(2 * NANOSECONDS, Pose("odom2", 0.0, 0.0, 0.0)) is None
    watched.forget()
    assert watched.observe(3 * NANOSECONDS, Pose("odom", 0.0, 0.0, 0.0)) is None
