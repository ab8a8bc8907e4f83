"""Forms of portable things drawn from families instead of a list, for training: no two are alike.

None of them is of `unseen`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from stream_vlm_lab.simulation.raster.sprite import Brush, Sprite
from stream_vlm_lab.simulation.scene.palette import Rgb, mix, muted_colour, shade

WHITE: Rgb = (255, 255, 255)
PAPER: Rgb = (238, 233, 218)
BALLS = ("sectors", "patches", "belts")
"""Patterns of balls that neither the ordinary nor the varied ones have; see `objects.Ball`."""

Outline = list[tuple[float, float]]
"""(half width, y) from the foot up, as a lathe turns it."""


def draw_invented(kind: str, rgb: Rgb, height: float, pitch: float, look: int) -> Sprite:
    """A thing of `kind`, other than a ball, in a form that belongs to `look` alone; `height` in
    pixels, `pitch` in radians.
    """
    return _PAINTERS[kind](
        rgb, height, max(0.14, float(np.sin(pitch))), np.random.default_rng([look, 0x1F0])
    )


def _other(rgb: Rgb, rng: np.random.Generator) -> Rgb:
    """A tone that decorates `rgb` without taking its name away."""
    return (
        mix(rgb, WHITE, float(rng.uniform(0.35, 0.75)))
        if sum(rgb) < 520 and rng.random() < 0.6
        else shade(rgb, float(rng.uniform(0.4, 0.75)))
    )


def _turned(brush: Brush, outline: Outline, rgb: Rgb, rng: np.random.Generator) -> None:
    """Fill `outline`, lit in one of the ways in which pictures show round things."""
    strips, depth = int(rng.choice([1, 2, 9])), float(rng.uniform(0.2, 0.6))
    lit = float(rng.uniform(-0.5, 0.3))
    edges = np.linspace(-1, 1, strips + 1)
    for left, right in pairwise(edges):
        light = 1.0 if strips == 1 else 1.1 - depth * abs((left + right) / 2 - lit) ** 1.4
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
    """Bands around a turned thing, or a label."""
    tone, style = (
        _other(rgb, rng),
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


def _cup(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A cup of any width, turned straight, belled or waisted, with none to two handles; on a saucer
    only with a handle and straight sides.
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
            lit=False,
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


def _bottle(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A bottle of any girth with a flat foot: straight, waisted or as a cone or pear, its neck
    short or long.
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
        brush.glaze(float(rng.uniform(0.7, 0.9)))
    _decorate(brush, outline, rgb, rng)
    if rng.random() < 0.3:
        side = -half * float(rng.uniform(0.3, 0.6))
        brush.limb(
            (side, -height * 0.1),
            (side, -height * shoulder * 0.9),
            half * 0.08,
            half * 0.08,
            mix(rgb, WHITE, 0.6),
            lit=False,
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


def _box(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A box of any proportion with a pattern on its front, its lid shut or its flaps open."""
    half = height * float(rng.uniform(0.38, 0.68))
    top = height * float(rng.uniform(0.1, 0.22)) + height * 0.22 * flat
    front = -height + top
    inset = float(rng.uniform(-0.25, 0.25)) * half
    narrow = half * float(rng.uniform(0.72, 0.98))
    brush = Brush(-half * 1.45, -height * 1.05, half * 1.45, 2, 3)
    lid = [
        (-half, front),
        (half, front),
        (narrow + inset * 0.4, -height),
        (-narrow + inset * 0.4, -height),
    ]
    opened = rng.random() < 0.3
    brush.polygon(lid, shade(rgb, 0.4 if opened else float(rng.uniform(1.05, 1.3))))
    if opened:
        for sign in (-1, 1):
            out = sign * half * float(rng.uniform(1.1, 1.4))
            brush.polygon(
                [
                    (sign * half, front),
                    (sign * narrow, -height),
                    (out, -height * 0.95),
                    (out * 1.02, front * 0.9),
                ],
                shade(rgb, 1.1),
            )
    brush.polygon([(-half, 0), (half, 0), (half, front), (-half, front)], rgb)
    _face(brush, half, front, rgb, rng)
    if rng.random() < 0.5:
        wide = half * float(rng.uniform(0.12, 0.35))
        low, high = (half - wide, half) if rng.random() < 0.5 else (-half, -half + wide)
        brush.polygon(
            [(low, 0), (high, 0), (high, front), (low, front)],
            shade(rgb, float(rng.uniform(0.55, 0.8))),
        )
    return brush.sprite()


