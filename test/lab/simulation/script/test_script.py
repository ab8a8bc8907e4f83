"""Scripts of simulated streams: repeatable, possible, and one event at a time."""

import pytest

from stream_vlm_lab.simulation.scene.captions import PORTABLE_KINDS, parse_label
from stream_vlm_lab.simulation.script.script import Script, WorldError
from stream_vlm_lab.simulation.script.script_writer import make_script

SEEDS = range(60)


@pytest.fixture(scope="module")
def scripts() -> list[Script]:
    return [make_script(seed, 180.0) for seed in SEEDS]


def test_the_same_seed_writes_the_same_script() -> None:
    assert make_script(7, 90.0) == make_script(7, 90.0)


def test_different_seeds_write_different_scripts() -> None:
    assert make_script(7, 90.0).events != make_script(8, 90.0).events


def test_events_never_overlap_and_are_at_least_a_second_apart(scripts: list[Script]) -> None:
    for script in scripts:
        for earlier, later in zip(script.events, script.events[1:], strict=False):
            assert later.t_start - earlier.t_end >= 1.0


def test_every_event_is_complete_before_the_stream_ends(scripts: list[Script]) -> None:
    assert all(
        0 < event.t_start <= event.t_end <= script.duration_s - 1
        for script in scripts
        for event in script.events
    )


def test_every_label_agrees_with_its_event(scripts: list[Script]) -> None:
    for script in scripts:
        for event in script.events:
            label = parse_label(event.label)
            assert label is not None
            assert (label.action, label.kind, label.colour) == (
                event.action,
                event.kind,
                event.colour,
            )


def test_only_lamp_events_have_no_duration(scripts: list[Script]) -> None:
    for script in scripts:
        for event in script.events:
            assert (event.t_end == event.t_start) == (event.kind == "lamp")


def test_visible_things_of_one_kind_differ_in_colour(scripts: list[Script]) -> None:
    for script in scripts:
        for state in script.states:
            there = [
                script.things[instance] for instance in (*state.resting, *state.holding.values())
            ]
            names = [
                (thing.kind, thing.colour)
                for thing in there
                if thing.kind in ("person", *PORTABLE_KINDS)
            ]
            assert len(names) == len(set(names))


def test_only_present_things_are_taken_and_only_held_things_are_put_down(
    scripts: list[Script],
) -> None:
    for script in scripts:
        for before, event in zip(script.states, script.events, strict=False):
            if event.action in ("takes", "picks up", "rolls away", "leaves"):
                assert event.instance in before.resting
            elif event.action == "puts down" and event.label.startswith("person"):
                assert before.holding[event.actor] == event.instance
            elif event.kind == "door":
                assert before.door_open == (event.action == "closes")
            elif event.kind == "lamp":
                assert before.lamp_on == (event.action == "turns off")


def test_every_action_and_every_view_occurs(scripts: list[Script]) -> None:
    captions = {
        (event.action, event.label.split()[0] == "hand")
        for script in scripts
        for event in script.events
    }
    assert len(captions) == 12
    assert {script.scene.view for script in scripts} == {
        "room",
        "corridor",
        "overhead",
        "tabletop",
        "desk",
    }


@pytest.mark.parametrize("wanted", [4.0, 8.0, 12.0])
def test_the_event_rate_is_close_to_the_requested_one(wanted: float) -> None:
    found = sum(
        len(make_script(seed, 300.0, events_per_minute=wanted).events) for seed in range(30)
    ) / (30 * 5)
    assert wanted * 0.7 < found < wanted * 1.4


def test_an_event_rate_of_zero_gives_no_events() -> None:
    assert make_script(3, 60.0, events_per_minute=0).events == ()


def test_some_gaps_between_events_are_long(scripts: list[Script]) -> None:
    gaps = [
        later.t_start - earlier.t_end
        for script in scripts
        for earlier, later in zip(script.events, script.events[1:], strict=False)
    ]
    assert max(gaps) > 20
    assert sorted(gaps)[len(gaps) // 2] < 6


@pytest.mark.parametrize(
    ("seed", "duration_s", "density", "named"),
    [
        (-1, 60.0, 10.0, "seed: -1"),
        (1.5, 60.0, 10.0, "seed: 1.5"),
        (0, 0.0, 10.0, "duration: 0"),
        (0, float("nan"), 10.0, "duration: nan"),
        (0, 1e9, 10.0, "duration: 1000000000"),
        (0, 60.0, -1.0, "events_per_minute: -1"),
        (0, 60.0, 1000.0, "events_per_minute: 1000"),
    ],
)
def test_arguments_out_of_range_are_refused(
    seed: int, duration_s: float, density: float, named: str
) -> None:
    with pytest.raises(WorldError, match=named):
        make_script(seed, duration_s, events_per_minute=density)
