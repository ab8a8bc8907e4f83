"""A new session begins when stamps or the clock jump back. These tests use no middleware."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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


class FakeInputs:
    """Calls the tracker and the sampler as the callbacks of the node do."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.sampler: LatestFrames[Item] = LatestFrames()
        self.poses = PoseBuffer()
        self.sessions = SessionTracker(self.sampler, self.poses, ["front", "rear"], self.log.append)

    def frame(self, camera: str, stamp_ns: int) -> None:
        self.sessions.observe_stamp(camera, stamp_ns)
        self.sampler.put(Item(camera, stamp_ns))


def test_the_first_pictures_begin_the_first_session() -> None:
    inputs = FakeInputs()
    assert inputs.sessions.take() == ([], None)
    inputs.frame("front", 5 * SECOND)
    items, session = inputs.sessions.take()
    assert items == [Item("front", 5 * SECOND)]
    assert session is not None
    assert session.session_id == inputs.sessions.session_id


def test_rising_stamps_begin_no_session() -> None:
    inputs = FakeInputs()
    inputs.frame("front", 5 * SECOND)
    inputs.sessions.take()
    inputs.frame("front", 6 * SECOND)
    assert inputs.sessions.take() == ([Item("front", 6 * SECOND)], None)


def test_stamps_that_jump_back_by_more_than_a_second_begin_a_session() -> None:
    inputs = FakeInputs()
    inputs.frame("front", 50 * SECOND)
    first = inputs.sessions.take()[1]
    inputs.frame("front", 51 * SECOND)
    inputs.frame("front", 2 * SECOND)
    items, session = inputs.sessions.take()
    assert items == [Item("front", 2 * SECOND)]
    assert session is not None
    assert first is not None
    assert session.session_id != first.session_id
    assert "front: stamps jumped back by 49.0 s" in inputs.log[0]


def test_a_clock_that_jumps_back_before_the_newest_picture_begins_a_session() -> None:
    inputs = FakeInputs()
    inputs.frame("front", 50 * SECOND)
    inputs.sessions.take()
    inputs.sessions.observe_clock(3 * SECOND)
    inputs.frame("front", 3 * SECOND)
    assert inputs.sessions.take()[1] is not None


def test_a_loop_that_both_stamps_and_clock_show_begins_one_session() -> None:
    inputs = FakeInputs()
    inputs.frame("front", 50 * SECOND)
    inputs.sessions.take()
    inputs.frame("front", 2 * SECOND)
    inputs.sessions.observe_clock(2 * SECOND)
    assert inputs.sessions.opened == 2


def test_a_clock_that_jumps_back_by_less_than_a_second_begins_no_session() -> None:
    inputs = FakeInputs()
    inputs.frame("front", 50 * SECOND)
    inputs.sessions.observe_clock(50 * SECOND - SECOND // 2)
    assert inputs.sessions.opened == 1


@pytest.mark.parametrize(
    ("back_to_ns", "kept"), [(2 * SECOND, 0), (50 * SECOND - SECOND // 2, 1)], ids=["far", "little"]
)
@pytest.mark.parametrize("shown_by", ["stamps", "clock"])
def test_a_jump_back_deletes_the_poses(shown_by: str, back_to_ns: int, kept: int) -> None:
    inputs = FakeInputs()
    inputs.frame("front", 50 * SECOND)
    inputs.poses.put(50 * SECOND, Pose("odom", 1.0, 2.0, 0.0))
    if shown_by == "stamps":
        inputs.sessions.observe_stamp("front", back_to_ns)
    else:
        inputs.sessions.observe_clock(back_to_ns)
    assert len(inputs.poses) == kept


def test_a_session_after_a_failed_step_keeps_the_poses() -> None:
    inputs = FakeInputs()
    inputs.poses.put(50 * SECOND, Pose("odom", 1.0, 2.0, 0.0))
    inputs.sessions.begin("after a failed step")
    assert len(inputs.poses) == 1


class MeetingSampler(LatestFrames[Item]):
    """Lets two threads that both look at a stamp go on together, if no lock keeps one away."""

    def __init__(self) -> None:
        super().__init__()
        self.meet: threading.Barrier | None = None

    def newest_stamp_ns(self, camera: str) -> int | None:
        newest = super().newest_stamp_ns(camera)
        if self.meet is not None:
            with suppress(threading.BrokenBarrierError):
                self.meet.wait(0.2)
        return newest


def test_cameras_whose_stamps_jump_back_at_the_same_time_begin_one_session() -> None:
    sampler = MeetingSampler()
    sessions = SessionTracker(sampler, PoseBuffer(), ["front", "rear"], lambda _: None)
    for camera in ("front", "rear"):
        sessions.observe_stamp(camera, 50 * SECOND)
        sampler.put(Item(camera, 50 * SECOND))
    sampler.meet = threading.Barrier(2)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda name: sessions.observe_stamp(name, 2 * SECOND), ("front", "rear")))
    assert sessions.opened == 2