def _face(brush: Brush, half: float, top: float, rgb: Rgb, rng: np.random.Generator) -> None:
    """What is on the front of a box, which reaches from -half to half and from 0 up to `top`."""
    tone, line = _other(rgb, rng), half * float(rng.uniform(0.05, 0.12))
    style = str(
        rng.choice(
            ["plain", "upright", "grid", "brace", "frame", "circle", "print", "halves", "grip"]
        )
    )
    if style in ("upright", "grid"):
        for x in np.linspace(-half, half, int(rng.integers(4, 8)))[1:-1]:
            brush.polygon(
                [(x - line / 2, 0), (x + line / 2, 0), (x + line / 2, top), (x - line / 2, top)],
                tone,
            )
    if style == "grid":
        for y in np.linspace(0, top, int(rng.integers(4, 6)))[1:-1]:
            brush.polygon(
                [
                    (-half, y - line / 2),
                    (half, y - line / 2),
                    (half, y + line / 2),
                    (-half, y + line / 2),
                ],
                tone,
            )
    elif style == "brace":
        brush.limb((-half * 0.9, top * 0.08), (half * 0.9, top * 0.92), line, line, tone, lit=False)
        if rng.random() < 0.5:
            brush.limb(
                (half * 0.9, top * 0.08), (-half * 0.9, top * 0.92), line, line, tone, lit=False
            )
    elif style == "frame":
        brush.polygon(
            [
                (-half * 0.85, top * 0.12),
                (half * 0.85, top * 0.12),
                (half * 0.85, top * 0.88),
                (-half * 0.85, top * 0.88),
            ],
            tone,
        )
        brush.polygon(
            [
                (-half * 0.7, top * 0.22),
                (half * 0.7, top * 0.22),
                (half * 0.7, top * 0.78),
                (-half * 0.7, top * 0.78),
            ],
            rgb,
        )
    elif style == "circle":
        brush.oval(
            (0, top * 0.5),
            half * float(rng.uniform(0.25, 0.5)),
            -top * float(rng.uniform(0.2, 0.38)),
            tone,
        )
    elif style == "print":
        for _ in range(int(rng.integers(2, 6))):
            x, y = half * float(rng.uniform(-0.7, 0.5)), top * float(rng.uniform(0.15, 0.85))
            wide, tall = half * float(rng.uniform(0.1, 0.45)), -top * float(rng.uniform(0.05, 0.2))
            brush.polygon(
                [(x, y), (x + wide, y), (x + wide, y - tall * 0.6), (x, y - tall * 0.6)],
                tone if rng.random() < 0.6 else (230, 228, 220),
            )
    elif style == "halves":
        brush.polygon([(-half, 0), (half, 0), (half, top * 0.5), (-half, top * 0.5)], tone)
    elif style == "grip":
        brush.oval((0, top * 0.72), half * 0.3, -top * 0.09, shade(rgb, 0.35))


