"""Draws random scenes: views, rooms, furniture, light and cameras."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stream_vlm_lab.simulation.scene.palette import muted_colour, wood_colour
from stream_vlm_lab.simulation.scene.scene import (
    NARROWEST_ASPECT,
    VIEWS,
    Area,
    Camera,
    Decoration,
    Fixture,
    Scene,
    Surface,
    top_to_front,
)


def make_scene(rng: np.random.Generator) -> Scene:
    """Draw a random scene."""
    view = str(rng.choice(VIEWS, p=[0.34, 0.14, 0.2, 0.2, 0.12]))
    if view in ("tabletop", "desk"):
        return _table_scene(view, rng)
    return _room_scene(view, rng)


def _camera(pitch_deg: float, rng: np.random.Generator) -> Camera:
    moving = rng.random()
    return Camera(
        pitch=float(np.deg2rad(pitch_deg)),
        pan=float(rng.uniform(0.01, 0.045)) if moving < 0.3 else 0.0,
        pan_period_s=float(rng.uniform(25, 70)),
        shake=float(rng.uniform(0.0008, 0.004)) if rng.random() < 0.3 else 0.0,
        noise=float(rng.uniform(0.8, 6.0)),
        blur=float(rng.uniform(0.5, 1.1)) if rng.random() < 0.4 else 0.0,
        vignette=float(rng.uniform(0, 0.35)),
        warmth=float(rng.uniform(0.86, 1.16)),
        saturation=float(rng.uniform(0.6, 1.12)),
        gamma=float(rng.uniform(0.8, 1.25)),
        exposure=float(rng.uniform(0.9, 1.25)),
        exposure_drift=float(rng.uniform(0, 0.09)),
        exposure_period_s=float(rng.uniform(12, 60)),
        shadows=float(rng.uniform(0.08, 0.28)) if rng.random() < 0.4 else 0.0,
        shadow_period_s=float(rng.uniform(20, 60)),
        jpeg_quality=int(rng.integers(35, 80)) if rng.random() < 0.15 else 0,
    )


def _style_seed(rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 31))


def _room_scene(view: str, rng: np.random.Generator) -> Scene:
    overhead = view == "overhead"
    if overhead:
        pitch = rng.uniform(38, 60)
        skyline = float(rng.uniform(0.24, 0.36)) if rng.random() < 0.6 else -0.1
        vanish = float(rng.uniform(-1.2, -0.6))
        person_height = float(rng.uniform(0.55, 0.85))
        floor = Area(0, max(0.52, skyline + 0.2), 1, 0.96)
    else:
        pitch = rng.uniform(3, 16)
        # With a near wall, doors and lamps are as large as people. A camera at table height cuts
        # off people's feet.
        near_wall = rng.random() < 0.55
        skyline = float(rng.uniform(0.64, 0.8) if near_wall else rng.uniform(0.5, 0.62))
        vanish = skyline - float(rng.uniform(0.3, 0.45) if near_wall else rng.uniform(0.2, 0.32))
        nearest = float(rng.choice([0.97, 1.08, 1.25], p=[0.7, 0.15, 0.15]))
        person_height = float(rng.uniform(0.6, 0.84))
        floor = Area(0, skyline + 0.62 * (nearest - skyline), 1, nearest)
    wooden = rng.random() < 0.5
    floor_rgb = wood_colour(rng) if wooden else muted_colour(rng, 0.25, 0.85)
    wall_rgb = muted_colour(rng, 0.35, 0.97)
    wall_texture = str(
        rng.choice(
            ["plain", "gradient", "bricks", "stripes", "panels", "tiles", "mottled", "marble"]
        )
    )
    floor_texture = (
        "planks"
        if wooden
        else str(
            rng.choice(["tiles", "carpet", "concrete", "checker", "plain", "speckle", "marble"])
        )
    )
    camera = _camera(float(pitch), rng)
    base = Scene(
        view, camera, _style_seed(rng), skyline, vanish, person_height,
        float(rng.uniform(0.115, 0.17)), wall_rgb, floor_rgb, wall_texture, floor_texture, floor,
        (), (), (),
    )  # fmt: skip
    return _furnish(base, rng)


def _furnish(scene: Scene, rng: np.random.Generator) -> Scene:
    """Put fixtures, furniture and clutter into a room, at most one in each slot.

    So nothing hides a door or a lamp.
    """
    slots = [(index + 0.5) / 4 for index in range(4)]
    rng.shuffle(slots)
    fixtures: list[Fixture] = []
    decorations: list[Decoration] = []
    surfaces: list[Surface] = []
    wall_in_view = scene.skyline > 0.15
    tall = scene.height_at(scene.skyline)
    if wall_in_view and rng.random() < (0.9 if scene.view == "corridor" else 0.55):
        u = slots.pop()
        height = min(
            tall * 1.2 * (0.75 + 0.25 * float(np.cos(scene.camera.pitch))), scene.skyline - 0.02
        )
        half = 0.5 * max(0.13, 0.48 * height) / NARROWEST_ASPECT
        u = float(np.clip(u, half + 0.08 + scene.camera.pan, 1 - half - 0.08 - scene.camera.pan))
        area = Area(u - half, scene.skyline - height, u + half, scene.skyline + 0.004)
        rgb = wood_colour(rng) if rng.random() < 0.5 else muted_colour(rng, 0.3, 0.95)
        fixtures.append(
            Fixture(1, "door", str(rng.choice(["into", "out"])), area, rgb, _style_seed(rng))
        )
    if rng.random() < (0.6 if scene.view != "overhead" else 0.35):
        u = slots.pop()
        fixtures.append(_room_lamp(scene, u, tall, rng))
    if rng.random() < 0.68:
        surface, table = _table(scene, slots.pop(), rng)
        clear = not any(_overlap(table.area, fixture.area, 0.02) for fixture in fixtures)
        if clear and surface.area.bottom < 0.93:
            surfaces.append(surface)
            decorations.append(table)
    if wall_in_view:
        for u in slots:
            # Moving decorations are painted over fixed ones, so they must not overlap the table.
            found = _wall_decorations(scene, u, rng)
            decorations[:0] = [
                item
                for item in found
                if item.kind in ("window", "poster", "shelf", "sofa")
                or not any(_overlap(item.area, other.area, 0) for other in decorations)
            ]
    if rng.random() < 0.3:
        area = Area(
            float(rng.uniform(0.1, 0.4)), scene.floor.top, float(rng.uniform(0.6, 0.9)), 0.97
        )
        decorations.insert(0, Decoration("rug", area, muted_colour(rng), _style_seed(rng)))
    decorations += _floor_clutter(
        scene, [*(fixture.area for fixture in fixtures), *(item.area for item in decorations)], rng
    )
    low = max(min(scene.floor.top, 0.84), scene.skyline + 0.06)
    surfaces.append(Surface(Area(0.08, low, 0.92, max(0.95, low + 0.04)), scene.floor_rgb))
    return _with(scene, surfaces, decorations, fixtures)


def _overlap(first: Area, second: Area, margin: float) -> bool:
    across = first.left < second.right + margin and second.left < first.right + margin
    return across and first.top < second.bottom and second.top < first.bottom


def _with(
    scene: Scene, surfaces: list[Surface], decorations: list[Decoration], fixtures: list[Fixture]
) -> Scene:
    return replace(
        scene, surfaces=tuple(surfaces), decorations=tuple(decorations), fixtures=tuple(fixtures)
    )


def _room_lamp(scene: Scene, u: float, tall: float, rng: np.random.Generator) -> Fixture:
    u = float(np.clip(u, 0.12 + scene.camera.pan, 0.88 - scene.camera.pan))
    rgb = muted_colour(rng, 0.4, 0.85)
    if scene.view == "overhead" or (scene.skyline > 0.3 and rng.random() < 0.6):
        height = max(0.3, min(0.62, tall * 0.95)) * (0.8 if scene.view == "overhead" else 1.0)
        foot = max(scene.skyline, 0.1) + (0.05 if scene.view != "overhead" else 0.22)
        foot = max(foot, height + 0.02)
        half = 0.16 * height
        return Fixture(
            2, "lamp", "floor", Area(u - half, foot - height, u + half, foot), rgb, _style_seed(rng)
        )
    half = float(rng.uniform(0.06, 0.09))
    drop = float(rng.uniform(0.16, 0.24))
    return Fixture(2, "lamp", "pendant", Area(u - half, 0.0, u + half, drop), rgb, _style_seed(rng))


def _table(scene: Scene, u: float, rng: np.random.Generator) -> tuple[Surface, Decoration]:
    half = float(rng.uniform(0.12, 0.19))
    u = float(np.clip(u, half + 0.02, 0.98 - half))
    foot = scene.floor.top - 0.02 + float(rng.uniform(0, 0.04))
    height = 0.42 * scene.height_at(foot) * float(np.cos(scene.camera.pitch))
    deep = height * top_to_front(scene.camera.pitch)
    top = foot - height
    rgb = wood_colour(rng) if rng.random() < 0.6 else muted_colour(rng, 0.3, 0.95)
    kind = str(rng.choice(["table", "cabinet"]))
    inset = 0.05
    surface = Surface(
        Area(u - half + inset, top - deep * 0.6, u + half - inset, top - deep * 0.15),
        rgb,
        depth=foot,
    )
    return surface, Decoration(
        kind, Area(u - half, top - deep, u + half, foot), rgb, _style_seed(rng)
    )


def _floor_clutter(
    scene: Scene, occupied: list[Area], rng: np.random.Generator
) -> list[Decoration]:
    """Chairs and bins at the wall, where there is nothing else."""
    found = []
    for kind in ("chair", "bin"):
        if rng.random() > 0.3:
            continue
        foot = max(scene.skyline, 0.3) + float(rng.uniform(0.03, 0.07))
        height = scene.height_at(foot) * (0.5 if kind == "chair" else 0.24)
        half = height * 0.28 / NARROWEST_ASPECT
        u = float(rng.uniform(0.05, 0.95))
        area = Area(u - half, foot - height, u + half, foot)
        if not any(_overlap(area, other, 0.02) for other in occupied):
            found.append(Decoration(kind, area, muted_colour(rng, 0.15, 0.8), _style_seed(rng)))
    return found


def _wall_decorations(scene: Scene, u: float, rng: np.random.Generator) -> list[Decoration]:
    kind = str(
        rng.choice(
            ["none", "window", "poster", "screen", "shelf", "plant", "curtain", "sofa"],
            p=[0.2, 0.16, 0.16, 0.1, 0.12, 0.1, 0.08, 0.08],
        )
    )
    if kind == "none":
        return []
    half = float(rng.uniform(0.06, 0.11))
    u += float(rng.uniform(-0.02, 0.02))
    bottom = scene.skyline
    if kind in ("plant", "sofa"):
        height = (
            float(rng.uniform(0.16, 0.28)) if kind == "plant" else float(rng.uniform(0.14, 0.2))
        )
        area = Area(u - half, bottom + 0.05 - height, u + half, bottom + 0.05)
    elif kind == "curtain":
        area = Area(u - half, 0.02, u + half, bottom - 0.02)
    else:
        height = float(rng.uniform(0.4, 0.7)) * bottom
        top = float(rng.uniform(0.05, 0.2)) * bottom
        area = Area(u - half, top, u + half, top + height)
    return [Decoration(kind, area, muted_colour(rng, 0.3, 0.9), _style_seed(rng))]


def _table_scene(view: str, rng: np.random.Generator) -> Scene:
    if view == "tabletop":
        pitch = rng.uniform(32, 62)
        skyline = float(rng.uniform(0.06, 0.26)) if rng.random() < 0.6 else -0.1
        zone = Area(0, max(0.42, skyline + 0.22), 1, 0.93)
        size = float(rng.uniform(0.17, 0.36))
    else:
        pitch = rng.uniform(6, 20)
        skyline = float(rng.uniform(0.5, 0.68))
        zone = Area(0, skyline + 0.08, 1, 0.93)
        size = float(rng.uniform(0.2, 0.4))
    wooden = rng.random() < 0.5
    floor_rgb = wood_colour(rng) if wooden else muted_colour(rng, 0.25, 0.95)
    floor_texture = (
        "planks"
        if wooden
        else str(rng.choice(["plain", "concrete", "carpet", "checker", "speckle", "marble"]))
    )
    wall_texture = str(
        rng.choice(["plain", "gradient", "mottled", "panels", "bricks", "tiles", "marble"])
    )
    camera = _camera(float(pitch), rng)
    wall_rgb = muted_colour(rng, 0.25, 0.95)
    fixtures: list[Fixture] = []
    decorations: list[Decoration] = []
    if rng.random() < 0.4:
        left = rng.random() < 0.5
        u = 0.13 + camera.pan if left else 0.87 - camera.pan
        foot = zone.top - 0.02
        height = min(foot - 0.01, float(rng.uniform(0.3, 0.45)))
        fixtures.append(
            Fixture(
                2,
                "lamp",
                "desk",
                Area(u - 0.09, foot - height, u + 0.09, foot),
                muted_colour(rng, 0.3, 0.9),
                _style_seed(rng),
            )
        )
    if skyline > 0.3:
        for u in (0.3, 0.65):
            if rng.random() < 0.5:
                kind = str(rng.choice(["window", "poster", "screen", "curtain"]))
                decorations.append(
                    Decoration(
                        kind,
                        Area(u - 0.13, 0.04, u + 0.13, skyline - 0.08),
                        muted_colour(rng),
                        _style_seed(rng),
                    )
                )
    for kind in ("paper", "keyboard", "plate", "mat", "cloth", "cable"):
        if rng.random() < 0.25:
            u, v = rng.uniform(0.15, 0.85), rng.uniform(zone.top, 0.9)
            half = float(rng.uniform(0.08, 0.16))
            flat = half * NARROWEST_ASPECT * max(0.2, float(np.sin(camera.pitch)))
            decorations.append(
                Decoration(
                    kind,
                    Area(u - half, v - flat, u + half, v + flat),
                    muted_colour(rng, 0.3, 0.95),
                    _style_seed(rng),
                )
            )
    surface = Surface(Area(0.1, zone.top, 0.9, zone.bottom), floor_rgb)
    base = Scene(
        view,
        camera,
        _style_seed(rng),
        skyline,
        -1.5,
        0.0,
        size,
        wall_rgb,
        floor_rgb,
        wall_texture,
        floor_texture,
        zone,
        (),
        (),
        (),
    )
    return _with(base, [surface], decorations, fixtures)
