"""Rooms with other things or backgrounds, most of which no training shows: the same events before the same labels, other pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stream_vlm.cli import main
from stream_vlm.world.language import PORTABLE_KINDS
from stream_vlm.world.objects import Ball
from stream_vlm.world.render import World
from stream_vlm.world.script import WorldError
from stream_vlm.world.sprite import Sprite
from stream_vlm.world.unseen import draw_unseen
from stream_vlm.world.varied import BALLS, draw_varied

SIZE = (192, 128)


def test_an_unseen_look_changes_pixels_and_neither_events_nor_labels() -> None:
    for look in ("varied objects", "unseen objects", "unseen backgrounds"):
        seen, unseen = World(3, 20.0, SIZE), World(3, 20.0, SIZE, look=look)
        assert seen.script.events == unseen.script.events and seen.script.states == unseen.script.states
        assert not np.array_equal(seen.view(5.0).image, unseen.view(5.0).image)


def test_unseen_backgrounds_leave_every_thing_where_it_is() -> None:
    seen, unseen = World(3, 20.0, SIZE), World(3, 20.0, SIZE, look="unseen backgrounds")
    assert np.array_equal(seen.view(5.0).instances, unseen.view(5.0).instances)


def test_unseen_objects_change_only_pixels_of_portable_things() -> None:
    seen, unseen = World(3, 20.0, SIZE), World(3, 20.0, SIZE, look="unseen objects")
    before, after = seen.view(5.0), unseen.view(5.0)
    portable = [thing.instance for thing in before.things if thing.kind in PORTABLE_KINDS]
    assert portable
    touched = np.isin(before.instances, portable) | np.isin(after.instances, portable)
    others = (before.instances == after.instances) & (before.instances > 0) & ~touched
    assert [thing.kind for thing in before.things] == [thing.kind for thing in after.things]
    assert touched.any() and np.array_equal(before.instances[others], after.instances[others])


@pytest.mark.parametrize("look", ["varied objects", "unseen objects"])
@pytest.mark.parametrize("kind", PORTABLE_KINDS)
def test_every_kind_has_another_form_that_is_drawn_in_its_own_size(kind: str, look: str) -> None:
    for seed in range(60):
        world = World(seed, 20.0, SIZE, look=look)
        found = [thing for thing in world.view(0.0).things if thing.kind == kind and thing.visible_fraction > 0.9]
        if found:
            pixels = int((world.view(0.0).instances == found[0].instance).sum())
            plain = int((World(seed, 20.0, SIZE).view(0.0).instances == found[0].instance).sum())
            assert 0.3 * plain < pixels < 2.5 * plain
            return
    pytest.fail(f"no {kind} in sight of 60 worlds")


@pytest.mark.parametrize("kind", sorted(set(PORTABLE_KINDS) - {"ball"}))
def test_training_shows_several_forms_of_a_kind_and_never_the_one_that_is_kept_for_examinations(kind: str) -> None:
    red = (200, 40, 40)
    sprites = [draw_varied(kind, red, 60.0, 0.4, look) for look in range(40)]
    assert len({sprite.alpha.shape for sprite in sprites}) > 10 and len({sprite.rgb.tobytes() for sprite in sprites}) == 40
    kept = [draw_unseen(kind, red, 60.0, 0.4, look) for look in range(10)]
    apart = max(min(difference(one, other) for other in kept if other is not one) for one in kept)
    assert all(difference(sprite, other) > 2 * apart for sprite in sprites for other in kept)


def test_training_shows_balls_in_several_patterns_and_never_quarters() -> None:
    balls = {look: Ball((200, 40, 40), 60.0, 1, look).turned(0.0).rgb.tobytes() for look in ("", "unseen", *BALLS)}
    assert len(set(balls.values())) == len(balls)
    worlds = [World(seed, 60.0, SIZE, look="varied objects") for seed in range(20)]
    assert {thing.form for world in worlds for thing in world.script.things.values() if thing.kind == "ball"} == set(BALLS)


def difference(one: Sprite, other: Sprite) -> float:
    """Mean difference of two things that stand on the same spot, over all that either covers, 0..255."""
    height, width = (max(one.alpha.shape[axis], other.alpha.shape[axis]) for axis in range(2))
    canvases = np.zeros((2, height, width, 4))
    for canvas, sprite in zip(canvases, (one, other), strict=True):
        rows, columns = sprite.alpha.shape
        start = (width - columns) // 2
        canvas[height - rows :, start : start + columns] = np.dstack([sprite.rgb, sprite.alpha])
    covered = canvases[..., 3].max(axis=0) > 0
    return float(np.abs(canvases[0] - canvases[1])[covered].mean())


def test_an_unknown_look_is_refused_by_name() -> None:
    with pytest.raises(WorldError, match="look: 'upside down' is refused; use one of seen, varied objects, unseen objects"):
        World(3, 20.0, SIZE, look="upside down")


def test_the_command_shows_every_look_with_the_same_labels(tmp_path: Path) -> None:
    videos = {}
    for look in ("seen", "varied", "objects", "backgrounds"):
        folder = tmp_path / look
        arguments = ["world", "--seed", "7", "--minutes", "0.3", "--fps", "2", "--size", "96", "64", "--look", look, "--out", str(folder)]
        assert main(arguments) == 0
        labels = json.loads(next(folder.rglob("labels.json")).read_text())
        videos[next(folder.rglob("*.mp4")).read_bytes()] = labels["events"]
    seen = next(iter(videos.values()))
    assert len(videos) == 4 and seen and all(events == seen for events in videos.values())
