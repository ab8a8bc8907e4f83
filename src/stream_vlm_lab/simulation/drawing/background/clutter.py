"""Things that never take part in an event: furniture, windows, posters, things on a desk."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_vlm_lab.simulation.raster.projection import Box, Projection, fill_box
from stream_vlm_lab.simulation.raster.sprite import Image
from stream_vlm_lab.simulation.scene.palette import Rgb, mix, muted_colour, shade
from stream_vlm_lab.simulation.scene.scene import Decoration, top_to_front


def paint_decoration(
    canvas: Image, projection: Projection, decoration: Decoration, pitch: float
) -> None:
    """Paint one fixed decoration; `pitch` is the pitch of the camera in radians."""
    box, rng = projection.box(decoration.area), np.random.default_rng(decoration.style_seed)
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
        cv2.circle(
            canvas, (x, y), radius, shade((70, 98, 62), float(rng.uniform(0.5, 1))), -1, cv2.LINE_AA
        )
    frame: Rgb = (235, 233, 228) if rng.random() < 0.7 else (86, 66, 50)
    thick = max(2, int((right - left) * 0.06))
    cv2.rectangle(canvas, (left, top), (right, bottom), frame, thick)
    cv2.line(
        canvas, ((left + right) // 2, top), ((left + right) // 2, bottom), frame, max(1, thick // 2)
    )
    cv2.line(
        canvas, (left, (top + bottom) // 2), (right, (top + bottom) // 2), frame, max(1, thick // 2)
    )


def _poster(canvas: Image, box: Box, rgb: Rgb, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    fill_box(canvas, left, top, right, bottom, rgb)
    for _ in range(int(rng.integers(2, 6))):
        tone = muted_colour(rng, 0.2, 0.95)
        x0, x1 = sorted(rng.uniform(left, right, 2))
        y0, y1 = sorted(rng.uniform(top, bottom, 2))
        if rng.random() < 0.5:
            fill_box(canvas, x0, y0, x1, y1, tone)
        else:
            radius = int(min(x1 - x0, y1 - y0) / 2)
            cv2.circle(
                canvas, (int((x0 + x1) / 2), int((y0 + y1) / 2)), radius, tone, -1, cv2.LINE_AA
            )
    edge: Rgb = (30, 28, 26) if rng.random() < 0.5 else (232, 230, 224)
    cv2.rectangle(canvas, (left, top), (right, bottom), edge, max(1, (right - left) // 24))


def _shelf(canvas: Image, box: Box, rgb: Rgb, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    fill_box(canvas, left, top, right, bottom, shade(rgb, 0.5))
    rows = int(rng.integers(2, 5))
    tall = (bottom - top) / rows
    board = max(2, int(tall * 0.1))
    for row in range(rows):
        foot = top + (row + 1) * tall
        x = float(left + board)
        while x < right - board:
            wide = float(rng.uniform(0.1, 0.24)) * tall
            if rng.random() < 0.75:
                fill_box(
                    canvas,
                    x,
                    foot - tall * rng.uniform(0.45, 0.8),
                    min(x + wide, right - board),
                    foot,
                    muted_colour(rng, 0.2, 0.8),
                )
            x += wide + 1
        fill_box(canvas, left, foot - board, right, foot, rgb)
    cv2.rectangle(canvas, (left, top), (right, bottom), rgb, board)


def _sofa(canvas: Image, box: Box, rgb: Rgb, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    tall = bottom - top
    wide = int((right - left) * 0.25)
    left, right = left - wide, right + wide
    fill_box(canvas, left, top, right, bottom - tall * 0.1, shade(rgb, 0.8))
    fill_box(canvas, left, top + tall * 0.5, right, bottom - tall * 0.12, rgb)
    arm = int((right - left) * 0.1)
    for x in (left, right - arm):
        fill_box(canvas, x, top + tall * 0.3, x + arm, bottom - tall * 0.08, shade(rgb, 0.9))
    cv2.line(
        canvas,
        ((left + right) // 2, int(top + tall * 0.1)),
        ((left + right) // 2, int(bottom - tall * 0.15)),
        shade(rgb, 0.6),
        2,
    )


def _table(canvas: Image, box: Box, deep: int, rgb: Rgb, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    leg = max(2, int((right - left) * 0.045))
    for x in (left + leg, right - 2 * leg):
        fill_box(canvas, x, top + deep, x + leg, bottom, shade(rgb, 0.6))
    for x in (left + 3 * leg, right - 4 * leg):
        fill_box(canvas, x, top + deep, x + leg, bottom - (bottom - top) * 0.12, shade(rgb, 0.45))
    _top(canvas, box, deep, rgb)


def _cabinet(canvas: Image, box: Box, deep: int, rgb: Rgb, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    fill_box(canvas, left + 2, top + deep, right - 2, bottom, shade(rgb, 0.78))
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
    fill_box(canvas, left, top + deep, right, top + deep + max(2, deep // 5), shade(rgb, 0.72))


def _rug(canvas: Image, box: Box, rgb: Rgb, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    inset = int((right - left) * 0.12)
    for shrink, tone in ((0, shade(rgb, 0.75)), (1, rgb)):
        x, y = shrink * (right - left) // 18, shrink * (bottom - top) // 10
        corners = [
            (left + inset + x, top + y),
            (right - inset - x, top + y),
            (right - x, bottom - y),
            (left + x, bottom - y),
        ]
        cv2.fillPoly(canvas, [np.array(corners, np.int32)], tone, cv2.LINE_AA)


def _flat(canvas: Image, box: Box, rgb: Rgb, angle: float) -> NDArray[np.float64]:
    left, top, right, bottom = box
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    half = np.array([(right - left) / 2, (bottom - top) / 2])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    square = np.array([[-0.7, -0.7], [0.7, -0.7], [0.7, 0.7], [-0.7, 0.7]])
    corners = np.asarray(middle + (square @ turn.T) * half, np.float64)
    cv2.fillPoly(canvas, [corners.astype(np.int32)], rgb, cv2.LINE_AA)
    return corners


def _paper(canvas: Image, box: Box, rgb: Rgb, rng: np.random.Generator) -> None:
    corners = _flat(canvas, box, (234, 232, 226), float(rng.uniform(0, 1.5)))
    for share in np.linspace(0.15, 0.8, 6):
        start = corners[0] * (1 - share) + corners[3] * share
        end = corners[1] * (1 - share) + corners[2] * share
        first, last = start * 0.88 + end * 0.12, start * 0.2 + end * 0.8
        cv2.line(
            canvas,
            (int(first[0]), int(first[1])),
            (int(last[0]), int(last[1])),
            (150, 150, 156),
            1,
            cv2.LINE_AA,
        )


def _keyboard(canvas: Image, box: Box, rgb: Rgb, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    middle = (top + bottom) // 2
    top, bottom = (top + middle) // 2, (bottom + middle) // 2
    fill_box(canvas, left, top, right, bottom, (48, 48, 52))
    step_x, step_y = (right - left) / 12, (bottom - top) / 4
    for row in range(4):
        for column in range(12):
            x, y = left + column * step_x, top + row * step_y
            fill_box(canvas, x + 1, y + 1, x + step_x - 2, y + step_y - 2, (84, 84, 88))


def _plate(canvas: Image, box: Box, rgb: Rgb, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    centre = (left + right) // 2, (top + bottom) // 2
    for share, tone in ((1.0, (226, 226, 222)), (0.72, (206, 206, 204)), (0.68, (232, 232, 228))):
        axes = int((right - left) * share * 0.4), int((bottom - top) * share * 0.4)
        cv2.ellipse(canvas, centre, axes, 0, 0, 360, tone, -1, cv2.LINE_AA)


def _mat(canvas: Image, box: Box, rgb: Rgb, rng: np.random.Generator) -> None:
    _flat(canvas, box, rgb, float(rng.uniform(-0.3, 0.3)))


def _cloth(canvas: Image, box: Box, rgb: Rgb, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    turns = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    ring = np.stack(
        [np.cos(turns) * (right - left) / 2, np.sin(turns) * (bottom - top) / 2], axis=1
    )
    waves = [
        float(rng.uniform(0.03, 0.09)) * np.sin(count * turns + float(rng.uniform(0, 6)))
        for count in (2, 3, 5, 7)
    ]
    wobble = 0.8 + sum(waves, np.zeros_like(turns))[:, None]
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    for share, gain in ((1.0, 0.8), (0.85, 1.0), (0.5, 1.08)):
        cv2.fillPoly(
            canvas,
            [(middle + ring * wobble * share).astype(np.int32)],
            shade(rgb, gain),
            cv2.LINE_AA,
        )


def _cable(canvas: Image, box: Box, rgb: Rgb, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    along = np.linspace(0, 1, 40)
    x = left + (right - left) * 1.6 * along
    y = (top + bottom) / 2 + (bottom - top) * 0.4 * np.sin(
        along * float(rng.uniform(3, 9)) + float(rng.uniform(0, 6))
    )
    tone: Rgb = (30, 30, 32) if rng.random() < 0.6 else (222, 222, 220)
    thick = max(1, (right - left) // 40)
    cv2.polylines(
        canvas, [np.stack([x, y], axis=1).astype(np.int32)], False, tone, thick, cv2.LINE_AA
    )


def _chair(canvas: Image, box: Box, rgb: Rgb, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    wide, tall = right - left, bottom - top
    leg = max(1, wide // 14)
    for back in (left + leg, right - 2 * leg):
        fill_box(canvas, back, top + tall * 0.3, back + leg, bottom, shade(rgb, 0.55))
    fill_box(canvas, left, top, right, top + tall * 0.34, rgb)
    corners = [
        (left, top + tall * 0.5),
        (right, top + tall * 0.5),
        (right + wide * 0.12, top + tall * 0.62),
        (left - wide * 0.12, top + tall * 0.62),
    ]
    cv2.fillPoly(canvas, [np.array(corners, np.int32)], shade(rgb, 0.85), cv2.LINE_AA)
    for x in (left - wide * 0.1, right + wide * 0.04):
        fill_box(canvas, x, top + tall * 0.62, x + leg, bottom + tall * 0.05, shade(rgb, 0.5))


def _bin(canvas: Image, box: Box, rgb: Rgb, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    taper = (right - left) * 0.12
    cv2.fillPoly(
        canvas,
        [
            np.array(
                [(left, top), (right, top), (right - taper, bottom), (left + taper, bottom)],
                np.int32,
            )
        ],
        shade(rgb, 0.7),
        cv2.LINE_AA,
    )
    centre, axes = ((left + right) // 2, top), ((right - left) // 2, max(1, (right - left) // 9))
    cv2.ellipse(canvas, centre, axes, 0, 0, 360, shade(rgb, 0.35), -1, cv2.LINE_AA)


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
    "cloth": _cloth,
    "cable": _cable,
    "chair": _chair,
    "bin": _bin,
}


_FURNITURE: dict[str, Callable[[Image, Box, int, Rgb, np.random.Generator], None]] = {
    "table": _table,
    "cabinet": _cabinet,
}
