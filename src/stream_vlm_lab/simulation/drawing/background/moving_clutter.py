"""Decorations that move but are no event: flickering screens, swaying curtains and plants."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from stream_vlm_lab.simulation.raster.projection import Box, Projection, fill_box
from stream_vlm_lab.simulation.raster.sprite import Image
from stream_vlm_lab.simulation.scene.palette import Rgb, muted_colour, shade
from stream_vlm_lab.simulation.scene.scene import Decoration

ANIMATED = ("screen", "curtain", "plant")
"""Kinds of decorations that `paint_moving` paints in every frame."""


def paint_moving(canvas: Image, projection: Projection, decoration: Decoration, t_s: float) -> None:
    """Paint a moving decoration as it is at `t_s` seconds."""
    _MOVING[decoration.kind](
        canvas, projection.box(decoration.area), decoration.rgb, decoration.style_seed, t_s
    )


def _screen(canvas: Image, box: Box, rgb: Rgb, style_seed: int, t_s: float) -> None:
    left, top, right, bottom = box
    middle, half = (top + bottom) // 2, int((right - left) * 0.32)
    top, bottom = max(top, middle - half), min(bottom, middle + half)
    still = np.random.default_rng(style_seed)
    hold = float(still.uniform(0.2, 2.5))
    rng = np.random.default_rng([style_seed, int(t_s / hold)])
    fill_box(canvas, left, top, right, bottom, (22, 22, 24))
    edge = max(1, (right - left) // 22)
    fill_box(
        canvas, left + edge, top + edge, right - edge, bottom - edge, muted_colour(rng, 0.2, 0.9)
    )
    for _ in range(3):
        x0, x1 = sorted(rng.uniform(left + edge, right - edge, 2))
        y0, y1 = sorted(rng.uniform(top + edge, bottom - edge, 2))
        fill_box(canvas, x0, y0, x1, y1, muted_colour(rng, 0.2, 0.95))


def _curtain(canvas: Image, box: Box, rgb: Rgb, style_seed: int, t_s: float) -> None:
    left, top, right, bottom = box
    left, right, top, bottom = (
        max(left, 0),
        min(right, canvas.shape[1]),
        max(top, 0),
        min(bottom, canvas.shape[0]),
    )
    if right <= left or bottom <= top:
        return
    phase = (style_seed % 628) / 100
    folds = 2 * np.pi * 5 / (right - left)
    down = np.linspace(0.1, 1, bottom - top, dtype=np.float32)[:, None]
    across = np.arange(right - left, dtype=np.float32)[None, :]
    light = 0.82 + 0.18 * np.sin(
        folds * across + phase + 1.2 * down * np.sin(0.9 * t_s + phase + down)
    )
    canvas[top:bottom, left:right] = np.clip(
        light[..., None] * np.array(rgb, np.float32), 0, 255
    ).astype(np.uint8)


def _plant(canvas: Image, box: Box, rgb: Rgb, style_seed: int, t_s: float) -> None:
    left, top, right, bottom = box
    rng = np.random.default_rng(style_seed)
    tall, middle = bottom - top, (left + right) / 2
    pot = (right - left) * 0.2
    for _ in range(11):
        bend = float(rng.uniform(-1.2, 1.2)) + 0.06 * np.sin(1.1 * t_s + float(rng.uniform(0, 6)))
        length = tall * float(rng.uniform(0.4, 0.72))
        root = np.array([middle, bottom - tall * 0.25])
        tip = root + length * np.array([np.sin(bend), -np.cos(bend)])
        centre = (root + tip) / 2
        cv2.ellipse(
            canvas,
            (int(centre[0]), int(centre[1])),
            (int(length / 2), max(1, int(tall * 0.045))),
            float(np.rad2deg(bend)) + 90,
            0,
            360,
            shade((60, 112, 58), float(rng.uniform(0.6, 1.2))),
            -1,
            cv2.LINE_AA,
        )
    corners = [
        (middle - pot, bottom - tall * 0.27),
        (middle + pot, bottom - tall * 0.27),
        (middle + pot * 0.7, bottom),
        (middle - pot * 0.7, bottom),
    ]
    cv2.fillPoly(canvas, [np.array(corners, np.int32)], rgb, cv2.LINE_AA)


_MOVING: dict[str, Callable[[Image, Box, Rgb, int, float], None]] = {
    "screen": _screen,
    "curtain": _curtain,
    "plant": _plant,
}
