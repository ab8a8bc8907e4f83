"""Further forms of portable things, for training: who has seen many kinds of cups knows one that it
never saw. None of them is of `unseen`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np

from stream_vlm_lab.simulation.raster.sprite import Brush, Sprite
from stream_vlm_lab.simulation.scene.palette import Rgb, mix, muted_colour, shade
from stream_vlm_lab.simulation.things.standard import draw_thing

WHITE: Rgb = (255, 255, 255)
WIDTHS = (0.75, 1.3)
"""Things are drawn narrower or wider than usual by a factor from this range."""
BALLS = ("rings", "stripes", "half")
"""Patterns of balls that the ordinary ones do not have; see `objects.Ball`."""

Painter = Callable[[Rgb, float, float, np.random.Generator], Sprite]


def draw_varied(kind: str, rgb: Rgb, height: float, pitch: float, look: int) -> Sprite:
    """A thing of `kind`, other than a ball, in one of several forms and proportions; `height` in
    pixels, `pitch` in radians.
    """
    rng = np.random.default_rng([look, 0xF0A])
    painters = _PAINTERS[kind]
    chosen = int(rng.integers(len(painters) + 1))
    if chosen == len(painters):
        drawn = draw_thing(kind, rgb, height, pitch, look)
    else:
        drawn = painters[chosen](rgb, height, max(0.14, float(np.sin(pitch))), rng)
    return _stretched(drawn, float(rng.uniform(*WIDTHS)))


def _stretched(sprite: Sprite, factor: float) -> Sprite:
    height, width = sprite.alpha.shape
    size = (max(1, round(width * factor)), height)
    rgb = cv2.resize(sprite.rgb, size, interpolation=cv2.INTER_LINEAR)
    alpha = cv2.resize(sprite.alpha, size, interpolation=cv2.INTER_LINEAR)
    return Sprite(
        np.asarray(rgb, np.uint8),
        np.asarray(alpha, np.uint8),
        round(sprite.left * factor),
        sprite.top,
    )


def _upright(x: float, half: float, low: float, high: float) -> list[tuple[float, float]]:
    return [(x - half, low), (x + half, low), (x + half, high), (x - half, high)]


def _round_body(brush: Brush, outline: list[tuple[float, float]], rgb: Rgb) -> None:
    """What a lathe makes: `outline` is (half width, y) from the foot up, lit from the left."""
    edges = np.linspace(-1, 1, 9)
    for left, right in pairwise(edges):
        light = 1.08 - 0.5 * abs((left + right) / 2 + 0.3) ** 1.4
        brush.polygon(
            [(left * x, y) for x, y in outline] + [(right * x, y) for x, y in outline[::-1]],
            shade(rgb, light),
        )


def _carton(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A box that is taller than wide, with a roof."""
    half, roof = height * float(rng.uniform(0.3, 0.4)), -height * float(rng.uniform(0.72, 0.82))
    side = half * 0.35
    brush = Brush(-half * 1.5, -height, half * 1.5, 2, 3)
    brush.polygon(
        [(half, 0), (half + side, -side * 0.5), (half + side, roof - side * 0.5), (half, roof)],
        shade(rgb, 0.62),
    )
    brush.polygon([(-half, 0), (half, 0), (half, roof), (-half, roof)], rgb)
    brush.polygon(
        [(-half, roof), (half, roof), (half * 0.9, -height * 0.92), (-half * 0.9, -height * 0.92)],
        shade(rgb, 1.14),
    )
    brush.polygon(
        [
            (-half * 0.9, -height * 0.92),
            (half * 0.9, -height * 0.92),
            (half * 0.9, -height),
            (-half * 0.9, -height),
        ],
        shade(rgb, 0.8),
    )
    return brush.sprite()


