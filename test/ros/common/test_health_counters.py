"""The counters that /diagnostics shows: faults, rates, lost messages and step times."""

from __future__ import annotations

import pytest

from stream_vlm_ros.common.health_counters import CameraHealth, FaultLog, StepHealth, percentile


def test_a_fault_is_logged_once_and_counted_every_time() -> None:
    log: list[str] = []
    faults = FaultLog(log.append)
    for late_s in (0.5, 12, 7):
        faults.report(f"front: {late_s} s late")
    faults.report("front: no picture")
    assert log == ["front: 0.5 s late", "front: no picture"]
    assert (faults.count, faults.recent(60.0)) == (4, "front: no picture")


def test_a_camera_without_messages_has_no_rate() -> None:
    health = CameraHealth("/front", print)
    assert (health.has_arrivals, health.rate_hz()) == (False, 0.0)


@pytest.mark.parametrize(("percent", "value"), [(0, 1.0), (50, 6.0), (95, 10.0), (100, 10.0)])
def test_a_percentile_is_one_of_the_values(percent: float, value: float) -> None:
    assert percentile([float(number) for number in range(1, 11)], percent) == value


def test_without_values_a_percentile_is_zero() -> None:
    assert percentile([], 95) == 0.0


def test_forget_durations_keeps_the_number_of_steps() -> None:
    steps = StepHealth(FaultLog(print))
    steps.record(9.0)
    steps.forget_durations()
    assert (steps.steps, steps.percentile_ms(50)) == (1, 0.0)
    steps.record(0.1)
    assert (steps.steps, steps.percentile_ms(95)) == (2, 100.0)


def test_lost_messages_are_recent_only_if_their_number_grew() -> None:
    health = CameraHealth("/front", print)
    health.note_lost(0)
    assert not health.lost_within(60.0)
    health.note_lost(3)
    assert health.lost_within(60.0)
    assert health.lost_in_transport == 3
