"""Whether a slice of other work fits before the next beat, by a clock that the test turns."""

from __future__ import annotations

from stream_vlm_ros.model_thread.idle_budget import IdleBudget


class Turned:
    """A clock that stands where the test puts it, seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def beating(slice_s: float) -> tuple[IdleBudget, Turned]:
    """Two beats half a second apart, the second of them now, and one slice of `slice_s` before."""
    clock = Turned()
    spare = IdleBudget(clock)
    spare.tick()
    spare.record(slice_s)
    clock.now += 0.5
    spare.tick()
    return spare, clock


def test_a_slice_fits_until_it_would_reach_into_the_next_beat() -> None:
    spare, clock = beating(0.1)
    clock.now += 0.35
    assert spare.has_room()
    clock.now += 0.1
    assert not spare.has_room()


def test_the_longest_of_the_last_slices_counts() -> None:
    spare, clock = beating(0.1)
    spare.record(0.4)
    spare.record(0.1)
    clock.now += 0.2
    assert not spare.has_room()
    for _ in range(8):
        spare.record(0.1)
    assert spare.has_room()


def test_before_two_beats_came_there_is_time() -> None:
    clock = Turned()
    spare = IdleBudget(clock)
    assert spare.has_room()
    spare.record(0.1)
    spare.tick()
    assert spare.has_room()


def test_a_beat_that_is_overdue_is_waited_for_as_long_again_and_no_longer() -> None:
    spare, clock = beating(0.1)
    clock.now += 0.6
    assert not spare.has_room()
    clock.now += spare.wait_s()
    assert spare.has_room()


def test_one_slow_slice_is_forgotten_after_looks_before_which_none_fitted() -> None:
    spare, clock = beating(5.0)
    assert not spare.has_room()
    looks = 0
    while not spare.has_room():
        spare.step_started()
        clock.now += 0.5
        spare.tick()
        looks += 1
    assert 5 < looks < 20
