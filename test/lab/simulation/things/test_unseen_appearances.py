"""Other appearances of rooms: the same events and labels, but other pixels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stream_vlm.cli import main
from stream_vlm_lab.simulation.drawing.background.invented_textures import INVENTED_TEXTURES
from stream_vlm_lab.simulation.drawing.background.textures import paint_texture
from stream_vlm_lab.simulation.drawing.background.unseen_textures import UNSEEN_TEXTURES
from stream_vlm_lab.simulation.raster.sprite import Sprite
from stream_vlm_lab.simulation.scene.captions import PORTABLE_KINDS
from stream_vlm_lab.simulation.scene.palette import Rgb
from stream_vlm_lab.simulation.script.script import WorldError
from stream_vlm_lab.simulation.things.ball import Ball
from stream_vlm_lab.simulation.things.held_out import draw_unseen
from stream_vlm_lab.simulation.things.procedural import BALLS as INVENTED_BALLS
from stream_vlm_lab.simulation.things.procedural import draw_invented
from stream_vlm_lab.simulation.things.varied import BALLS, draw_varied
from stream_vlm_lab.simulation.world import World

SIZE = (192, 128)


def test_another_appearance_changes_pixels_but_no_events() -> None:
    for look in ("varied objects", "invented", "unseen objects", "unseen backgrounds"):
        seen, unseen = World(3, 20.0, SIZE), World(3, 20.0, SIZE, look=look)
        assert seen.script.events == unseen.script.events
        assert seen.script.states == unseen.script.states
        assert not np.array_equal(seen.view(5.0).image, unseen.view(5.0).image)


def test_unseen_backgrounds_do_not_change_the_instance_map() -> None:
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
    assert touched.any()
    assert np.array_equal(before.instances[others], after.instances[others])


@pytest.mark.parametrize("look", ["varied objects", "invented", "unseen objects"])
@pytest.mark.parametrize("kind", PORTABLE_KINDS)
def test_the_other_forms_of_a_kind_have_about_the_same_size(kind: str, look: str) -> None:
    for seed in range(60):
        world = World(seed, 20.0, SIZE, look=look)
        found = [
            thing
            for thing in world.view(0.0).things
            if thing.kind == kind and thing.visible_fraction > 0.9
        ]
        if found:
            pixels = int((world.view(0.0).instances == found[0].instance).sum())
            plain = int((World(seed, 20.0, SIZE).view(0.0).instances == found[0].instance).sum())
            assert 0.3 * plain < pixels < 2.5 * plain
            return
    pytest.fail(f"no {kind} is visible in 60 worlds")


@pytest.mark.parametrize("draw", [draw_varied, draw_invented])
@pytest.mark.parametrize("kind", sorted(set(PORTABLE_KINDS) - {"ball"}))
def test_training_uses_several_forms_of_a_kind_but_never_the_held_out_one(
    kind: str, draw: Callable[[str, Rgb, float, float, int], Sprite]
) -> None:
    red = (200, 40, 40)
    sprites = [draw(kind, red, 60.0, 0.4, look) for look in range(40)]
    assert len({sprite.solid_box() for sprite in sprites}) > 10
    assert len({sprite.rgb.tobytes() for sprite in sprites}) == 40
    kept = [draw_unseen(kind, red, 60.0, 0.4, look) for look in range(10)]
    apart = max(min(difference(one, other) for other in kept if other is not one) for one in kept)
    assert all(difference(sprite, other) > 2 * apart for sprite in sprites for other in kept)


def test_training_uses_balls_with_several_patterns_but_never_quarters() -> None:
    balls = {
        look: Ball((200, 40, 40), 60.0, 1, look).turned(0.0).rgb.tobytes()
        for look in ("", "unseen", *BALLS, *INVENTED_BALLS)
    }
    assert len(set(balls.values())) == len(balls)
    for look, patterns in (("varied objects", BALLS), ("invented", INVENTED_BALLS)):
        worlds = [World(seed, 60.0, SIZE, look=look) for seed in range(20)]
        assert {
            thing.form
            for world in worlds
            for thing in world.script.things.values()
            if thing.kind == "ball"
        } == set(patterns)


def test_training_uses_every_invented_texture_and_no_held_out_one() -> None:
    scenes = [World(seed, 20.0, SIZE, look="invented").script.scene for seed in range(60)]
    assert {
        texture for scene in scenes for texture in (scene.wall_texture, scene.floor_texture)
    } == set(INVENTED_TEXTURES)
    assert not set(INVENTED_TEXTURES) & set(UNSEEN_TEXTURES)


@pytest.mark.parametrize("texture", sorted(INVENTED_TEXTURES))
def test_an_invented_texture_differs_for_every_seed(texture: str) -> None:
    sheets = [
        paint_texture(texture, (150, 140, 130), 120, 90, 18.0, np.random.default_rng(seed))
        for seed in range(8)
    ]
    assert len({sheet.tobytes() for sheet in sheets}) == 8
    assert min(float(sheet.std()) for sheet in sheets) > 1.0
    plain = paint_texture("plain", (150, 140, 130), 120, 90, 18.0, np.random.default_rng(0))
    assert max(float(np.abs(sheet.astype(float) - plain).mean()) for sheet in sheets) > 5.0


def difference(one: Sprite, other: Sprite) -> float:
    """Mean difference (0..255) of two sprites at the same position, over their pixels."""
    top, left = min(one.top, other.top), min(one.left, other.left)
    bottom, right = (
        max(sprite.alpha.shape[axis] + (sprite.top, sprite.left)[axis] for sprite in (one, other))
        for axis in range(2)
    )
    canvases = np.zeros((2, bottom - top, right - left, 4))
    for canvas, sprite in zip(canvases, (one, other), strict=True):
        rows, columns = sprite.alpha.shape
        canvas[sprite.top - top :, sprite.left - left :][:rows, :columns] = np.dstack(
            [sprite.rgb, sprite.alpha]
        )
    covered = canvases[..., 3].max(axis=0) > 0
    return float(np.abs(canvases[0] - canvases[1])[covered].mean())


def test_an_unknown_appearance_is_refused() -> None:
    with pytest.raises(
        WorldError,
        match=(
            "look: 'upside down' is refused; use one of seen, varied objects, invented, unseen"
            " objects"
        ),
    ):
        World(3, 20.0, SIZE, look="upside down")


def test_the_command_writes_every_appearance_with_the_same_labels(tmp_path: Path) -> None:
    videos = {}
    for look in ("seen", "varied", "invented", "objects", "backgrounds"):
        folder = tmp_path / look
        arguments = [
            "simulate",
            "--seed",
            "7",
            "--minutes",
            "0.3",
            "--fps",
            "2",
            "--size",
            "96",
            "64",
            "--look",
            look,
            "--out",
            str(folder),
        ]
        assert main(arguments) == 0
        labels = json.loads(next(folder.rglob("labels.json")).read_text())
        videos[next(folder.rglob("*.mp4")).read_bytes()] = labels["events"]
    seen = next(iter(videos.values()))
    assert len(videos) == 5
    assert seen
    assert all(events == seen for events in videos.values())
