"""Random cups and bottles for training: bodies of revolution drawn from families of forms."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from stream_vlm_lab.simulation.raster.sprite import Brush, Sprite
from stream_vlm_lab.simulation.scene.palette import Rgb, decoration_tone, mix, muted_colour, shade

WHITE: Rgb = (255, 255, 255)

Outline = list[tuple[float, float]]
"""(half width, y) from the foot up: the outline of a body of revolution."""


def draw_cup(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A random cup: straight, bulged or narrow in the middle, with none to two handles.

    It has a saucer only with a handle and straight sides.
    """
    tall = height * float(rng.uniform(0.8, 0.97))
    top = tall * float(rng.uniform(0.3, 0.62))
    foot = top * float(rng.uniform(0.5, 1.05))
    bulge = float(rng.uniform(-0.12, 0.3)) * top
    lip = min(top * flat, tall * 0.45) * float(rng.uniform(0.6, 1.0))
    handles = int(rng.choice([0, 1, 2], p=[0.4, 0.5, 0.1]))
    parts = np.linspace(0, 1, 8)
    outline: Outline = [
        (
            foot + (top - foot) * float(part) + bulge * float(np.sin(np.pi * part)),
            (-tall + lip) * float(part),
        )
        for part in parts
    ]
    brush = Brush(-height, -height, height, height * 0.25, 3)
    if handles == 1 and abs(bulge) < 0.08 * top and rng.random() < 0.4:
        brush.oval(
            (0, 0),
            top * 1.25,
            max(2.0, top * 1.25 * flat * 0.5),
            shade(rgb, float(rng.uniform(0.75, 1.1))),
        )
    for sign in (1, -1)[:handles] if rng.random() < 0.5 else (-1, 1)[:handles]:
        middle = -tall * float(rng.uniform(0.4, 0.62))
        size = tall * float(rng.uniform(0.16, 0.27))
        brush.ring(
            (sign * _between(outline, 0.5, 0.5)[0][0], middle),
            size * float(rng.uniform(0.7, 1.1)),
            size,
            size * 0.35,
            shade(rgb, 0.75),
        )
    brush.oval((0, -foot * flat * 0.3), foot, foot * flat * 0.6, shade(rgb, 0.7))
    _turned(brush, outline, rgb, rng)
    _decorate(brush, outline, rgb, rng)
    if rng.random() < 0.2:
        tip = float(rng.uniform(-0.6, 0.6)) * top
        brush.limb(
            (tip * 0.3, -tall + lip),
            (tip, -height),
            height * 0.02,
            height * 0.02,
            muted_colour(rng, 0.4, 0.95),
            shaded=False,
        )
    brush.oval((0, -tall + lip), top, lip, shade(rgb, float(rng.uniform(1.0, 1.25))))
    inside = (74, 46, 28) if rng.random() < 0.35 else shade(rgb, float(rng.uniform(0.4, 0.75)))
    brush.oval(
        (0, -tall + lip),
        top * float(rng.uniform(0.78, 0.92)),
        lip * float(rng.uniform(0.7, 0.88)),
        inside,
    )
    return brush.sprite()