def _book(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A closed book of any proportion that stands, leans or lies on others of its colour, or a pad
    with its sheet in view.
    """
    style = str(rng.choice(["standing", "pile", "pad", "fore edge"], p=[0.4, 0.25, 0.2, 0.15]))
    half = height * float(rng.uniform(0.3, 0.5))
    lean = half * float(rng.uniform(-0.3, 0.3))
    brush = Brush(-height, -height, height, 3, 3)
    if style == "pile":
        _pile(brush, half, height, rgb, rng)
        return brush.sprite()
    corners = [(-half, 0.0), (half, 0.0), (half + lean, -height), (-half + lean, -height)]
    if style == "fore edge":
        wide = half * float(rng.uniform(0.35, 0.6))
        brush.polygon(
            [(-wide, 0), (wide, 0), (wide + lean, -height), (-wide + lean, -height)], PAPER
        )
        for sign in (-1, 1):
            x = sign * wide
            brush.polygon(
                [(x, 0), (x * 1.25, 0), (x * 1.25 + lean, -height), (x + lean, -height)],
                shade(rgb, 1.0 if sign < 0 else 0.75),
            )
        return brush.sprite()
    thick = height * float(rng.uniform(0.02, 0.1))
    brush.polygon(
        [(x + thick, y + (0 if y == 0 else thick * 0.5)) for x, y in corners],
        PAPER if rng.random() < 0.6 else shade(rgb, 0.55),
    )
    brush.polygon(corners, rgb)

    def inside(left: float, low: float, right: float, high: float) -> list[tuple[float, float]]:
        return [
            (half * x + lean * y, -height * y)
            for x, y in ((left, low), (right, low), (right, high), (left, high))
        ]

    if style == "pad":
        brush.polygon(inside(-0.82, 0.06, 0.82, 0.86), PAPER)
        for low in np.linspace(0.14, 0.76, int(rng.integers(4, 8))):
            brush.polygon(
                inside(-0.7, float(low), float(rng.uniform(0.3, 0.7)), float(low) + 0.015),
                (120, 116, 112),
            )
        return brush.sprite()
    tone = _other(rgb, rng)
    brush.polygon(
        inside(-1.0, 0.0, -0.8 if rng.random() < 0.7 else -0.95, 1.0),
        shade(rgb, float(rng.uniform(0.6, 0.85))),
    )
    decoration = str(rng.choice(["title", "frame", "picture", "lines", "plain"]))
    if decoration == "frame":
        brush.polygon(inside(-0.65, 0.1, 0.85, 0.9), tone)
        brush.polygon(inside(-0.5, 0.17, 0.7, 0.83), rgb)
    elif decoration == "picture":
        brush.polygon(
            inside(-0.6, 0.15, 0.8, float(rng.uniform(0.5, 0.75))), muted_colour(rng, 0.3, 0.95)
        )
    elif decoration == "lines":
        for low in rng.uniform(0.1, 0.85, int(rng.integers(2, 5))):
            brush.polygon(
                inside(-0.6, float(low), float(rng.uniform(0.2, 0.85)), float(low) + 0.04), tone
            )
    if decoration in ("title", "frame"):
        brush.polygon(inside(-0.35, 0.6, 0.55, 0.72), PAPER if rng.random() < 0.5 else tone)
    return brush.sprite()


def _pile(brush: Brush, half: float, height: float, rgb: Rgb, rng: np.random.Generator) -> None:
    """Two or three books that lie on each other, their pages to the camera."""
    count = int(rng.integers(2, 4))
    tall = height * 0.95 / (count + 0.4)
    for number in range(count):
        low, high, cover = -tall * number, -tall * (number + 1), tall * 0.2
        shift, wide = half * float(rng.uniform(-0.15, 0.15)), height * float(rng.uniform(0.45, 0.6))
        left, right, hinge = shift - wide, shift + wide, shift - wide * 0.9
        brush.polygon([(left, low), (right, low), (right, high), (left, high)], shade(rgb, 0.85))
        brush.polygon(
            [
                (hinge, low - cover),
                (right, low - cover),
                (right, high + cover),
                (hinge, high + cover),
            ],
            PAPER,
        )
    brush.polygon(
        [(-half, high), (half, high), (half * 0.85, -height), (-half * 0.85, -height)],
        shade(rgb, 1.12),
    )


_PAINTERS: dict[str, Callable[[Rgb, float, float, np.random.Generator], Sprite]] = {
    "cup": _cup,
    "bottle": _bottle,
    "box": _box,
    "book": _book,
}
