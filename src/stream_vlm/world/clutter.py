"""Things that never take part in an event: furniture, windows, posters; and those that move all the same: screens, curtains, plants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from stream_vlm.world.palette import Rgb, mix, muted_colour, shade
from stream_vlm.world.scene import Decoration, top_to_front
from stream_vlm.world.sprite import Image

ANIMATED = ("screen", "curtain", "plant")
"""Kinds that `paint_moving` paints anew for every frame."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Plot:
    """Turns scene coordinates into pixels of a canvas on which the picture's upper left corner lies at (right, down)."""

    width: int
    height: int
    right: float
    down: float

    def at(self, u: float, v: float) -> tuple[float, float]:
        """Pixel position of (u, v)."""
        return self.right + u * self.width, self.down + v * self.height


def _box(plot: Plot, decoration: Decoration) -> Box:
    left, top = plot.at(decoration.area.left, decoration.area.top)
    right, bottom = plot.at(decoration.area.right, decoration.area.bottom)
    return int(left), int(top), int(right), int(bottom)


def _fill(canvas: Image, left: float, top: float, right: float, bottom: float, rgb: Rgb) -> None:
    cv2.rectangle(canvas, (int(left), int(top)), (int(right), int(bottom)), rgb, -1)


def paint_decoration(canvas: Image, plot: Plot, decoration: Decoration, pitch: float) -> None:
    """Paint one unmoving decoration as seen by a camera that looks down by `pitch` radians."""
    box, rng = _box(plot, decoration), np.random.default_rng(decoration.look)
    if decoration.kind in ("table", "cabinet"):
        share = top_to_front(pitch)
        deep = round((box[3] - box[1]) * share / (1 + share))
        _FURNITURE[decoration.kind](canvas, box, deep, decoration.rgb, rng)
    else:
        _STILL[decoration.kind](canvas, box, decoration.rgb, rng)


