"""Portable things: balls, boxes, cups, bottles and books, drawn once each; their origin is the
middle of their foot.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np

from stream_vlm_lab.simulation.raster.sprite import Brush, Sprite
from stream_vlm_lab.simulation.scene.palette import Rgb, mix, muted_colour, shade

WHITE: Rgb = (255, 255, 255)


def draw_thing(kind: str, rgb: Rgb, height: float, pitch: float, look: int) -> Sprite:
    """A thing `height` pixels tall as seen by a camera that looks down by `pitch` radians."""
    return _PAINTERS[kind](rgb, height, pitch, np.random.default_rng(look))


def _ellipse_flatness(pitch: float) -> float:
    """Height over width of a level circle; never quite a line, for even a level camera sees a rim."""
    return max(0.14, float(np.sin(pitch)))


def _rolling_texture(rgb: Rgb, look: int, size: int, form: str) -> np.ndarray:
    rng = np.random.default_rng(look)
    texture = np.full((size, size, 3), rgb, np.uint8)
    style = rng.choice(["plain", "band", "spots", "panels"])
    other = WHITE if sum(rgb) < 520 else shade(rgb, 0.55)
    middle = size // 2
    if form == "unseen":
        texture[:middle, middle:] = texture[middle:, :middle] = shade(rgb, 0.45)
    elif form == "rings":
        for part, tone in ((0.42, other), (0.3, rgb), (0.18, other)):
            cv2.circle(texture, (middle, middle), int(size * part), tone, -1)
    elif form == "stripes":
        for part in (0.08, 0.34, 0.6, 0.86):
            cv2.rectangle(
                texture, (0, int(size * part)), (size, int(size * (part + 0.1))), other, -1
            )
    elif form == "half":
        texture[middle:] = other
    elif form == "sectors":
        count = int(rng.choice([3, 5, 6]))
        for turn in np.arange(count) * 360 / count:
            cv2.ellipse(
                texture,
                (middle, middle),
                (size, size),
                0.0,
                float(turn),
                float(turn) + 180 / count,
                other,
                -1,
            )
    elif form == "patches":
        for _ in range(int(rng.integers(4, 9))):
            spot = (int(rng.integers(size)), int(rng.integers(size)))
            cv2.circle(
                texture,
                spot,
                int(size * rng.uniform(0.06, 0.16)),
                shade(rgb, 0.5) if rng.random() < 0.5 else other,
                -1,
            )
    elif form == "belts":
        for part in rng.uniform(0.1, 0.85, 3):
            cv2.rectangle(
                texture,
                (int(size * part), 0),
                (int(size * (part + rng.uniform(0.03, 0.12))), size),
                shade(rgb, 0.6),
                -1,
            )
    elif style == "band":
        cv2.rectangle(texture, (0, int(size * 0.43)), (size, int(size * 0.57)), other, -1)
    elif style == "spots":
        for turn in np.linspace(0, 2 * np.pi, 4)[:-1]:
            spot = (
                int(middle + np.cos(turn) * size * 0.27),
                int(middle + np.sin(turn) * size * 0.27),
            )
            cv2.circle(texture, spot, int(size * 0.1), other, -1)
    elif style == "panels":
        for turn in np.linspace(0, np.pi, 4)[:-1]:
            away = np.array([np.cos(turn), np.sin(turn)]) * size
            cv2.line(
                texture,
                tuple(int(v) for v in middle - away),
                tuple(int(v) for v in middle + away),
                shade(rgb, 0.55),
                max(1, size // 26),
            )
    return texture


class Ball:
    """A shaded ball that can be turned; its origin is where it touches the ground.

    A `form` has a pattern of its own: "unseen" is made of quarters, the others are `varied.BALLS`
    and `invented.BALLS`.
    """

    def __init__(self, rgb: Rgb, diameter: float, look: int, form: str = "") -> None:
        self._size = max(8, round(diameter))
        fine = self._size * 2
        self._texture = _rolling_texture(rgb, look, fine, form)
        ys, xs = np.mgrid[0:fine, 0:fine].astype(np.float32)
        x, y = (xs + 0.5) / fine * 2 - 1, (ys + 0.5) / fine * 2 - 1
        inside = x * x + y * y
        z = np.sqrt(np.clip(1 - inside, 0, 1))
        light = np.clip(0.5 + 0.55 * (-0.45 * x - 0.6 * y + 0.66 * z), 0.25, 1.1)
        self._light = cv2.merge([light] * 3)
        gleam = np.clip(1 - ((x + 0.35) ** 2 + (y + 0.42) ** 2) / 0.035, 0, 1) * 130
        self._gleam = cv2.merge([gleam] * 3)
        self._alpha = ((inside <= 0.98) * 255).astype(np.uint8)

    def turned(self, radians: float) -> Sprite:
        """The ball, rolled on by `radians` (to the right is positive)."""
        fine = self._texture.shape[0]
        turn = cv2.getRotationMatrix2D(
            (fine / 2 - 0.5, fine / 2 - 0.5), -float(np.rad2deg(radians)), 1.0
        )
        rgb = cv2.warpAffine(self._texture, turn, (fine, fine), borderMode=cv2.BORDER_REPLICATE)
        lit = np.clip(rgb * self._light + self._gleam, 0, 255) * (self._alpha[..., None] > 0)
        size = (self._size, self._size)
        small = cv2.resize(lit.astype(np.uint8), size, interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(self._alpha, size, interpolation=cv2.INTER_AREA)
        return Sprite(small, alpha, -self._size // 2, -self._size + max(1, self._size // 12))


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
        brush.glaze(0.78)
        brush.limb(
            (-half * 0.55, shoulder * 0.9),
            (-half * 0.55, shoulder * 0.3),
            half * 0.1,
            half * 0.1,
            mix(rgb, WHITE, 0.75),
            lit=False,
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