def _parcel(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A box with a ribbon around it."""
    half, top = height * float(rng.uniform(0.48, 0.6)), height * (0.2 + 0.3 * flat)
    ribbon, front = mix(rgb, WHITE, 0.7) if sum(rgb) < 560 else shade(rgb, 0.45), -height + top
    brush = Brush(-half, -height, half, 2, 3)
    brush.polygon([(-half, 0), (half, 0), (half, front), (-half, front)], shade(rgb, 0.9))
    brush.polygon(
        [(-half, front), (half, front), (half * 0.8, -height), (-half * 0.8, -height)],
        shade(rgb, 1.15),
    )
    wide = half * float(rng.uniform(0.1, 0.18))
    brush.polygon([(-wide, 0), (wide, 0), (wide, front), (-wide, front)], shade(ribbon, 0.9))
    brush.polygon(
        [(-wide, front), (wide, front), (wide * 0.8, -height), (-wide * 0.8, -height)], ribbon
    )
    if rng.random() < 0.6:
        brush.polygon(
            [
                (-half, front * 0.55),
                (half, front * 0.55),
                (half, front * 0.4),
                (-half, front * 0.4),
            ],
            shade(ribbon, 0.9),
        )
    return brush.sprite()


def _chest(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A box with a rounded lid and a lock."""
    half, lid = height * float(rng.uniform(0.52, 0.64)), -height * 0.58
    brush = Brush(-half, -height, half, 2, 3)
    turns = np.linspace(0, np.pi, 12)
    brush.polygon(
        [
            (half * float(np.cos(turn)), lid + (lid * -1 - height) * float(np.sin(turn)))
            for turn in turns
        ],
        shade(rgb, 1.12),
    )
    brush.polygon([(-half, 0), (half, 0), (half, lid), (-half, lid)], shade(rgb, 0.92))
    brush.polygon(
        [(-half, lid), (half, lid), (half, lid * 0.9), (-half, lid * 0.9)], shade(rgb, 0.5)
    )
    brush.polygon(
        [(-half * 0.1, lid), (half * 0.1, lid), (half * 0.1, lid * 0.7), (-half * 0.1, lid * 0.7)],
        (214, 190, 120),
    )
    return brush.sprite()


def _tumbler(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A tall cup without a handle."""
    top, foot = height * float(rng.uniform(0.26, 0.34)), height * float(rng.uniform(0.18, 0.26))
    lip = top * flat
    brush = Brush(-top * 1.1, -height, top * 1.1, foot * flat + 2, 3)
    brush.oval((0, -foot * flat), foot, foot * flat, shade(rgb, 0.7))
    _round_body(brush, [(foot, 0.0), (top, -height + lip)], rgb)
    for line in range(int(rng.integers(0, 3))):
        y, half = -height * (0.3 + 0.25 * line), foot + (top - foot) * (0.3 + 0.25 * line)
        brush.polygon(
            [(-half, y), (half, y), (half, y - height * 0.08), (-half, y - height * 0.08)],
            mix(rgb, WHITE, 0.6),
        )
    brush.oval((0, -height + lip), top, lip, shade(rgb, 1.15))
    brush.oval((0, -height + lip), top * 0.84, lip * 0.8, shade(rgb, 0.5))
    return brush.sprite()


def _goblet(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A cup on a stem."""
    top, stem = height * float(rng.uniform(0.28, 0.36)), -height * float(rng.uniform(0.34, 0.46))
    lip = top * flat
    brush = Brush(-top * 1.1, -height, top * 1.1, height * 0.1, 3)
    brush.oval((0, -top * 0.2 * flat), top * 0.75, max(2.0, top * 0.6 * flat), shade(rgb, 0.8))
    brush.limb((0, 0), (0, stem), height * 0.045, height * 0.035, shade(rgb, 0.85))
    _round_body(
        brush, [(height * 0.04, stem), (top * 0.8, stem - height * 0.12), (top, -height + lip)], rgb
    )
    brush.oval((0, -height + lip), top, lip, shade(rgb, 1.15))
    brush.oval((0, -height + lip), top * 0.86, lip * 0.8, shade(rgb, 0.5))
    return brush.sprite()


def _paper_cup(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A cup to go, with a lid and a sleeve."""
    top, foot = height * float(rng.uniform(0.3, 0.36)), height * float(rng.uniform(0.2, 0.25))
    brush = Brush(-top * 1.15, -height, top * 1.15, foot * flat + 2, 3)
    brush.oval((0, -foot * flat * 0.5), foot, foot * flat, shade(rgb, 0.7))
    _round_body(brush, [(foot, 0.0), (top, -height * 0.88)], rgb)
    low, high = foot + (top - foot) * 0.3, foot + (top - foot) * 0.7
    _round_body(
        brush, [(low, -height * 0.26), (high, -height * 0.62)], mix(rgb, (196, 164, 120), 0.5)
    )
    lid = WHITE if rng.random() < 0.5 else (52, 48, 46)
    _round_body(brush, [(top * 1.08, -height * 0.87), (top, -height * 0.96)], lid)
    brush.oval((0, -height * 0.96), top * 0.98, max(1.5, top * flat * 0.5), shade(lid, 1.1))
    return brush.sprite()


def _tea_cup(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A low, wide cup with a large handle."""
    top, foot = height * float(rng.uniform(0.5, 0.6)), height * float(rng.uniform(0.36, 0.46))
    lip, sign = top * flat * 0.8, 1 if rng.random() < 0.5 else -1
    brush = Brush(-height, -height, height, foot * flat + 2, 3)
    brush.ring(
        (sign * top, -height * 0.5), height * 0.22, height * 0.26, height * 0.1, shade(rgb, 0.7)
    )
    brush.oval((0, -foot * flat * 0.5), foot, foot * flat, shade(rgb, 0.7))
    _round_body(brush, [(foot, 0.0), (top, -height + lip)], rgb)
    brush.oval((0, -height + lip), top, lip, shade(rgb, 1.15))
    brush.oval(
        (0, -height + lip),
        top * 0.88,
        lip * 0.82,
        (88, 52, 30) if rng.random() < 0.5 else shade(rgb, 0.5),
    )
    return brush.sprite()


def _wine_bottle(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A straight bottle with a long neck and sloping shoulders."""
    half = height * float(rng.uniform(0.12, 0.16))
    shoulder = -height * float(rng.uniform(0.45, 0.56))
    brush = Brush(-half * 1.2, -height, half * 1.2, half * flat + 2, 3)
    brush.oval((0, -half * flat * 0.5), half, half * flat, shade(rgb, 0.7))
    _round_body(
        brush,
        [
            (half, 0.0),
            (half, shoulder),
            (half * 0.45, shoulder - height * 0.16),
            (half * 0.34, -height * 0.97),
        ],
        rgb,
    )
    label = mix(rgb, WHITE, 0.8)
    _round_body(
        brush, [(half, shoulder * 0.3), (half, shoulder * float(rng.uniform(0.6, 0.85)))], label
    )
    return brush.sprite()


def _canister(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A square bottle with a handle and a cap at one side."""
    half, shoulder = (
        height * float(rng.uniform(0.24, 0.3)),
        -height * float(rng.uniform(0.64, 0.74)),
    )
    sign = 1 if rng.random() < 0.5 else -1
    brush = Brush(-half * 1.3, -height, half * 1.3, 2, 3)
    brush.ring(
        (-sign * half * 0.25, shoulder), half * 0.55, height * 0.16, half * 0.24, shade(rgb, 0.8)
    )
    brush.polygon([(-half, 0), (half, 0), (half, shoulder), (-half, shoulder)], rgb)
    brush.polygon(
        [(half * 0.55, 0), (half, 0), (half, shoulder), (half * 0.55, shoulder)], shade(rgb, 0.75)
    )
    neck = sign * half * 0.6
    brush.polygon(_upright(neck, half * 0.25, shoulder, -height * 0.9), rgb)
    brush.polygon(_upright(neck, half * 0.3, -height * 0.88, -height), muted_colour(rng, 0.3, 0.95))
    return brush.sprite()


def _spray(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A bottle with a trigger on top."""
    half, shoulder = height * float(rng.uniform(0.15, 0.2)), -height * 0.6
    sign = 1 if rng.random() < 0.5 else -1
    brush = Brush(-half * 2, -height, half * 2, half * flat + 2, 3)
    brush.oval((0, -half * flat * 0.5), half, half * flat, shade(rgb, 0.7))
    _round_body(
        brush,
        [
            (half, 0.0),
            (half * 0.9, shoulder),
            (half * 0.4, -height * 0.74),
            (half * 0.4, -height * 0.84),
        ],
        rgb,
    )
    head = WHITE if rng.random() < 0.5 else shade(rgb, 0.55)
    tip = sign * half * 1.6
    brush.polygon(
        [
            (-sign * half * 0.7, -height * 0.84),
            (tip, -height * 0.88),
            (tip, -height * 0.96),
            (-sign * half * 0.7, -height),
        ],
        head,
    )
    brush.limb(
        (sign * half * 0.9, -height * 0.86),
        (sign * half * 1.1, -height * 0.74),
        half * 0.14,
        half * 0.1,
        shade(head, 0.8),
        lit=False,
    )
    return brush.sprite()


def _lying_book(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A thick book that lies on its side, its pages to the camera."""
    half, thick = height * float(rng.uniform(0.5, 0.64)), height * float(rng.uniform(0.4, 0.55))
    back, cover = height - thick, height * 0.08
    brush = Brush(-half * 1.2, -height, half * 1.2, 2, 3)
    brush.polygon(
        [
            (-half, -thick),
            (half, -thick),
            (half * 0.86, -thick - back),
            (-half * 0.86, -thick - back),
        ],
        shade(rgb, 1.12),
    )
    brush.polygon([(-half, 0), (half, 0), (half, -thick), (-half, -thick)], (236, 230, 214))
    for y in (0.0, -thick + cover):
        brush.polygon(
            [(-half, y), (half, y), (half, y - cover), (-half, y - cover)], shade(rgb, 0.85)
        )
    spine = -half if rng.random() < 0.5 else half * 0.86
    brush.polygon(
        [(spine, 0), (spine + half * 0.14, 0), (spine + half * 0.14, -thick), (spine, -thick)],
        shade(rgb, 0.7),
    )
    return brush.sprite()


def _bound_book(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A book that stands upright, wider than usual, with bands across its cover and corners of
    metal.
    """
    half = height * float(rng.uniform(0.36, 0.48))
    brush = Brush(-half * 1.2, -height, half * 1.2, 2, 3)
    brush.polygon(
        _upright(half * 1.02, half * 0.12, -height * 0.05, -height * 0.95), (236, 230, 214)
    )
    brush.polygon([(-half, 0), (half, 0), (half, -height), (-half, -height)], rgb)
    band = shade(rgb, 0.5) if rng.random() < 0.5 else mix(rgb, WHITE, 0.7)
    if rng.random() < 0.5:
        for part in (0.2, 0.5, 0.8):
            brush.polygon(
                [
                    (-half, -height * part),
                    (half, -height * part),
                    (half, -height * (part + 0.06)),
                    (-half, -height * (part + 0.06)),
                ],
                band,
            )
    else:
        brush.polygon(
            [(half * 0.45, 0), (half * 0.65, 0), (half * 0.65, -height), (half * 0.45, -height)],
            band,
        )
    for x in (-half, half * 0.8):
        for y in (0.0, -height * 0.88):
            brush.polygon(
                [
                    (x, y),
                    (x + half * 0.2, y),
                    (x + half * 0.2, y - height * 0.12),
                    (x, y - height * 0.12),
                ],
                (206, 182, 112),
            )
    return brush.sprite()


_PAINTERS: dict[str, tuple[Painter, ...]] = {
    "box": (_carton, _parcel, _chest),
    "cup": (_tumbler, _goblet, _paper_cup, _tea_cup),
    "bottle": (_wine_bottle, _canister, _spray),
    "book": (_lying_book, _bound_book),
}