def _window(canvas: Image, box: Box, rgb: Rgb, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    sky_high, sky_low = (150, 190, 232), (226, 234, 240)
    if rng.random() < 0.25:
        sky_high, sky_low = (18, 22, 38), (50, 52, 70)
    ramp = np.linspace(0, 1, max(1, bottom - top))
    height, width = canvas.shape[:2]
    for row, share in zip(range(top, bottom), ramp, strict=False):
        if 0 <= row < height:
            canvas[row, max(left, 0) : min(right, width)] = mix(sky_high, sky_low, float(share))
    for _ in range(3):
        centre = int(rng.uniform(left, right)), int(bottom - rng.uniform(0, 0.25) * (bottom - top))
        radius = int(rng.uniform(0.1, 0.25) * (right - left))
        x = int(np.clip(centre[0], left + radius, max(right - radius, left + radius)))
        y = max(centre[1] - radius, top + radius)
        cv2.circle(canvas, (x, y), radius, shade((70, 98, 62), float(rng.uniform(0.5, 1))), -1, cv2.LINE_AA)
    frame: Rgb = (235, 233, 228) if rng.random() < 0.7 else (86, 66, 50)
    thick = max(2, int((right - left) * 0.06))
    cv2.rectangle(canvas, (left, top), (right, bottom), frame, thick)
    cv2.line(canvas, ((left + right) // 2, top), ((left + right) // 2, bottom), frame, max(1, thick // 2))
    cv2.line(canvas, (left, (top + bottom) // 2), (right, (top + bottom) // 2), frame, max(1, thick // 2))


def _poster(canvas: Image, box: Box, rgb: Rgb, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    _fill(canvas, left, top, right, bottom, rgb)
    for _ in range(int(rng.integers(2, 6))):
        tone = muted_colour(rng, 0.2, 0.95)
        x0, x1 = sorted(rng.uniform(left, right, 2))
        y0, y1 = sorted(rng.uniform(top, bottom, 2))
        if rng.random() < 0.5:
            _fill(canvas, x0, y0, x1, y1, tone)
        else:
            radius = int(min(x1 - x0, y1 - y0) / 2)
            cv2.circle(canvas, (int((x0 + x1) / 2), int((y0 + y1) / 2)), radius, tone, -1, cv2.LINE_AA)
    edge: Rgb = (30, 28, 26) if rng.random() < 0.5 else (232, 230, 224)
    cv2.rectangle(canvas, (left, top), (right, bottom), edge, max(1, (right - left) // 24))


def _shelf(canvas: Image, box: Box, rgb: Rgb, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    _fill(canvas, left, top, right, bottom, shade(rgb, 0.5))
    rows = int(rng.integers(2, 5))
    tall = (bottom - top) / rows
    board = max(2, int(tall * 0.1))
    for row in range(rows):
        foot = top + (row + 1) * tall
        x = float(left + board)
        while x < right - board:
            wide = float(rng.uniform(0.1, 0.24)) * tall
            if rng.random() < 0.75:
                _fill(canvas, x, foot - tall * rng.uniform(0.45, 0.8), min(x + wide, right - board), foot, muted_colour(rng, 0.2, 0.8))
            x += wide + 1
        _fill(canvas, left, foot - board, right, foot, rgb)
    cv2.rectangle(canvas, (left, top), (right, bottom), rgb, board)


def _sofa(canvas: Image, box: Box, rgb: Rgb, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    tall = bottom - top
    wide = int((right - left) * 0.25)
    left, right = left - wide, right + wide
    _fill(canvas, left, top, right, bottom - tall * 0.1, shade(rgb, 0.8))
    _fill(canvas, left, top + tall * 0.5, right, bottom - tall * 0.12, rgb)
    arm = int((right - left) * 0.1)
    for x in (left, right - arm):
        _fill(canvas, x, top + tall * 0.3, x + arm, bottom - tall * 0.08, shade(rgb, 0.9))
    cv2.line(canvas, ((left + right) // 2, int(top + tall * 0.1)), ((left + right) // 2, int(bottom - tall * 0.15)), shade(rgb, 0.6), 2)


def _table(canvas: Image, box: Box, deep: int, rgb: Rgb, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    leg = max(2, int((right - left) * 0.045))
    for x in (left + leg, right - 2 * leg):
        _fill(canvas, x, top + deep, x + leg, bottom, shade(rgb, 0.6))
    for x in (left + 3 * leg, right - 4 * leg):
        _fill(canvas, x, top + deep, x + leg, bottom - (bottom - top) * 0.12, shade(rgb, 0.45))
    _top(canvas, box, deep, rgb)


def _cabinet(canvas: Image, box: Box, deep: int, rgb: Rgb, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    _fill(canvas, left + 2, top + deep, right - 2, bottom, shade(rgb, 0.78))
    doors = int(rng.integers(2, 4))
    wide = (right - left) / doors
    for index in range(doors):
        cv2.rectangle(
            canvas,
            (int(left + index * wide + 4), int(top + deep + 6)),
            (int(left + (index + 1) * wide - 4), bottom - 6),
            shade(rgb, 0.6),
            2,
        )
    _top(canvas, box, deep, rgb)


def _top(canvas: Image, box: Box, deep: int, rgb: Rgb) -> None:
    left, top, right, _ = box
    inset = int((right - left) * 0.06)
    corners = [(left + inset, top), (right - inset, top), (right, top + deep), (left, top + deep)]
    cv2.fillPoly(canvas, [np.array(corners, np.int32)], shade(rgb, 1.08), cv2.LINE_AA)
    _fill(canvas, left, top + deep, right, top + deep + max(2, deep // 5), shade(rgb, 0.72))


def _rug(canvas: Image, box: Box, rgb: Rgb, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    inset = int((right - left) * 0.12)
    for shrink, tone in ((0, shade(rgb, 0.75)), (1, rgb)):
        x, y = shrink * (right - left) // 18, shrink * (bottom - top) // 10
        corners = [(left + inset + x, top + y), (right - inset - x, top + y), (right - x, bottom - y), (left + x, bottom - y)]
        cv2.fillPoly(canvas, [np.array(corners, np.int32)], tone, cv2.LINE_AA)


def _flat(canvas: Image, box: Box, rgb: Rgb, angle: float) -> np.ndarray:
    left, top, right, bottom = box
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    half = np.array([(right - left) / 2, (bottom - top) / 2])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    square = np.array([[-0.7, -0.7], [0.7, -0.7], [0.7, 0.7], [-0.7, 0.7]])
    corners = middle + (square @ turn.T) * half
    cv2.fillPoly(canvas, [corners.astype(np.int32)], rgb, cv2.LINE_AA)
    return corners


def _paper(canvas: Image, box: Box, rgb: Rgb, rng: np.random.Generator) -> None:
    corners = _flat(canvas, box, (234, 232, 226), float(rng.uniform(0, 1.5)))
    for share in np.linspace(0.15, 0.8, 6):
        start = corners[0] * (1 - share) + corners[3] * share
        end = corners[1] * (1 - share) + corners[2] * share
        first, last = start * 0.88 + end * 0.12, start * 0.2 + end * 0.8
        cv2.line(canvas, (int(first[0]), int(first[1])), (int(last[0]), int(last[1])), (150, 150, 156), 1, cv2.LINE_AA)


def _keyboard(canvas: Image, box: Box, rgb: Rgb, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    middle = (top + bottom) // 2
    top, bottom = (top + middle) // 2, (bottom + middle) // 2
    _fill(canvas, left, top, right, bottom, (48, 48, 52))
    step_x, step_y = (right - left) / 12, (bottom - top) / 4
    for row in range(4):
        for column in range(12):
            x, y = left + column * step_x, top + row * step_y
            _fill(canvas, x + 1, y + 1, x + step_x - 2, y + step_y - 2, (84, 84, 88))


def _plate(canvas: Image, box: Box, rgb: Rgb, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    centre = (left + right) // 2, (top + bottom) // 2
    for share, tone in ((1.0, (226, 226, 222)), (0.72, (206, 206, 204)), (0.68, (232, 232, 228))):
        axes = int((right - left) * share * 0.4), int((bottom - top) * share * 0.4)
        cv2.ellipse(canvas, centre, axes, 0, 0, 360, tone, -1, cv2.LINE_AA)


def _mat(canvas: Image, box: Box, rgb: Rgb, rng: np.random.Generator) -> None:
    _flat(canvas, box, rgb, float(rng.uniform(-0.3, 0.3)))


_STILL: dict[str, Callable[[Image, Box, Rgb, np.random.Generator], None]] = {
    "window": _window,
    "poster": _poster,
    "shelf": _shelf,
    "sofa": _sofa,
    "rug": _rug,
    "paper": _paper,
    "keyboard": _keyboard,
    "plate": _plate,
    "mat": _mat,
}


_FURNITURE: dict[str, Callable[[Image, Box, int, Rgb, np.random.Generator], None]] = {"table": _table, "cabinet": _cabinet}


def paint_moving(canvas: Image, plot: Plot, decoration: Decoration, t_s: float) -> None:
    """Paint a decoration that moves but means nothing, as it is at `t_s` seconds."""
    _MOVING[decoration.kind](canvas, _box(plot, decoration), decoration.rgb, decoration.look, t_s)


def _screen(canvas: Image, box: Box, rgb: Rgb, look: int, t_s: float) -> None:
    left, top, right, bottom = box
    middle, half = (top + bottom) // 2, int((right - left) * 0.32)
    top, bottom = max(top, middle - half), min(bottom, middle + half)
    still = np.random.default_rng(look)
    hold = float(still.uniform(0.2, 2.5))
    rng = np.random.default_rng([look, int(t_s / hold)])
    _fill(canvas, left, top, right, bottom, (22, 22, 24))
    edge = max(1, (right - left) // 22)
    _fill(canvas, left + edge, top + edge, right - edge, bottom - edge, muted_colour(rng, 0.2, 0.9))
    for _ in range(3):
        x0, x1 = sorted(rng.uniform(left + edge, right - edge, 2))
        y0, y1 = sorted(rng.uniform(top + edge, bottom - edge, 2))
        _fill(canvas, x0, y0, x1, y1, muted_colour(rng, 0.2, 0.95))


def _curtain(canvas: Image, box: Box, rgb: Rgb, look: int, t_s: float) -> None:
    left, top, right, bottom = box
    left, right, top, bottom = max(left, 0), min(right, canvas.shape[1]), max(top, 0), min(bottom, canvas.shape[0])
    if right <= left or bottom <= top:
        return
    phase = (look % 628) / 100
    folds = 2 * np.pi * 5 / (right - left)
    down = np.linspace(0.1, 1, bottom - top, dtype=np.float32)[:, None]
    across = np.arange(right - left, dtype=np.float32)[None, :]
    light = 0.82 + 0.18 * np.sin(folds * across + phase + 1.2 * down * np.sin(0.9 * t_s + phase + down))
    canvas[top:bottom, left:right] = np.clip(light[..., None] * np.array(rgb, np.float32), 0, 255).astype(np.uint8)


def _plant(canvas: Image, box: Box, rgb: Rgb, look: int, t_s: float) -> None:
    left, top, right, bottom = box
    rng = np.random.default_rng(look)
    tall, middle = bottom - top, (left + right) / 2
    pot = (right - left) * 0.2
    for _ in range(11):
        bend = float(rng.uniform(-1.2, 1.2)) + 0.06 * np.sin(1.1 * t_s + float(rng.uniform(0, 6)))
        length = tall * float(rng.uniform(0.4, 0.72))
        root = np.array([middle, bottom - tall * 0.25])
        tip = root + length * np.array([np.sin(bend), -np.cos(bend)])
        centre = (root + tip) / 2
        cv2.ellipse(
            canvas, (int(centre[0]), int(centre[1])), (int(length / 2), max(1, int(tall * 0.045))),
            float(np.rad2deg(bend)) + 90, 0, 360, shade((60, 112, 58), float(rng.uniform(0.6, 1.2))), -1, cv2.LINE_AA,
        )  # fmt: skip
    corners = [
        (middle - pot, bottom - tall * 0.27),
        (middle + pot, bottom - tall * 0.27),
        (middle + pot * 0.7, bottom),
        (middle - pot * 0.7, bottom),
    ]
    cv2.fillPoly(canvas, [np.array(corners, np.int32)], rgb, cv2.LINE_AA)


_MOVING: dict[str, Callable[[Image, Box, Rgb, int, float], None]] = {"screen": _screen, "curtain": _curtain, "plant": _plant}
