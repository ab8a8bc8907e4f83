"""Whether a slice of other work fits before the next tick. The test sets the clock."""

from __future__ import annotations

from stream_vlm_ros.model_thread.idle_budget import IdleBudget


class FakeClock:
    """A clock that shows the time `now`, in seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def two_ticks(slice_s: float) -> tuple[IdleBudget, FakeClock]:
    """A budget after two ticks with a period of 0.5 s and one slice; the second tick is now."""
    clock = FakeClock()
    budget = IdleBudget(clock)
    budget.tick()
    budget.record(slice_s)
    clock.now += 0.5
    budget.tick()
    return budget, clock


def test_there_is_room_while_a_slice_would_end_before_the_next_tick() -> None:
    budget, clock = two_ticks(0.1)
    clock.now += 0.35
    assert budget.has_room()
    clock.now += 0.1
    assert not budget.has_room()


def test_the_longest_of_the_last_slices_counts() -> None:
    budget, clock = two_ticks(0.1)
    budget.record(0.4)
    budget.record(0.1)
    clock.now += 0.2
    assert not budget.has_room()
    for _ in range(8):
        budget.record(0.1)
    assert budget.has_room()


def test_there_is_room_before_the_second_tick() -> None:
    clock = FakeClock()
    budget = IdleBudget(clock)
    assert budget.has_room()
    budget.record(0.1)
    budget.tick()
    assert budget.has_room()


def test_there_is_no_room_while_a_tick_is_late_by_less_than_a_period() -> None:
    budget, clock = two_ticks(0.1)
    clock.now += 0.6
    assert not budget.has_room()
    clock.now += 0.3
    assert not budget.has_room()


def test_there_is_room_again_once_a_tick_is_a_full_period_late() -> None:
    budget, clock = two_ticks(0.1)
    clock.now += 0.6
    clock.now += budget.wait_s()
    assert budget.has_room()


def test_a_slow_slice_is_forgotten_after_steps_without_room() -> None:
    budget, clock = two_ticks(5.0)
    assert not budget.has_room()
    steps = 0
    while not budget.has_room():
        budget.step_started()
        clock.now += 0.5
        budget.tick()
        steps += 1
        assert steps < 20
    assert steps > 5
