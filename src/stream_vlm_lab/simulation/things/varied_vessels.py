"""More forms of cups and bottles for training."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from stream_vlm_lab.simulation.raster.sprite import Brush, Sprite
from stream_vlm_lab.simulation.scene.palette import Rgb, mix, muted_colour, shade

WHITE: Rgb = (255, 255, 255)

Painter = Callable[[Rgb, float, float, np.random.Generator], Sprite]
"""Draws a thing from colour, height (px), height over width of a level circle, random generator."""


def upright(x: float, half: float, low: float, high: float) -> list[tuple[float, float]]:
    """Corners of an upright rectangle, from its middle, half width, lower and upper edge."""
    return [(x - half, low), (x + half, low), (x + half, high), (x - half, high)]


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
    """A paper cup with a lid and a sleeve."""
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
    """A square bottle with a handle, and a cap at one side."""
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
    brush.polygon(upright(neck, half * 0.25, shoulder, -height * 0.9), rgb)
    brush.polygon(upright(neck, half * 0.3, -height * 0.88, -height), muted_colour(rng, 0.3, 0.95))
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
        shaded=False,
    )
    return brush.sprite()


def _round_body(brush: Brush, outline: list[tuple[float, float]], rgb: Rgb) -> None:
    """Fill a body of revolution, with light from the left.

    `outline` is (half width, y) from the foot up.
    """
    edges = np.linspace(-1, 1, 9)
    for left, right in pairwise(edges):
        light = 1.08 - 0.5 * abs((left + right) / 2 + 0.3) ** 1.4
        brush.polygon(
            [(left * x, y) for x, y in outline] + [(right * x, y) for x, y in outline[::-1]],
            shade(rgb, light),
        )


CUPS: tuple[Painter, ...] = (_tumbler, _goblet, _paper_cup, _tea_cup)
BOTTLES: tuple[Painter, ...] = (_wine_bottle, _canister, _spray)
