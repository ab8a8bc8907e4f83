"""Patterns of walls and floors that no training uses, seen from the front.

They are dots, zigzags, plaid, hexagons and terrazzo.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from stream_vlm_lab.simulation.scene.palette import Rgb, mix, shade

Painter = Callable[[np.ndarray, Rgb, float, np.random.Generator], None]
"""Paints a pattern over a float32 (height, width, 3) array of one colour.

The number is the size of one element in pixels.
"""


def _tone(rgb: Rgb, gain: float) -> np.ndarray:
    return np.array(shade(rgb, gain), np.float32)


def _dots(sheet: np.ndarray, rgb: Rgb, unit: float, rng: np.random.Generator) -> None:
    ys, xs = np.mgrid[0 : sheet.shape[0], 0 : sheet.shape[1]].astype(np.float32)
    row = np.floor(ys / unit)
    across, down = (xs / unit + 0.5 * (row % 2)) % 1 - 0.5, ys / unit % 1 - 0.5
    sheet[across**2 + down**2 < float(rng.uniform(0.05, 0.12))] = _tone(
        rgb, float(rng.choice([0.68, 1.3]))
    )


def _zigzag(sheet: np.ndarray, rgb: Rgb, unit: float, rng: np.random.Generator) -> None:
    ys, xs = np.mgrid[0 : sheet.shape[0], 0 : sheet.shape[1]].astype(np.float32)
    wave = np.abs(xs / unit % 1 - 0.5) * 2
    sheet[(ys / unit + wave) % 1 < 0.45] = _tone(rgb, float(rng.uniform(0.66, 0.86)))


def _plaid(sheet: np.ndarray, rgb: Rgb, unit: float, rng: np.random.Generator) -> None:
    height, width = sheet.shape[:2]
    other = np.array(
        mix(rgb, (int(rng.integers(256)), int(rng.integers(256)), int(rng.integers(256))), 0.35),
        np.float32,
    )
    columns, rows = (
        (np.arange(width) / unit % 1 < 0.4)[None, :, None],
        (np.arange(height) / unit % 1 < 0.4)[:, None, None],
    )
    share = 0.45 * columns + 0.45 * rows
    sheet[:] = sheet * (1 - share) + other * share


def _hexagons(sheet: np.ndarray, rgb: Rgb, unit: float, rng: np.random.Generator) -> None:
    height, width = sheet.shape[:2]
    joint = shade(rgb, float(rng.uniform(0.55, 0.75)))
    turns = np.linspace(0, 2 * np.pi, 7)[:-1] + np.pi / 6
    sheet[:] = joint
    for row, y in enumerate(np.arange(0, height + unit, unit * 0.866)):
        for x in np.arange(unit / 2 * (row % 2), width + unit, unit):
            corners = np.stack(
                [x + 0.53 * unit * np.cos(turns), y + 0.53 * unit * np.sin(turns)], axis=1
            )
            tone = shade(rgb, float(rng.uniform(0.9, 1.08)))
            cv2.fillPoly(
                sheet, [corners.astype(np.int32)], tuple(float(channel) for channel in tone)
            )


def _terrazzo(sheet: np.ndarray, rgb: Rgb, unit: float, rng: np.random.Generator) -> None:
    height, width = sheet.shape[:2]
    for _ in range(int(2.2 * height * width / unit**2)):
        centre = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        size = unit * rng.uniform(0.05, 0.22, 2)
        tone = mix(rgb, shade((200, 180, 160), float(rng.uniform(0.3, 1.25))), 0.7)
        colour = tuple(float(channel) for channel in tone)
        axes = (max(1, int(size[0])), max(1, int(size[1])))
        cv2.ellipse(sheet, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)


UNSEEN_TEXTURES: dict[str, Painter] = {
    "dots": _dots,
    "zigzag": _zigzag,
    "plaid": _plaid,
    "hexagons": _hexagons,
    "terrazzo": _terrazzo,
}
