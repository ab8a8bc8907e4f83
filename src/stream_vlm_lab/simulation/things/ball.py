"""Balls that can roll, each with a pattern."""

from __future__ import annotations

import cv2
import numpy as np

from stream_vlm_lab.simulation.raster.sprite import Sprite
from stream_vlm_lab.simulation.scene.palette import Rgb, shade

WHITE: Rgb = (255, 255, 255)


class Ball:
    """A shaded ball that can be rotated; its origin is the point where it touches the ground.

    A `form` has a pattern of its own: "unseen" consists of quarters, the others are `varied.BALLS`
    and `procedural.BALLS`.
    """

    def __init__(self, rgb: Rgb, diameter: float, style_seed: int, form: str = "") -> None:
        self._size = max(8, round(diameter))
        fine = self._size * 2
        self._texture = _rolling_texture(rgb, style_seed, fine, form)
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
        """The ball, rotated by `radians` (positive is to the right)."""
        fine = self._texture.shape[0]
        turn = cv2.getRotationMatrix2D(
            (fine / 2 - 0.5, fine / 2 - 0.5), -float(np.rad2deg(radians)), 1.0
        )
        rgb = cv2.warpAffine(self._texture, turn, (fine, fine), borderMode=cv2.BORDER_REPLICATE)
        shaded = np.clip(rgb * self._light + self._gleam, 0, 255) * (self._alpha[..., None] > 0)
        size = (self._size, self._size)
        small = cv2.resize(shaded.astype(np.uint8), size, interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(self._alpha, size, interpolation=cv2.INTER_AREA)
        return Sprite(small, alpha, -self._size // 2, -self._size + max(1, self._size // 12))


def _rolling_texture(rgb: Rgb, style_seed: int, size: int, form: str) -> np.ndarray:
    rng = np.random.default_rng(style_seed)
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
            pixel_of = (int(rng.integers(size)), int(rng.integers(size)))
            cv2.circle(
                texture,
                pixel_of,
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
            pixel_of = (
                int(middle + np.cos(turn) * size * 0.27),
                int(middle + np.sin(turn) * size * 0.27),
            )
            cv2.circle(texture, pixel_of, int(size * 0.1), other, -1)
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
