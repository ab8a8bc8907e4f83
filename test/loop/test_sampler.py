"""Only the newest frame of a camera is taken, and a recording always gives the same ticks."""

from itertools import pairwise

import pytest
from model_fixtures import random_frame

from stream_vlm.loop.sampler import LatestFrames, TickClock
from stream_vlm.types import Frame, StaleFrame

SECOND = 1_000_000_000


def test_a_frame_overwritten_before_it_is_taken_counts_as_dropped() -> None:
    latest: LatestFrames[Frame] = LatestFrames()
    for index in range(5):
        latest.put(random_frame(index))
    assert [frame.stamp_ns for frame in latest.take()] == [random_frame(4).stamp_ns]
    assert latest.dropped == {"front": 4}
    assert latest.received == {"front": 5}


def test_a_taken_frame_is_not_taken_again() -> None:
    latest: LatestFrames[Frame] = LatestFrames()
    latest.put(random_frame(0))
    assert len(latest.take()) == 1
    assert latest.take() == []


def test_one_camera_does_not_overwrite_another() -> None:
    latest: LatestFrames[Frame] = LatestFrames()
    latest.put(random_frame(0, "rear"))
    latest.put(random_frame(0, "front"))
    assert [frame.camera for frame in latest.take()] == ["front", "rear"]
    assert latest.dropped == {}


def test_a_stamp_that_does_not_advance_is_refused_with_camera_and_stamps() -> None:
    latest: LatestFrames[Frame] = LatestFrames()
    latest.put(random_frame(3))
    with pytest.raises(StaleFrame, match="front: stamp 2500000000 ns is not after 2500000000 ns"):
        latest.put(random_frame(3))


def test_after_forget_older_stamps_are_accepted() -> None:
    latest: LatestFrames[Frame] = LatestFrames()
    latest.put(random_frame(3))
    latest.forget()
    latest.put(random_frame(0))
    assert latest.newest_stamp_ns("front") == random_frame(0).stamp_ns


@pytest.mark.parametrize(
    ("camera_hz", "rate_hz"),
    [(30.0, 2.0), (29.97, 2.0), (10.0, 2.0), (7.3, 2.0), (10.0, 1.0), (2.0, 2.0)],
)
def test_ticks_come_at_the_target_rate_for_any_camera_rate(
    camera_hz: float, rate_hz: float
) -> None:
    clock = TickClock(rate_hz)
    due = [
        index / camera_hz
        for index in range(int(60 * camera_hz))
        if clock.due(round(index / camera_hz * SECOND))
    ]
    assert len(due) == pytest.approx(60 * rate_hz, abs=1)
    assert all(
        abs(later - earlier - 1 / rate_hz) <= 1 / camera_hz + 1e-3
        for earlier, later in pairwise(due)
    )


def test_after_a_gap_in_the_recording_no_extra_ticks_come() -> None:
    clock = TickClock(2.0)
    stamps = [0, SECOND // 2, 10 * SECOND, 10 * SECOND + 1, 10 * SECOND + SECOND // 2]
    assert [clock.due(stamp) for stamp in stamps] == [True, True, True, False, True]


def test_every_frame_of_a_slow_camera_becomes_a_tick() -> None:
    clock = TickClock(2.0)
    assert all(clock.due(index * SECOND) for index in range(10))
