"""Random forms of portable things for training: each is drawn from a family of forms.

No two are alike, and none is a form of `held_out`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stream_vlm_lab.simulation.raster.sprite import Brush, Sprite
from stream_vlm_lab.simulation.scene.palette import Rgb, decoration_tone, muted_colour, shade
from stream_vlm_lab.simulation.things.procedural_vessels import draw_bottle, draw_cup

PAPER: Rgb = (238, 233, 218)
BALLS = ("sectors", "patches", "belts")
"""Patterns of balls that neither the standard nor the varied balls have; see `Ball`."""


def draw_invented(kind: str, rgb: Rgb, height: float, pitch: float, style_seed: int) -> Sprite:
    """Draw a thing of `kind`, other than a ball, in a form that only this `style_seed` has.

    Args:
        kind: kind of thing.
        rgb: its colour.
        height: height in pixels.
        pitch: pitch of the camera in radians.
        style_seed: seed of the form.
    """
    return _PAINTERS[kind](
        rgb, height, max(0.14, float(np.sin(pitch))), np.random.default_rng([style_seed, 0x1F0])
    )


def _box(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A box of random proportions with a pattern on its front, and with a lid or open flaps."""
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
    """Draw the front of a box, which reaches from -half to half and from 0 up to `top`."""
    tone, line = decoration_tone(rgb, rng), half * float(rng.uniform(0.05, 0.12))
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
        brush.limb(
            (-half * 0.9, top * 0.08), (half * 0.9, top * 0.92), line, line, tone, shaded=False
        )
        if rng.random() < 0.5:
            brush.limb(
                (half * 0.9, top * 0.08), (-half * 0.9, top * 0.92), line, line, tone, shaded=False
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
    """A closed book of random proportions, upright, tilted or on a pile; or a notepad."""
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
    tone = decoration_tone(rgb, rng)
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
    """Two or three books on each other, with their pages to the camera."""
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
    "cup": draw_cup,
    "bottle": draw_bottle,
    "box": _box,
    "book": _book,
}
