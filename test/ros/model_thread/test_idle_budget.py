"""Whether a slice of other work fits before the next beat, by a clock that the test turns."""

from __future__ import annotations

from stream_vlm_ros.model_thread.idle_budget import SpareTime


class Turned:
    """A clock that stands where the test puts it, seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def beating(slice_s: float) -> tuple[SpareTime, Turned]:
    """Two beats half a second apart, the second of them now, and one slice of `slice_s` before."""
    clock = Turned()
    spare = SpareTime(clock)
    spare.beat()
    spare.took(slice_s)
    clock.now += 0.5
    spare.beat()
    return spare, clock


def test_a_slice_fits_until_it_would_reach_into_the_next_beat() -> None:
    spare, clock = beating(0.1)
    clock.now += 0.35
    assert spare.fits()
    clock.now += 0.1
    assert not spare.fits()


def test_the_longest_of_the_last_slices_counts() -> None:
    spare, clock = beating(0.1)
    spare.took(0.4)
    spare.took(0.1)
    clock.now += 0.2
    assert not spare.fits()
    for _ in range(8):
        spare.took(0.1)
    assert spare.fits()


def test_before_two_beats_came_there_is_time() -> None:
    clock = Turned()
    spare = SpareTime(clock)
    assert spare.fits()
    spare.took(0.1)
    spare.beat()
    assert spare.fits()


def test_a_beat_that_is_overdue_is_waited_for_as_long_again_and_no_longer() -> None:
    spare, clock = beating(0.1)
    clock.now += 0.6
    assert not spare.fits()
    clock.now += spare.wait_s()
    assert spare.fits()


def test_one_slow_slice_is_forgotten_after_looks_before_which_none_fitted() -> None:
    spare, clock = beating(5.0)
    assert not spare.fits()
    looks = 0
    while not spare.fits():
        spare.looked()
        clock.now += 0.5
        spare.beat()
        looks += 1
    assert 5 < looks < 20