def draw_bottle(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A random bottle with a flat foot: straight, narrow in the middle, or like a cone or pear.

    Its neck is short or long.
    """
    half = height * float(rng.uniform(0.12, 0.26))
    neck = half * float(rng.uniform(0.2, 0.55))
    shoulder, narrowed = float(rng.uniform(0.35, 0.66)), float(rng.uniform(0.68, 0.84))
    style = str(rng.choice(["straight", "waisted", "cone", "pear"], p=[0.4, 0.2, 0.2, 0.2]))
    end = 0.96
    if style == "cone":
        body = [(half, 0.0), (half * 1.02, 0.05), (neck, narrowed)]
    elif style == "pear":
        body = [
            (half * 0.85, 0.0),
            (half, 0.18),
            (half * 0.9, 0.36),
            (neck * 1.4, shoulder + 0.08),
            (neck, narrowed),
        ]
    else:
        waist = float(rng.uniform(0.65, 0.85)) if style == "waisted" else 1.0
        bend = float(rng.uniform(0.55, 0.95))
        body = [
            (half, 0.0),
            (half * waist, shoulder * 0.55),
            (half, shoulder),
            (half * bend, (shoulder + narrowed) / 2),
            (neck, narrowed),
        ]
    outline: Outline = [(x, -height * y) for x, y in [*body, (neck, end)]]
    brush = Brush(-half * 1.4, -height, half * 1.4, half * flat + 2, 3)
    brush.oval((0, -half * flat * 0.3), half, half * flat * 0.7, shade(rgb, 0.75))
    _turned(brush, outline, rgb, rng)
    if rng.random() < 0.3:
        brush.set_opacity(float(rng.uniform(0.7, 0.9)))
    _decorate(brush, outline, rgb, rng)
    if rng.random() < 0.3:
        side = -half * float(rng.uniform(0.3, 0.6))
        brush.limb(
            (side, -height * 0.1),
            (side, -height * shoulder * 0.9),
            half * 0.08,
            half * 0.08,
            mix(rgb, WHITE, 0.6),
            shaded=False,
        )
    if rng.random() < 0.75:
        cap = (shade(rgb, 0.55), (236, 236, 236), (38, 38, 42), muted_colour(rng))[
            int(rng.integers(4))
        ]
        wide = neck * float(rng.uniform(1.0, 1.5))
        low = float(rng.uniform(0.84, 0.93))
        brush.polygon(
            [
                (-wide, -height * low),
                (wide, -height * low),
                (wide, -height * 0.98),
                (-wide, -height * 0.98),
            ],
            cap,
        )
    return brush.sprite()


def _turned(brush: Brush, outline: Outline, rgb: Rgb, rng: np.random.Generator) -> None:
    """Fill `outline` with one of several kinds of shading for round things."""
    strips, depth = int(rng.choice([1, 2, 9])), float(rng.uniform(0.2, 0.6))
    shaded = float(rng.uniform(-0.5, 0.3))
    edges = np.linspace(-1, 1, strips + 1)
    for left, right in pairwise(edges):
        light = 1.0 if strips == 1 else 1.1 - depth * abs((left + right) / 2 - shaded) ** 1.4
        brush.polygon(
            [(left * x, y) for x, y in outline] + [(right * x, y) for x, y in outline[::-1]],
            shade(rgb, light),
        )


def _between(outline: Outline, low: float, high: float) -> Outline:
    """The part of `outline` between the heights `low` and `high` (0 foot, 1 top)."""
    halves, ys = np.array([x for x, _ in outline]), np.array([-y for _, y in outline])
    wanted = np.linspace(low, high, 5) * ys[-1]
    return [(float(np.interp(y, ys, halves)), -float(y)) for y in wanted]


def _decorate(brush: Brush, outline: Outline, rgb: Rgb, rng: np.random.Generator) -> None:
    """Draw bands around a round thing, or a label."""
    tone, style = (
        decoration_tone(rgb, rng),
        str(rng.choice(["plain", "bands", "label", "dipped"], p=[0.4, 0.25, 0.2, 0.15])),
    )
    if style == "bands":
        for low in rng.uniform(0.1, 0.8, int(rng.integers(1, 4))):
            _turned(
                brush,
                _between(outline, float(low), float(low) + float(rng.uniform(0.03, 0.1))),
                tone,
                rng,
            )
    elif style == "label":
        low, high = float(rng.uniform(0.12, 0.3)), float(rng.uniform(0.4, 0.6))
        patch = [(x * 0.6, y) for x, y in _between(outline, low, high)]
        brush.polygon([(-x, y) for x, y in patch] + patch[::-1], tone)
    elif style == "dipped":
        _turned(brush, _between(outline, 0.0, float(rng.uniform(0.2, 0.45))), tone, rng)
