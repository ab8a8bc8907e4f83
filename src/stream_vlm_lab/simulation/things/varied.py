"""More forms of portable things for training.

A model that has seen many forms of a kind recognises new ones. None is a form of `held_out`.
"""

from __future__ import annotations

import cv2
import numpy as np

from stream_vlm_lab.simulation.raster.sprite import Brush, Sprite
from stream_vlm_lab.simulation.scene.palette import Rgb, mix, shade
from stream_vlm_lab.simulation.things.standard import draw_thing
from stream_vlm_lab.simulation.things.varied_vessels import BOTTLES, CUPS, Painter, upright

WHITE: Rgb = (255, 255, 255)
WIDTHS = (0.75, 1.3)
"""Smallest and largest factor of the width of a thing."""
BALLS = ("rings", "stripes", "half")
"""Patterns of balls that the standard balls do not have; see `Ball`."""


def draw_varied(kind: str, rgb: Rgb, height: float, pitch: float, style_seed: int) -> Sprite:
    """Draw a thing of `kind`, other than a ball, in one of several forms and proportions.

    Args:
        kind: kind of thing.
        rgb: its colour.
        height: height in pixels.
        pitch: pitch of the camera in radians.
        style_seed: seed of the form.
    """
    rng = np.random.default_rng([style_seed, 0xF0A])
    painters = _PAINTERS[kind]
    chosen = int(rng.integers(len(painters) + 1))
    if chosen == len(painters):
        drawn = draw_thing(kind, rgb, height, pitch, style_seed)
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


def _lying_book(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A thick book that lies on its side, with its pages to the camera."""
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
    """An upright book, wider than usual, with bands on its cover and metal corners."""
    half = height * float(rng.uniform(0.36, 0.48))
    brush = Brush(-half * 1.2, -height, half * 1.2, 2, 3)
    brush.polygon(
        upright(half * 1.02, half * 0.12, -height * 0.05, -height * 0.95), (236, 230, 214)
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
    "cup": CUPS,
    "bottle": BOTTLES,
    "book": (_lying_book, _bound_book),
}
