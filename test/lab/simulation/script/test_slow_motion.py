"""Events that last minutes: the same motion under way for long, with borders as exact as those of
quick ones.
"""

from __future__ import annotations

import numpy as np
import pytest

from stream_vlm.types import State
from stream_vlm_lab.simulation.labels.ground_truth import tick_states
from stream_vlm_lab.simulation.script.script import Script, WorldError, make_script
from stream_vlm_lab.simulation.world import World

SIZE = (160, 120)


@pytest.fixture(scope="module")
def scripts() -> list[Script]:
    return [make_script(seed, 1800.0, longest_event_s=180.0) for seed in range(12)]


def test_events_last_from_a_moment_to_minutes(scripts: list[Script]) -> None:
    lengths = np.array(
        [event.t_end - event.t_start for script in scripts for event in script.events]
    )
    assert 60 < lengths.max() <= 180.001
    assert 0.3 < (lengths <= 5.6).mean() < 0.75
    assert (lengths > 30).mean() > 0.08


def test_slow_events_keep_their_distance_and_their_order_of_moments(scripts: list[Script]) -> None:
    for script in scripts:
        assert all(
            later.t_start - earlier.t_end >= 1.0
            for earlier, later in zip(script.events, script.events[1:], strict=False)
        )
        for event in script.events:
            assert event.t_start <= event.t_approached <= event.t_end
            assert event.t_start <= event.t_contact <= event.t_end
            assert (event.t_end == event.t_start) == (event.kind == "lamp")


def test_a_slow_event_is_under_way_all_the_time_and_told_once(scripts: list[Script]) -> None:
    script = scripts[0]
    event = max(script.events, key=lambda event: event.t_end - event.t_start)
    during = [tick for tick in tick_states(script, 2.0) if event.t_start <= tick.t_s < event.t_end]
    assert len(during) > 60
    assert all(tick.state is State.STANDBY for tick in during)
    assert sum(tick.state is State.RESPONSE for tick in tick_states(script, 2.0)) == len(
        script.events
    )


def test_who_enters_slowly_is_unseen_before_and_seen_soon_after_and_comes_to_rest_at_the_end() -> (
    None
):
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


def test_slow_events_find_a_place_between_quiet_stretches() -> None:
    script = make_script(4, 7200.0, quiet_minutes=10.0, longest_event_s=300.0)
    assert len(script.events) > 10
    assert script.events[-1].t_end > 3600
    assert max(event.t_end - event.t_start for event in script.events) <= 45.001


def test_events_that_would_last_too_long_are_refused() -> None:
    with pytest.raises(WorldError, match="longest_event_s: 601"):
        make_script(1, 60.0, longest_event_s=601.0)
