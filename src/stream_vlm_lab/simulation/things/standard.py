"""The standard forms of balls, boxes, cups, bottles and books.

The origin of each is the middle of its foot.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from stream_vlm_lab.simulation.raster.sprite import Brush, Sprite
from stream_vlm_lab.simulation.scene.palette import Rgb, mix, muted_colour, shade
from stream_vlm_lab.simulation.things.ball import Ball

WHITE: Rgb = (255, 255, 255)


def draw_thing(kind: str, rgb: Rgb, height: float, pitch: float, style_seed: int) -> Sprite:
    """Draw a thing in its standard form.

    Args:
        kind: kind of thing.
        rgb: its colour.
        height: height in pixels.
        pitch: pitch of the camera in radians.
        style_seed: seed of small variations.
    """
    return _PAINTERS[kind](rgb, height, pitch, np.random.default_rng(style_seed))


def _ellipse_flatness(pitch: float) -> float:
    """Height over width of a level circle in the picture; at least 0.14, so a rim stays visible."""
    return max(0.14, float(np.sin(pitch)))


def _ball(rgb: Rgb, height: float, pitch: float, rng: np.random.Generator) -> Sprite:
    return Ball(rgb, height, int(rng.integers(1 << 31))).turned(0.0)


def _box(rgb: Rgb, height: float, pitch: float, rng: np.random.Generator) -> Sprite:
    half = height * float(rng.uniform(0.55, 0.66))
    flat = min(0.75, 0.25 + float(np.sin(pitch)) * 0.6)
    top = height * flat * 0.5
    front = height - top
    side = half * float(rng.uniform(0.15, 0.4)) * (1 if rng.random() < 0.5 else -1)
    brush = Brush(-half * 1.05, -height, half * 1.05, 2, 3)
    left, right = (-half, half - abs(side)) if side > 0 else (-half + abs(side), half)
    corner = right if side > 0 else left
    brush.polygon(
        [(corner, 0), (corner + side, -top * 0.8), (corner + side, -front - top), (corner, -front)],
        shade(rgb, 0.6),
    )
    brush.polygon(
        [
            (left, -front),
            (right, -front),
            (right + side, -front - top),
            (left + side, -front - top),
        ],
        shade(rgb, 1.16),
    )
    brush.polygon([(left, 0), (right, 0), (right, -front), (left, -front)], shade(rgb, 0.9))
    middle, tape = (left + right) / 2, half * 0.12
    style = rng.choice(["plain", "tape", "label", "lid"])
    if style == "tape":
        pale = mix(rgb, (225, 205, 160), 0.6)
        brush.polygon(
            [
                (middle - tape, -front),
                (middle + tape, -front),
                (middle + tape + side, -height),
                (middle - tape + side, -height),
            ],
            pale,
        )
        brush.polygon(
            [
                (middle - tape, -front * 0.62),
                (middle + tape, -front * 0.62),
                (middle + tape, -front),
                (middle - tape, -front),
            ],
            shade(pale, 0.85),
        )
    elif style == "label":
        brush.polygon(
            [
                (middle - half * 0.3, -front * 0.25),
                (middle + half * 0.3, -front * 0.25),
                (middle + half * 0.3, -front * 0.65),
                (middle - half * 0.3, -front * 0.65),
            ],
            (235, 235, 230),
        )
    elif style == "lid":
        brush.polygon(
            [
                (left, -front * 0.78),
                (right, -front * 0.78),
                (right, -front * 0.72),
                (left, -front * 0.72),
            ],
            shade(rgb, 0.55),
        )
    return brush.sprite()


def _cup(rgb: Rgb, height: float, pitch: float, rng: np.random.Generator) -> Sprite:
    top_half = height * float(rng.uniform(0.38, 0.46))
    foot_half = top_half * float(rng.uniform(0.62, 0.98))
    flat = _ellipse_flatness(pitch)
    lip = top_half * flat
    sign = 1 if rng.random() < 0.5 else -1
    brush = Brush(-height * 0.75, -height, height * 0.75, height * 0.1 + lip, 3)
    rim = -height + lip
    handle_x, handle_y = sign * (top_half + foot_half) / 2, rim * 0.52
    if rng.random() < 0.85:
        brush.ring(
            (handle_x, handle_y), height * 0.2, height * 0.24, height * 0.09, shade(rgb, 0.75)
        )
    brush.oval((0, -foot_half * flat), foot_half, foot_half * flat, shade(rgb, 0.7))
    edges = np.linspace(-1, 1, 9)
    for left, right in pairwise(edges):
        light = 1.08 - 0.5 * abs((left + right) / 2 + 0.3) ** 1.4
        sag_left, sag_right = np.sqrt(1 - left**2), np.sqrt(1 - right**2)
        brush.polygon(
            [
                (left * top_half, rim), (right * top_half, rim),
                (right * foot_half, -foot_half * flat + sag_right * foot_half * flat),
                (left * foot_half, -foot_half * flat + sag_left * foot_half * flat),
            ],
            shade(rgb, light),
        )  # fmt: skip
    if rng.random() < 0.3:
        brush.polygon(
            [
                (-top_half * 0.9, rim * 0.6),
                (top_half * 0.9, rim * 0.6),
                (top_half * 0.86, rim * 0.45),
                (-top_half * 0.86, rim * 0.45),
            ],
            mix(rgb, WHITE, 0.55),
        )
    brush.oval((0, rim), top_half, lip, shade(rgb, 1.15))
    inside = (66, 40, 24) if rng.random() < 0.5 else shade(rgb, 0.55)
    brush.oval((0, rim + lip * 0.08), top_half * 0.86, lip * 0.8, inside)
    return brush.sprite()


def _bottle(rgb: Rgb, height: float, pitch: float, rng: np.random.Generator) -> Sprite:
    half = height * float(rng.uniform(0.155, 0.2))
    neck = half * float(rng.uniform(0.34, 0.5))
    shoulder, neck_foot = (
        -height * float(rng.uniform(0.56, 0.68)),
        -height * float(rng.uniform(0.74, 0.82)),
    )
    cap_foot = -height * 0.89
    flat = _ellipse_flatness(pitch) * 0.7
    brush = Brush(-half * 1.2, -height, half * 1.2, half * flat + 2, 3)
    glassy = rng.random() < 0.4
    edges = np.linspace(-1, 1, 9)
    brush.oval((0, -half * flat), half, half * flat, shade(rgb, 0.75))
    for left, right in pairwise(edges):
        light = 1.1 - 0.55 * abs((left + right) / 2 + 0.3) ** 1.3
        tone = shade(rgb, light)
        sag_left, sag_right = (
            half * flat * np.sqrt(1 - left**2),
            half * flat * np.sqrt(1 - right**2),
        )
        brush.polygon(
            [
                (left * half, -half * flat + sag_left), (right * half, -half * flat + sag_right),
                (right * half, shoulder), (right * neck, neck_foot), (right * neck, cap_foot),
                (left * neck, cap_foot), (left * neck, neck_foot), (left * half, shoulder),
            ],
            tone,
        )  # fmt: skip
    if glassy:
        brush.set_opacity(0.78)
        brush.limb(
            (-half * 0.55, shoulder * 0.9),
            (-half * 0.55, shoulder * 0.3),
            half * 0.1,
            half * 0.1,
            mix(rgb, WHITE, 0.75),
            shaded=False,
        )
    if rng.random() < 0.5:
        label = mix(rgb, WHITE, 0.8) if rng.random() < 0.7 else muted_colour(rng, 0.6, 0.95)
        low, high = shoulder * 0.25, shoulder * float(rng.uniform(0.5, 0.7))
        for left, right in pairwise(edges):
            light = 1.02 - 0.4 * abs((left + right) / 2 + 0.3) ** 1.3
            brush.polygon(
                [
                    (left * half, low),
                    (right * half, low),
                    (right * half, high),
                    (left * half, high),
                ],
                shade(label, light),
            )
    cap = (
        shade(rgb, 0.6)
        if rng.random() < 0.5
        else ((235, 235, 235) if rng.random() < 0.5 else (40, 40, 44))
    )
    brush.polygon(
        [
            (-neck * 1.2, cap_foot),
            (neck * 1.2, cap_foot),
            (neck * 1.2, -height * 0.97),
            (-neck * 1.2, -height * 0.97),
        ],
        cap,
    )
    brush.oval((0, -height * 0.97), neck * 1.2, max(1.0, neck * 1.2 * flat), shade(cap, 1.2))
    return brush.sprite()


def _book(rgb: Rgb, height: float, pitch: float, rng: np.random.Generator) -> Sprite:
    half = height * float(rng.uniform(0.34, 0.4))
    lean = half * float(rng.uniform(0.05, 0.22)) * (1 if rng.random() < 0.5 else -1)
    thick = height * float(rng.uniform(0.07, 0.12))
    brush = Brush(-half * 1.5, -height, half * 1.5, 2, 3)
    brush.polygon(
        [
            (-half + thick, 0),
            (half + thick, 0),
            (half + lean + thick, -height + thick),
            (-half + lean + thick, -height + thick),
        ],
        shade(rgb, 0.6),
    )
    brush.polygon(
        [
            (half, 0),
            (half + thick * 0.8, -thick * 0.4),
            (half + lean + thick * 0.8, -height + thick),
            (half + lean, -height + thick * 0.5),
        ],
        (236, 230, 214),
    )
    brush.polygon([(-half, 0), (half, 0), (half + lean, -height), (-half + lean, -height)], rgb)
    spine = half * 0.16
    brush.polygon(
        [(-half, 0), (-half + spine, 0), (-half + spine + lean, -height), (-half + lean, -height)],
        shade(rgb, 0.7),
    )
    band = mix(rgb, WHITE, 0.75) if sum(rgb) < 560 else shade(rgb, 0.4)
    shift = lean * 0.7
    brush.polygon(
        [
            (-half * 0.55 + shift, -height * 0.62),
            (half * 0.7 + shift, -height * 0.62),
            (half * 0.7 + shift, -height * 0.76),
            (-half * 0.55 + shift, -height * 0.76),
        ],
        band,
    )
    if rng.random() < 0.5:
        brush.oval((half * 0.08 + lean * 0.3, -height * 0.33), half * 0.3, height * 0.12, band)
    return brush.sprite()


_PAINTERS: dict[str, Callable[[Rgb, float, float, np.random.Generator], Sprite]] = {
    "ball": _ball,
    "box": _box,
    "cup": _cup,
    "bottle": _bottle,
    "book": _book,
}
