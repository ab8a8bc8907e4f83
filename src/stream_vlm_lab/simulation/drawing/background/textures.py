"""Textures of surfaces, seen from the front: bricks, planks, tiles, carpet and others."""

from __future__ import annotations

import cv2
import numpy as np

from stream_vlm_lab.simulation.drawing.background.invented_textures import INVENTED_TEXTURES
from stream_vlm_lab.simulation.drawing.background.unseen_textures import UNSEEN_TEXTURES
from stream_vlm_lab.simulation.raster.sprite import Image
from stream_vlm_lab.simulation.scene.palette import Rgb, mix, shade


def paint_texture(
    name: str, rgb: Rgb, width: int, height: int, unit: float, rng: np.random.Generator
) -> Image:
    """Paint the texture `name`: uint8 RGB (height, width, 3).

    Args:
        name: name of the texture.
        rgb: main colour.
        width: width in pixels.
        height: height in pixels.
        unit: size of a brick, tile or plank in pixels.
        rng: source of random numbers.
    """
    sheet = np.empty((height, width, 3), np.float32)
    sheet[:] = rgb
    if name in UNSEEN_TEXTURES:
        UNSEEN_TEXTURES[name](sheet, rgb, unit, rng)
    elif name in INVENTED_TEXTURES:
        INVENTED_TEXTURES[name](sheet, rgb, unit, rng)
    elif name in ("bricks", "tiles", "planks"):
        _lay_rows(sheet, name, rgb, unit, rng)
    elif name == "checker":
        _checker(sheet, rgb, unit, rng)
    elif name == "stripes":
        other = np.array(shade(rgb, float(rng.uniform(0.8, 0.94))), np.float32)
        step = max(4, int(unit * rng.uniform(0.35, 0.8)))
        for left in range(0, width, 2 * step):
            sheet[:, left : left + step] = other
    elif name == "panels":
        line = tuple(float(channel) for channel in shade(rgb, 0.8))
        for edge in np.arange(unit * 0.5, width, unit * 1.4):
            corner, far = (
                (int(edge), int(unit * 0.3)),
                (int(edge + unit * 1.1), int(height - unit * 0.3)),
            )
            cv2.rectangle(sheet, corner, far, line, max(1, int(unit * 0.05)))
    elif name == "carpet":
        sheet += rng.normal(0, 9, (height, width, 1)).astype(np.float32)
    elif name == "gradient":
        if rng.random() < 0.6:
            sheet *= np.linspace(1.12, 0.82, height, dtype=np.float32)[:, None, None]
        else:
            sheet *= np.linspace(1.12, 0.82, width, dtype=np.float32)[None, :, None]
    elif name == "speckle":
        grains = rng.integers(0, 3, (height, width))
        tones = np.array([shade(rgb, gain) for gain in (0.75, 1.0, 1.2)], np.float32)
        coarse = cv2.resize(
            grains.astype(np.float32)[::3, ::3], (width, height), interpolation=cv2.INTER_NEAREST
        )
        sheet[:] = tones[coarse.astype(int)]
    elif name == "marble":
        other = np.array(mix(rgb, shade(rgb, float(rng.uniform(0.7, 1.15))), 0.9), np.float32)
        veins = np.abs(np.sin(6 * _clouds(width, height, 0.5, rng)))
        sheet[:] = sheet * veins + other * (1 - veins)
    if name in ("mottled", "concrete"):
        sheet *= _clouds(width, height, 0.16 if name == "mottled" else 0.1, rng)
    sheet *= _clouds(width, height, 0.05, rng)
    return np.clip(sheet, 0, 255).astype(np.uint8)


def _clouds(width: int, height: int, depth: float, rng: np.random.Generator) -> np.ndarray:
    total = np.zeros((height, width), np.float32)
    for cells in (4, 9, 20):
        coarse = rng.normal(0, 1, (cells, cells)).astype(np.float32)
        total += (
            cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) / (cells / 4) ** 0.5
        )
    return (1 + depth * total * 0.6)[..., None]


def _lay_rows(
    sheet: np.ndarray, name: str, rgb: Rgb, unit: float, rng: np.random.Generator
) -> None:
    height, width = sheet.shape[:2]
    wide, tall, spread = {
        "bricks": (unit, unit * 0.42, 0.1),
        "tiles": (unit, unit, 0.03),
        "planks": (unit * 5, unit * 0.6, 0.13),
    }[name]
    joint = (
        shade(rgb, float(rng.uniform(0.6, 0.8)))
        if name != "bricks" or rng.random() < 0.5
        else mix(rgb, (220, 216, 208), 0.6)
    )
    sheet[:] = joint
    gap = max(1, round(unit * (0.05 if name != "planks" else 0.03)))
    for row, top in enumerate(np.arange(0, height, tall)):
        offset = {
            "bricks": (row % 2) * wide / 2,
            "tiles": 0.0,
            "planks": float(rng.uniform(0, wide)),
        }[name]
        for left in np.arange(-offset, width, wide):
            tone = shade(rgb, float(rng.uniform(1 - spread, 1 + spread)))
            corner = int(left) + gap, int(top) + gap
            cv2.rectangle(
                sheet,
                corner,
                (int(left + wide), int(top + tall)),
                tuple(float(channel) for channel in tone),
                -1,
            )
    if name == "planks":
        grain = rng.normal(0, 7, (height, max(2, width // 24), 1)).astype(np.float32)
        sheet += cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]


def _checker(sheet: np.ndarray, rgb: Rgb, unit: float, rng: np.random.Generator) -> None:
    height, width = sheet.shape[:2]
    rows, columns = (np.arange(height) // unit).astype(int), (np.arange(width) // unit).astype(int)
    odd = (rows[:, None] + columns[None, :]) % 2 == 1
    sheet[odd] = shade(rgb, float(rng.uniform(0.72, 0.9)))
