"""Poses by stamp: between their neighbours, whatever the order and number of their arrivals."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_vlm.sources.pose_buffer import (
    CAPACITY,
    JUMP_POSES,
    REACH_S,
    PoseBuffer,
    PoseError,
    odometry_pose,
)
from stream_vlm.types import NANOSECONDS, Pose

SECOND = NANOSECONDS


def pose(x: float = 0.0, yaw: float = 0.0, frame_id: str = "odom") -> Pose:
    return Pose(frame_id, x, 0.0, 0.0, qz=math.sin(yaw / 2), qw=math.cos(yaw / 2))


def yaw_of(found: Pose) -> float:
    return 2 * math.atan2(found.qz, found.qw)


def filled(*poses: tuple[float, Pose]) -> PoseBuffer:
    """A buffer that was given `poses`, each with its stamp in seconds."""
    buffer = PoseBuffer()
    for stamp_s, each in poses:
        buffer.put(round(stamp_s * SECOND), each)
    return buffer


def at(buffer: PoseBuffer, stamp_s: float, max_age_s: float = 1.0) -> Pose | None:
    return buffer.at(round(stamp_s * SECOND), max_age_s)


def test_a_picture_between_two_poses_lies_between_them() -> None:
    found = at(filled((10, pose(1.0)), (11, pose(3.0, yaw=math.pi / 2))), 10.25)
    assert found is not None
    assert (found.frame_id, found.x) == ("odom", pytest.approx(1.5))
    assert yaw_of(found) == pytest.approx(math.pi / 8)


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["as written", "as the negative quaternion"])
def test_a_turn_across_the_seam_takes_the_short_way(sign: float) -> None:
    end = pose(yaw=math.radians(190))
    end = replace(end, qz=sign * end.qz, qw=sign * end.qw)
    found = at(filled((0, pose(yaw=math.radians(170))), (1, end)), 0.5)
    assert found is not None
    assert math.degrees(yaw_of(found)) % 360 == pytest.approx(180)


def test_a_picture_with_the_stamp_of_a_pose_has_exactly_that_pose() -> None:
    there = pose(0.1, yaw=0.3)
    assert at(filled((1, pose()), (2, there), (3, pose())), 2) == there


def test_a_pose_farther_than_the_greatest_age_is_not_used() -> None:
    buffer = filled((10, pose()))
    assert at(buffer, 10.5, max_age_s=0.4) is None
    assert at(buffer, 10.5, max_age_s=0.6) is not None
    assert at(buffer, 9.5, max_age_s=0.4) is None
    assert at(PoseBuffer(), 0, max_age_s=60.0) is None


def test_of_two_neighbours_the_one_within_the_greatest_age_is_used_alone() -> None:
    assert at(filled((10, pose(1.0)), (12, pose(9.0))), 10.5, max_age_s=0.6) == pose(1.0)


def test_poses_of_two_frames_are_not_mixed() -> None:
    buffer = filled((10, pose(1.0)), (11, pose(900.0, frame_id="map")))
    assert at(buffer, 10.25) == pose(1.0)
    assert at(buffer, 10.75) == pose(900.0, frame_id="map")


def test_a_second_frame_on_the_topic_does_not_hide_the_neighbours_of_the_first() -> None:
    buffer = filled((10, pose(1.0)), (10.4, pose(900.0, frame_id="map")), (10.5, pose(2.0)))
    found = at(buffer, 10.1)
    assert found is not None
    assert (found.frame_id, found.x) == ("odom", pytest.approx(1.2))


def test_a_repeated_stamp_empties_nothing() -> None:
    """A driver that sends each message twice, as some bridges do."""
    buffer = PoseBuffer()
    for number in range(56):
        for _ in range(2):
            buffer.put(number * SECOND // 10, pose(float(number)))
    assert len(buffer) == 56
    assert at(buffer, 2.05) == pose(20.5)


def test_a_second_publisher_that_lags_behind_empties_nothing() -> None:
    buffer = PoseBuffer()
    for number in range(100):
        buffer.put(number * SECOND // 10, pose(float(number)))
        buffer.put(number * SECOND // 10 - SECOND, pose(float(number) - 10.0))
    found = at(buffer, 5.05)
    assert found is not None
    assert found.x == pytest.approx(50.5)


def test_a_second_publisher_on_another_clock_is_refused_and_does_no_harm() -> None:
    buffer = PoseBuffer()
    for number in range(100):
        buffer.put(1000 * SECOND + number * SECOND // 10, pose(float(number)))
        with pytest.raises(PoseError, match=r"1000\.0 s before the newest one"):
            buffer.put(number * SECOND // 10, pose(-1.0))
    assert len(buffer) == 100
    found = at(buffer, 1005.05)
    assert found is not None
    assert found.x == pytest.approx(50.5)


def put_behind(buffer: PoseBuffer) -> None:
    """Give `buffer`, whose newest pose is far ahead, as many poses from 5 s on as are refused."""
    for number in range(JUMP_POSES - 1):
        with pytest.raises(PoseError, match="before the newest one"):
            buffer.put(5 * SECOND + number * SECOND // 10, pose(7.0))


def test_time_that_jumped_back_far_begins_the_buffer_anew() -> None:
    buffer = filled((1000, pose(1.0)))
    put_behind(buffer)
    assert at(buffer, 1000) == pose(1.0)
    buffer.put(6 * SECOND, pose(8.0))
    assert at(buffer, 1000) is None
    assert (at(buffer, 5), at(buffer, 6)) == (pose(7.0), pose(8.0))
    assert len(buffer) == JUMP_POSES


def test_the_same_old_message_again_and_again_is_no_jump() -> None:
    buffer = filled((1000, pose(1.0)))
    for _ in range(3 * JUMP_POSES):
        with pytest.raises(PoseError, match="before the newest one"):
            buffer.put(5 * SECOND, pose(7.0))
    assert at(buffer, 1000) == pose(1.0)


def test_old_poses_between_new_ones_are_no_jump() -> None:
    buffer = filled((1000, pose(1.0)))
    put_behind(buffer)
    buffer.put(1001 * SECOND, pose(2.0))
    put_behind(buffer)
    assert (at(buffer, 1000), at(buffer, 5)) == (pose(1.0), None)


def test_one_stamp_far_ahead_costs_a_few_poses_and_not_all_that_follow() -> None:
    buffer = filled((5, pose()), (1_000_000, pose(9.0)))
    put_behind(buffer)
    buffer.put(6 * SECOND, pose(7.0))
    assert at(buffer, 5.05) == pose(7.0)


def test_a_cleared_buffer_takes_poses_of_an_earlier_time_at_once() -> None:
    buffer = filled((1000, pose(1.0)))
    buffer.clear()
    assert (len(buffer), buffer.newest_stamp_ns(), at(buffer, 1000)) == (0, None, None)
    buffer.put(5 * SECOND, pose(7.0))
    assert (at(buffer, 5), buffer.newest_stamp_ns()) == (pose(7.0), 5 * SECOND)


def test_no_more_is_kept_than_the_newest_poses_within_reach() -> None:
    buffer = PoseBuffer()
    for stamp_s in (0.0, 1.0, REACH_S, REACH_S + 0.5):
        buffer.put(round(stamp_s * SECOND), pose())
    assert len(buffer) == 3, "the first is too old"
    for number in range(CAPACITY):
        buffer.put(round(REACH_S) * SECOND + number, pose(float(number)))
    assert len(buffer) == CAPACITY
    assert at(buffer, 1) is None, "the oldest had to go"
    assert buffer.newest_stamp_ns() == round((REACH_S + 0.5) * SECOND)


def test_a_pose_without_its_frame_is_refused() -> None:
    with pytest.raises(PoseError, match="has no frame_id"):
        PoseBuffer().put(SECOND, pose(frame_id=""))


def odometry(position: Sequence[float], turn: Sequence[float]) -> Any:
    return SimpleNamespace(
        header=SimpleNamespace(frame_id="odom"),
        pose=SimpleNamespace(
            pose=SimpleNamespace(
                position=SimpleNamespace(**dict(zip("xyz", position, strict=True))),
                orientation=SimpleNamespace(**dict(zip("xyzw", turn, strict=True))),
            )
        ),
    )


def test_the_pose_of_an_odometry_message_has_a_unit_quaternion() -> None:
    assert odometry_pose(odometry((1.0, 2.0, 3.0), (0.0, 0.0, 2.0, 0.0))) == Pose(
        "odom", 1.0, 2.0, 3.0, 0.0, 0.0, 1.0, 0.0
    )


@pytest.mark.parametrize(
    ("position", "turn"),
    [
        ((math.nan, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)),
        ((0.0, 0.0, math.inf), (0.0, 0.0, 0.0, 1.0)),
        ((0.0, 0.0, 0.0), (0.0, math.nan, 0.0, 1.0)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_odometry_that_is_no_pose_is_refused(
    position: Sequence[float], turn: Sequence[float]
) -> None:
    with pytest.raises(PoseError, match="is not a pose"):
        odometry_pose(odometry(position, turn))


def test_a_thread_that_asks_sees_whole_poses_while_another_puts() -> None:
    buffer, stop = PoseBuffer(), threading.Event()

    def put() -> None:
        number = 0
        while not stop.is_set():
            buffer.put(number * SECOND // 100, pose(float(number), yaw=number / 10.0))
            number += 1

    writer = threading.Thread(target=put)
    writer.start()
    try:
        asked = 0
        while asked < 2000:
            newest_ns = buffer.newest_stamp_ns()
            if newest_ns is None:
                continue
            asked += 1
            found = buffer.at(newest_ns - SECOND // 200, 1.0)
            assert found is not None
            assert math.hypot(found.qz, found.qw) == pytest.approx(1.0)
    finally:
        stop.set()
        writer.join()


STAMPS_MS = st.integers(0, 10_000)
POSES = st.builds(
    pose,
    x=st.floats(-100, 100),
    yaw=st.floats(-math.pi, math.pi),
    frame_id=st.sampled_from(["odom", "map"]),
)
MESSAGES = st.lists(st.tuples(STAMPS_MS, POSES), min_size=1, max_size=30)
MAX_AGES_S = st.sampled_from([0.0, 0.5, 20.0])


def put_all(messages: Sequence[tuple[int, Pose]]) -> PoseBuffer:
    return filled(*((stamp_ms / 1e3, each) for stamp_ms, each in messages))


@given(MESSAGES, st.randoms(), STAMPS_MS, MAX_AGES_S)
def test_the_order_of_arrival_does_not_matter(
    messages: list[tuple[int, Pose]], random: Any, asked_ms: int, max_age_s: float
) -> None:
    shuffled = random.sample(messages, len(messages))
    assert at(put_all(shuffled), asked_ms / 1e3, max_age_s) == at(
        put_all(messages), asked_ms / 1e3, max_age_s
    )


@given(MESSAGES, st.randoms(), STAMPS_MS, MAX_AGES_S)
def test_duplicates_do_not_matter(
    messages: list[tuple[int, Pose]], random: Any, asked_ms: int, max_age_s: float
) -> None:
    repeated = messages + random.choices(messages, k=len(messages))
    random.shuffle(repeated)
    assert at(put_all(repeated), asked_ms / 1e3, max_age_s) == at(
        put_all(messages), asked_ms / 1e3, max_age_s
    )
    assert len(put_all(repeated)) == len(put_all(messages))


@given(MESSAGES, STAMPS_MS, MAX_AGES_S)
def test_what_is_found_lies_between_poses_of_its_own_frame_within_the_greatest_age(
    messages: list[tuple[int, Pose]], asked_ms: int, max_age_s: float
) -> None:
    found = at(put_all(messages), asked_ms / 1e3, max_age_s)
    near = [each for stamp_ms, each in messages if abs(stamp_ms - asked_ms) <= 1e3 * max_age_s]
    if found is None:
        assert not near
        return
    places = [each.x for each in near if each.frame_id == found.frame_id]
    assert min(places) - 1e-9 <= found.x <= max(places) + 1e-9
    assert math.hypot(found.qz, found.qw) == pytest.approx(1.0)
