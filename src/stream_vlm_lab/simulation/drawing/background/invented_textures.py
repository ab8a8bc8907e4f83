"""Random patterns of walls and floors for training, at any angle and contrast.

None of them is in `unseen_textures`.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from stream_vlm_lab.simulation.scene.palette import Rgb, mix, shade

Painter = Callable[[np.ndarray, Rgb, float, np.random.Generator], None]
"""Paints a pattern; see `unseen_textures.Painter`."""


def _tone(rgb: Rgb, rng: np.random.Generator) -> np.ndarray:
    """A second tone for a pattern: darker, lighter, or of another hue."""
    if rng.random() < 0.3:
        stranger = (int(rng.integers(256)), int(rng.integers(256)), int(rng.integers(256)))
        return np.array(mix(rgb, stranger, float(rng.uniform(0.2, 0.5))), np.float32)
    return np.array(
        shade(rgb, float(rng.choice([rng.uniform(0.55, 0.9), rng.uniform(1.1, 1.4)]))), np.float32
    )


def _axes(
    sheet: np.ndarray, unit: float, rng: np.random.Generator, turn: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along two rotated axes, in units of `unit` pixels."""
    ys, xs = np.mgrid[0 : sheet.shape[0], 0 : sheet.shape[1]].astype(np.float32) / unit
    turn = float(rng.uniform(0, np.pi)) if turn is None else turn
    return xs * np.cos(turn) + ys * np.sin(turn), ys * np.cos(turn) - xs * np.sin(turn)


def _noise(sheet: np.ndarray, cells: int, rng: np.random.Generator) -> np.ndarray:
    height, width = sheet.shape[:2]
    coarse = rng.normal(0, 1, (max(2, cells * height // max(width, 1) + 2), cells)).astype(
        np.float32
    )
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def _slanted(sheet: np.ndarray, rgb: Rgb, unit: float, rng: np.random.Generator) -> None:
    along, _ = _axes(sheet, unit, rng)
    for _ in range(int(rng.integers(1, 3))):
        period, wide, start = rng.uniform(0.6, 2.2), rng.uniform(0.1, 0.5), rng.uniform(0, 1)
        sheet[(along / period + start) % 1 < wide] = _tone(rgb, rng)


def _waves(sheet: np.ndarray, rgb: Rgb, unit: float, rng: np.random.Generator) -> None:
    along, across = _axes(sheet, unit, rng)
    bent = along + float(rng.uniform(0.15, 0.5)) * np.sin(across * float(rng.uniform(1.5, 4.0)))
    sheet[bent % 1 < float(rng.uniform(0.2, 0.5))] = _tone(rgb, rng)


def _blots(sheet: np.ndarray, rgb: Rgb, unit: float, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 4))):
        sheet[_noise(sheet, int(rng.integers(6, 40)), rng) > float(rng.uniform(0.2, 0.9))] = _tone(
            rgb, rng
        )


def _rings(sheet: np.ndarray, rgb: Rgb, unit: float, rng: np.random.Generator) -> None:
    along, across = _axes(sheet, unit * 1.4, rng)
    away = np.hypot(along % 1 - 0.5, across % 1 - 0.5)
    sheet[(away > 0.26) & (away < 0.26 + float(rng.uniform(0.06, 0.16)))] = _tone(rgb, rng)


def _diamonds(sheet: np.ndarray, rgb: Rgb, unit: float, rng: np.random.Generator) -> None:
    along, across = _axes(sheet, unit, rng, float(rng.uniform(0.3, 1.2)))
    sheet[(np.floor(along) + np.floor(across * float(rng.uniform(0.5, 1.0)))) % 2 == 1] = _tone(
        rgb, rng
    )


def _lattice(sheet: np.ndarray, rgb: Rgb, unit: float, rng: np.random.Generator) -> None:
    along, across = _axes(sheet, unit, rng, float(rng.uniform(0.2, 1.3)))
    wide = float(rng.uniform(0.06, 0.2))
    sheet[(along % 1 < wide) | (across % 1 < wide)] = _tone(rgb, rng)


def _crosses(sheet: np.ndarray, rgb: Rgb, unit: float, rng: np.random.Generator) -> None:
    along, across = _axes(sheet, unit, rng)
    x, y = np.abs(along % 1 - 0.5), np.abs(across % 1 - 0.5)
    arm, wide = float(rng.uniform(0.2, 0.35)), float(rng.uniform(0.05, 0.1))
    sheet[((x < wide) & (y < arm)) | ((y < wide) & (x < arm))] = _tone(rgb, rng)


def _strokes(sheet: np.ndarray, rgb: Rgb, unit: float, rng: np.random.Generator) -> None:
    height, width = sheet.shape[:2]
    heading, spread = rng.uniform(0, np.pi), rng.uniform(0.1, 1.5)
    tones = [tuple(float(value) for value in _tone(rgb, rng)) for _ in range(3)]
    for _ in range(int(1.5 * height * width / unit**2)):
        x, y, turn, long = (
            rng.uniform(0, width),
            rng.uniform(0, height),
            heading + rng.normal(0, spread),
            unit * rng.uniform(0.2, 0.9),
        )
        end = (int(x + long * np.cos(turn)), int(y + long * np.sin(turn)))
        cv2.line(
            sheet,
            (int(x), int(y)),
            end,
            tones[int(rng.integers(3))],
            max(1, int(unit * rng.uniform(0.03, 0.12))),
        )


def _cells(sheet: np.ndarray, rgb: Rgb, unit: float, rng: np.random.Generator) -> None:
    height, width = sheet.shape[:2]
    small = (max(8, width // 4), max(8, height // 4))
    count = max(4, min(120, int(height * width / (unit * 1.5) ** 2)))
    sites = rng.uniform(0, 1, (count, 2)).astype(np.float32) * small
    ys, xs = np.mgrid[0 : small[1], 0 : small[0]].astype(np.float32)
    away = np.hypot(xs[..., None] - sites[:, 0], ys[..., None] - sites[:, 1])
    gains = rng.uniform(0.8, 1.15, count).astype(np.float32)[away.argmin(axis=2)]
    nearest = np.partition(away, 1, axis=2)
    gains[nearest[..., 1] - nearest[..., 0] < unit * 0.02] *= float(rng.uniform(0.6, 0.9))
    sheet *= cv2.resize(gains, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]


INVENTED_TEXTURES: dict[str, Painter] = {
    "slanted": _slanted,
    "waves": _waves,
    "blots": _blots,
    "rings": _rings,
    "diamonds": _diamonds,
    "lattice": _lattice,
    "crosses": _crosses,
    "strokes": _strokes,
    "cells": _cells,
}
