"""Quiet spans between bursts of events, and slow events that last for minutes."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from stream_vlm.types import State
from stream_vlm_lab.simulation.labels.ground_truth import tick_states
from stream_vlm_lab.simulation.script.pacing import BURST_S, find_quiet_spans, plan_quiet_spans
from stream_vlm_lab.simulation.script.script import Script, WorldError
from stream_vlm_lab.simulation.script.script_writer import make_script
from stream_vlm_lab.simulation.world import World

SIZE = (160, 120)


def test_a_quiet_span_has_no_event_and_the_event_rate_between_is_unchanged() -> None:
    for seed in range(6):
        script = make_script(seed, 7200.0, quiet_minutes=10.0)
        quiet = plan_quiet_spans(seed, 7200.0, 10.0)
        assert len(quiet) >= 5
        for start, end in quiet:
            assert not any(event.t_start < end and event.t_end > start for event in script.events)
        busy_minutes = (7200 - sum(end - start for start, end in quiet)) / 60
        assert 5 < len(script.events) / busy_minutes < 15


def test_quiet_spans_last_between_half_and_twice_the_mean_with_bursts_between() -> None:
    spans = plan_quiet_spans(4, 86_400.0, 20.0)
    lengths = [end - start for start, end in spans[:-1]]
    pauses = [later - end for (_, end), (later, _) in pairwise(spans)]
    assert min(lengths) >= 600
    assert max(lengths) <= 2400
    assert BURST_S[0] <= min(pauses)
    assert max(pauses) <= BURST_S[1]


def test_planned_quiet_spans_are_found_in_the_script() -> None:
    script = make_script(4, 3600.0, quiet_minutes=8.0)
    found = find_quiet_spans(script)
    for start, end in plan_quiet_spans(4, 3600.0, 8.0):
        assert any(first <= start and end <= last for first, last in found) or end - start < 60
    times = [moment for event in script.events for moment in (event.t_start, event.t_end)]
    assert all(not start < moment < end for start, end in found for moment in times)


def test_events_of_a_long_script_never_overlap_and_lead_to_the_stored_states() -> None:
    script = make_script(9, 43_200.0, quiet_minutes=30.0)
    for earlier, later in zip(script.events, script.events[1:], strict=False):
        assert later.t_start - earlier.t_end >= 1.0
    state = script.states[0]
    for event, after in zip(script.events, script.states[1:], strict=True):
        state = state.after(event)
        assert state == after


def test_views_of_hours_need_no_more_memory_than_views_of_minutes() -> None:
    world = World(6, 43_200.0, (96, 64), quiet_minutes=5.0)
    moments = [event.t_start + 0.3 for event in world.script.events]
    assert len(moments) > 180

    def view_all(some: list[float]) -> None:
        for t_s in some:
            world.view(t_s)

    view_all(moments[:60])
    tracemalloc.start()
    view_all(moments[60:120])
    before = tracemalloc.get_traced_memory()[0]
    view_all(moments[120:180])
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 2_000_000, f"{grown} more bytes after 60 more pictures"


def test_a_view_late_in_a_day_is_repeatable() -> None:
    world = World(6, 86_400.0, (96, 64), quiet_minutes=60.0)
    assert np.array_equal(
        world.view(80_000.0).image,
        World(6, 86_400.0, (96, 64), quiet_minutes=60.0).view(80_000.0).image,
    )


def test_too_long_quiet_spans_are_refused() -> None:
    with pytest.raises(WorldError, match="quiet_minutes: 1000"):
        make_script(1, 60.0, quiet_minutes=1000.0)


@pytest.fixture(scope="module")
def scripts() -> list[Script]:
    return [make_script(seed, 1800.0, longest_event_s=180.0) for seed in range(12)]


def test_slow_events_last_from_seconds_to_minutes(scripts: list[Script]) -> None:
    lengths = np.array(
        [event.t_end - event.t_start for script in scripts for event in script.events]
    )
    assert 60 < lengths.max() <= 180.001
    assert 0.3 < (lengths <= 5.6).mean() < 0.75
    assert (lengths > 30).mean() > 0.08


def test_slow_events_keep_gaps_and_the_order_of_their_times(scripts: list[Script]) -> None:
    for script in scripts:
        assert all(
            later.t_start - earlier.t_end >= 1.0
            for earlier, later in zip(script.events, script.events[1:], strict=False)
        )
        for event in script.events:
            assert event.t_start <= event.t_approached <= event.t_end
            assert event.t_start <= event.t_contact <= event.t_end
            assert (event.t_end == event.t_start) == (event.kind == "lamp")


def test_a_slow_event_is_standby_throughout_and_reported_once(scripts: list[Script]) -> None:
    script = scripts[0]
    event = max(script.events, key=lambda event: event.t_end - event.t_start)
    during = [tick for tick in tick_states(script, 2.0) if event.t_start <= tick.t_s < event.t_end]
    assert len(during) > 60
    assert all(tick.state is State.STANDBY for tick in during)
    assert sum(tick.state is State.RESPONSE for tick in tick_states(script, 2.0)) == len(
        script.events
    )


def test_a_slowly_entering_person_is_invisible_at_the_start_and_moving_in_the_middle() -> None:
    checked = 0
    for seed in range(12):
        world = World(seed, 600.0, SIZE, longest_event_s=60.0)
        for event in world.script.events:
            if event.action == "enters" and event.t_end - event.t_start > 15:
                assert not (world.view(event.t_start).instances == event.instance).any()
                middle = world.view((event.t_start + event.t_end) / 2)
                assert (middle.instances == event.instance).any()
                assert next(
                    thing for thing in middle.things if thing.instance == event.instance
                ).moving
                checked += 1
                break
    assert checked >= 3


def test_slow_events_fit_between_quiet_spans() -> None:
    script = make_script(4, 7200.0, quiet_minutes=10.0, longest_event_s=300.0)
    assert len(script.events) > 10
    assert script.events[-1].t_end > 3600
    assert max(event.t_end - event.t_start for event in script.events) <= 45.001


def test_too_long_events_are_refused() -> None:
    with pytest.raises(WorldError, match="longest_event_s: 601"):
        make_script(1, 60.0, longest_event_s=601.0)
