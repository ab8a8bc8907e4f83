"""Draws doors and lamps in every state: from open to closed, on and off."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from stream_vlm_lab.simulation.raster.sprite import Brush, Sprite
from stream_vlm_lab.simulation.scene.palette import Rgb, mix, shade
from stream_vlm_lab.simulation.scene.scene import Fixture

GLOW: Rgb = (255, 236, 178)


def draw_door(fixture: Fixture, width: float, height: float, openness: float) -> Sprite:
    """Draw a door in its frame; the origin is the middle of its foot.

    Args:
        fixture: the door.
        width: width in pixels.
        height: height in pixels.
        openness: 0 is closed, 1 is fully open.
    """
    rng = np.random.default_rng(fixture.style_seed)
    hinge = -1.0 if rng.random() < 0.5 else 1.0
    # The room behind has another brightness than the leaf: a dark corridor or a bright room.
    bright_leaf = sum(fixture.rgb) > 330
    outside: Rgb = (30, 28, 30) if bright_leaf == (rng.random() < 0.85) else (244, 240, 228)
    widest = float(rng.uniform(1.15, 1.5))
    frame = (
        mix(fixture.rgb, (240, 238, 232), 0.55) if rng.random() < 0.6 else shade(fixture.rgb, 0.6)
    )
    half = width / 2
    swing = openness * widest
    outwards = fixture.style == "out"
    brush = Brush(-half - width * 1.02 - 4, -height * 1.22, half + width * 1.02 + 4, height * 0.12)
    border = width * 0.09
    brush.polygon(
        [
            (-half - border, 0),
            (half + border, 0),
            (half + border, -height),
            (-half - border, -height),
        ],
        frame,
    )
    top = -height + border
    brush.polygon([(-half, 0), (half, 0), (half, top), (-half, top)], outside)
    brush.polygon(
        [(-half, 0), (half, 0), (half * 0.75, -height * 0.06), (-half * 0.75, -height * 0.06)],
        mix(outside, (128, 118, 106), 0.5),
    )
    # The leaf rotates on its hinge. Its free edge moves sideways, and appears larger when nearer.
    x_hinge, x_free = hinge * half, hinge * half - hinge * width * float(np.cos(swing))
    grow = float(np.sin(swing)) * (0.16 if outwards else -0.16)
    upper, lower = top - grow * height * 0.55, grow * height * 0.45
    leaf = shade(fixture.rgb, 1.0 - 0.28 * float(np.sin(swing)))

    def on_leaf(x: float, y: float) -> tuple[float, float]:
        foot, head = lower * x, top + (upper - top) * x
        return x_hinge + (x_free - x_hinge) * x, foot + (head - foot) * y

    def pane(x0: float, y0: float, x1: float, y1: float, rgb: Rgb) -> None:
        brush.polygon([on_leaf(x0, y0), on_leaf(x1, y0), on_leaf(x1, y1), on_leaf(x0, y1)], rgb)

    pane(0, 0, 1, 1, leaf)
    style = rng.choice(["plain", "panels", "glass"])
    if style == "panels":
        for y0, y1 in ((0.08, 0.42), (0.52, 0.92)):
            pane(0.16, y0, 0.84, y1, shade(leaf, 0.82))
            pane(0.2, y0 + 0.02, 0.84, y1, shade(leaf, 0.93))
    elif style == "glass":
        pane(0.25, 0.55, 0.75, 0.9, mix(leaf, (190, 214, 224), 0.7))
    pane(0.84, 0.44, 0.94, 0.475, (60, 56, 50) if sum(leaf) > 300 else (210, 200, 176))
    return brush.sprite()


def draw_lamp(fixture: Fixture, width: float, height: float, on: bool) -> Sprite:
    """Draw a lamp; the origin is the middle of its foot, or the lowest point of a pendant.

    Args:
        fixture: the lamp.
        width: width in pixels.
        height: height in pixels.
        on: whether it is on.
    """
    rng = np.random.default_rng(fixture.style_seed)
    metal: Rgb = (52, 52, 56) if rng.random() < 0.6 else (176, 150, 92)
    shade_off = shade(fixture.rgb, 0.72)
    bulb = GLOW if on else shade_off
    half = width / 2
    brush = Brush(-half * 1.3, -height, half * 1.3, 3)
    if fixture.style == "floor":
        brush.limb(
            (0, 0), (0, -height * 0.75), max(1.0, width * 0.035), max(1.0, width * 0.035), metal
        )
        brush.oval((0, 0), half * 0.55, max(1.5, half * 0.16), metal)
        _shade(brush, 0.0, -height, -height * 0.76, half * 0.55, half, bulb, on)
    elif fixture.style == "pendant":
        brush.limb(
            (0, -height),
            (0, -height * 0.5),
            max(0.8, width * 0.02),
            max(0.8, width * 0.02),
            metal,
            shaded=False,
        )
        _shade(
            brush,
            0.0,
            -height * 0.52,
            -height * 0.06,
            half * 0.4,
            half,
            shade_off if not on else mix(shade_off, GLOW, 0.75),
            on,
        )
        brush.oval(
            (0, -height * 0.07),
            half * 0.6,
            height * 0.07,
            (255, 250, 228) if on else shade(shade_off, 0.6),
        )
    else:
        brush.oval((-half * 0.3, -2), half * 0.5, max(2.0, half * 0.18), metal)
        joint, head = (-half * 0.7, -height * 0.5), (half * 0.1, -height * 0.9)
        thin = max(1.2, width * 0.04)
        brush.limb((-half * 0.3, -2), joint, thin, thin, metal)
        brush.limb(joint, head, thin, thin, metal)
        _shade(
            brush,
            half * 0.25,
            -height * 0.98,
            -height * 0.68,
            half * 0.3,
            half * 0.8,
            bulb if on else fixture.rgb,
            on,
        )
        brush.oval(
            (half * 0.25, -height * 0.68),
            half * 0.7,
            height * 0.05,
            (255, 250, 228) if on else shade(fixture.rgb, 0.5),
        )
    return brush.sprite()


def _shade(
    brush: Brush,
    x: float,
    top: float,
    foot: float,
    top_half: float,
    foot_half: float,
    rgb: Rgb,
    on: bool,
) -> None:
    edges = np.linspace(-1, 1, 7)
    for left, right in pairwise(edges):
        middle = abs((left + right) / 2)
        gain = 1.0 - (0.12 if on else 0.4) * middle
        corners = [
            (x + left * top_half, top),
            (x + right * top_half, top),
            (x + right * foot_half, foot),
            (x + left * foot_half, foot),
        ]
        brush.polygon(corners, shade(rgb, gain))
