"""When a new session begins: stamps or a clock that jump back, without middleware."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from stream_vlm.loop.sampler import LatestFrames
from stream_vlm.sources.pose_buffer import PoseBuffer
from stream_vlm.types import NANOSECONDS, Pose
from stream_vlm_ros.inputs.session_tracker import SessionTracker

SECOND = NANOSECONDS


@dataclass(frozen=True)
class Item:
    camera: str
    stamp_ns: int


class Stream:
    """Cameras that deposit as the node's callbacks do."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.sampler: LatestFrames[Item] = LatestFrames()
        self.poses = PoseBuffer()
        self.sessions = SessionTracker(self.sampler, self.poses, ["front", "rear"], self.log.append)

    def show(self, camera: str, stamp_ns: int) -> None:
        self.sessions.observe_stamp(camera, stamp_ns)
        self.sampler.put(Item(camera, stamp_ns))


def test_the_first_pictures_open_the_first_session() -> None:
    stream = Stream()
    assert stream.sessions.take() == ([], None)
    stream.show("front", 5 * SECOND)
    items, session = stream.sessions.take()
    assert items == [Item("front", 5 * SECOND)]
    assert session is not None
    assert session.session_id == stream.sessions.session_id


def test_a_session_goes_on_while_stamps_rise() -> None:
    stream = Stream()
    stream.show("front", 5 * SECOND)
    stream.sessions.take()
    stream.show("front", 6 * SECOND)
    assert stream.sessions.take() == ([Item("front", 6 * SECOND)], None)


def test_stamps_that_fall_back_by_more_than_a_second_open_a_session() -> None:
    stream = Stream()
    stream.show("front", 50 * SECOND)
    first = stream.sessions.take()[1]
    stream.show("front", 51 * SECOND)
    stream.show("front", 2 * SECOND)
    items, session = stream.sessions.take()
    assert items == [Item("front", 2 * SECOND)]
    assert session is not None
    assert first is not None
    assert session.session_id != first.session_id
    assert "front: stamps jumped back by 49.0 s" in stream.log[0]


def test_a_clock_that_falls_back_behind_the_newest_picture_opens_a_session() -> None:
    stream = Stream()
    stream.show("front", 50 * SECOND)
    stream.sessions.take()
    stream.sessions.observe_clock(3 * SECOND)
    stream.show("front", 3 * SECOND)
    assert stream.sessions.take()[1] is not None


def test_one_loop_noticed_by_stamps_and_then_by_the_clock_is_one_session() -> None:
    stream = Stream()
    stream.show("front", 50 * SECOND)
    stream.sessions.take()
    stream.show("front", 2 * SECOND)
    stream.sessions.observe_clock(2 * SECOND)
    assert stream.sessions.opened == 2


def test_a_clock_that_is_set_back_by_less_than_a_second_opens_no_session() -> None:
    stream = Stream()
    stream.show("front", 50 * SECOND)
    stream.sessions.observe_clock(50 * SECOND - SECOND // 2)
    assert stream.sessions.opened == 1


@pytest.mark.parametrize(
    ("back_to_ns", "kept"), [(2 * SECOND, 0), (50 * SECOND - SECOND // 2, 1)], ids=["far", "little"]
)
@pytest.mark.parametrize("noticed_by", ["stamps", "clock"])
def test_poses_are_forgotten_with_the_time_that_they_belong_to(
    noticed_by: str, back_to_ns: int, kept: int
) -> None:
    stream = Stream()
    stream.show("front", 50 * SECOND)
    stream.poses.put(50 * SECOND, Pose("odom", 1.0, 2.0, 0.0))
    if noticed_by == "stamps":
        stream.sessions.observe_stamp("front", back_to_ns)
    else:
        stream.sessions.observe_clock(back_to_ns)
    assert len(stream.poses) == kept


def test_a_session_that_begins_for_another_reason_keeps_the_poses() -> None:
    stream = Stream()
    stream.poses.put(50 * SECOND, Pose("odom", 1.0, 2.0, 0.0))
    stream.sessions.begin("after a failed step")
    assert len(stream.poses) == 1
