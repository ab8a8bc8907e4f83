"""Rendered streams: repeatable in any order, and labels that match the pixels."""

from collections.abc import Callable

import numpy as np
import pytest

from stream_vlm_lab.simulation.script.script import Event, WorldError
from stream_vlm_lab.simulation.world import World

SIZES = [(192, 128), (240, 180), (256, 144)]
SEEDS = range(24)


@pytest.fixture(scope="module", params=SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def worlds(request: pytest.FixtureRequest) -> list[World]:
    return [World(seed, 40.0, request.param) for seed in SEEDS]


def pixels(world: World, t_s: float, *instances: int) -> int:
    return int(np.isin(world.view(t_s).instances, instances).sum())


def events_where(worlds: list[World], fits: Callable[[Event], bool]) -> list[tuple[World, Event]]:
    found = [(world, event) for world in worlds for event in world.script.events if fits(event)]
    assert found, "no such event in the sample; take more seeds"
    return found


def by_hand(event: Event) -> bool:
    return event.label.startswith("hand")


def test_views_are_the_same_in_any_order() -> None:
    first, second = World(11, 30.0, (160, 120)), World(11, 30.0, (160, 120))
    times = [0.0, 3.3, 12.25, 29.9, 7.5]
    forwards = {t_s: first.view(t_s) for t_s in sorted(times)}
    for t_s in times:
        again = second.view(t_s)
        assert np.array_equal(again.image, forwards[t_s].image)
        assert np.array_equal(again.instances, forwards[t_s].instances)
        assert again.things == forwards[t_s].things


def test_a_view_is_rgb_of_the_given_size_with_an_instance_map_of_the_same_size() -> None:
    view = World(2, 10.0, (192, 128)).view(1.0)
    assert view.image.shape == (128, 192, 3)
    assert view.image.dtype == np.uint8
    assert view.image.flags["C_CONTIGUOUS"]
    assert view.instances.shape == (128, 192)
    assert view.instances.dtype == np.int16


def test_things_are_listed_exactly_when_they_have_pixels(worlds: list[World]) -> None:
    for world in worlds:
        for t_s in (0.0, 13.7, 26.1):
            view = world.view(t_s)
            assert [thing.instance for thing in view.things] == [
                int(i) for i in np.unique(view.instances) if i > 0
            ]
            assert all(0 < thing.visible_fraction <= 1 for thing in view.things)


def test_an_entering_thing_is_invisible_until_the_start_and_visible_right_after(
    worlds: list[World],
) -> None:
    for world, event in events_where(worlds, lambda event: event.action in ("enters", "rolls in")):
        assert pixels(world, event.t_start, event.instance) == 0
        assert pixels(world, event.t_start + 0.15, event.instance) > 0


def test_a_leaving_thing_is_visible_until_just_before_the_end(worlds: list[World]) -> None:
    for world, event in events_where(
        worlds, lambda event: event.action in ("leaves", "rolls away")
    ):
        assert pixels(world, event.t_end - 0.15, event.instance) > 0
        assert pixels(world, event.t_end - 1e-4, event.instance) == 0
        assert pixels(world, event.t_end, event.instance) == 0


def test_a_hand_is_visible_only_from_start_to_end(
    worlds: list[World],
) -> None:
    for world, event in events_where(worlds, by_hand):
        mine = (event.actor, event.instance) if event.action == "puts down" else (event.actor,)
        assert pixels(world, event.t_start, *mine) == 0
        assert pixels(world, event.t_contact, event.actor) > 0
        assert pixels(world, event.t_end - 1e-4, event.actor) == 0


def test_a_taken_thing_disappears_with_the_hand_and_a_put_down_thing_stays(
    worlds: list[World],
) -> None:
    for world, event in events_where(worlds, by_hand):
        assert (pixels(world, event.t_end, event.instance) > 0) == (event.action == "puts down")


def test_a_person_who_has_entered_is_not_cut_off_at_the_left_or_right(worlds: list[World]) -> None:
    for world, event in events_where(worlds, lambda event: event.action == "enters"):
        columns = np.flatnonzero((world.view(event.t_end).instances == event.instance).any(axis=0))
        assert columns[0] > 0
        assert columns[-1] < world.size[0] - 1


def test_a_picked_up_thing_is_held_after_the_contact(worlds: list[World]) -> None:
    for world, event in events_where(worlds, lambda event: event.action == "picks up"):
        things = {thing.instance: thing for thing in world.view(event.t_end).things}
        if event.instance in things:
            assert things[event.instance].held
        before = {thing.instance: thing for thing in world.view(event.t_contact - 0.01).things}
        assert event.instance not in before or not before[event.instance].held


def test_resting_things_do_not_move_between_events(worlds: list[World]) -> None:
    compared = 0
    for world in worlds:
        if (
            world.script.scene.camera.pan
            or world.script.scene.camera.shake
            or world.script.scene.person_height
        ):
            continue
        for earlier, later in zip(world.script.events, world.script.events[1:], strict=False):
            first, last = world.view(earlier.t_end), world.view(later.t_start - 1e-3)
            assert np.array_equal(first.instances, last.instances)
            compared += 1
    assert compared


def test_doors_and_lamps_have_the_right_state(worlds: list[World]) -> None:
    after = {"opens": "open", "closes": "closed", "turns on": "on", "turns off": "off"}
    for world, event in events_where(worlds, lambda event: event.kind in ("door", "lamp")):
        fixture = next(
            thing for thing in world.view(event.t_end).things if thing.kind == event.kind
        )
        assert fixture.state == after[event.action]


def test_the_picture_becomes_brighter_when_a_lamp_turns_on(worlds: list[World]) -> None:
    for world, event in events_where(worlds, lambda event: event.kind == "lamp"):
        brighter = (
            world.view(event.t_end).image.mean() - world.view(event.t_start - 1e-3).image.mean()
        )
        assert (brighter > 0) == (event.action == "turns on")
        assert abs(brighter) > 3


def test_the_pixels_of_a_door_change_from_start_to_end(worlds: list[World]) -> None:
    for world, event in events_where(worlds, lambda event: event.kind == "door"):
        before, after = world.view(event.t_start), world.view(event.t_end)
        door = (before.instances == event.instance) & (after.instances == event.instance)
        change = np.abs(before.image.astype(int) - after.image.astype(int))[door].mean()
        assert change > 8


def test_things_in_events_are_large_enough_to_see(worlds: list[World]) -> None:
    for world in worlds:
        for event in world.script.events:
            if event.place is None or event.action == "enters":
                continue
            t_s = (
                event.t_start - 1e-3
                if event.action in ("takes", "picks up", "rolls away", "leaves")
                else event.t_end
            )
            mine = world.view(t_s).instances == event.instance
            thing = next(
                (thing for thing in world.view(t_s).things if thing.instance == event.instance),
                None,
            )
            if thing is None or thing.visible_fraction < 0.95:
                continue
            tall, wide = int(mine.any(axis=1).sum()), int(mine.any(axis=0).sum())
            assert max(tall, wide) >= world.size[1] / 12


@pytest.mark.parametrize(
    "size", [(0, 0), (63, 64), (321, 240), (5000, 240), (64, 640), (1200, 128)]
)
def test_a_size_out_of_range_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(WorldError, match=f"size: {size[0]}x{size[1]} is refused"):
        World(0, 10.0, size)


@pytest.mark.parametrize("t_s", [-0.1, 10.1, float("nan")])
def test_a_time_outside_the_stream_is_refused(t_s: float) -> None:
    with pytest.raises(WorldError, match="outside the stream"):
        World(0, 10.0, (160, 120)).view(t_s)
