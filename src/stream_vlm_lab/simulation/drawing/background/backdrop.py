"""Paints the fixed background once for each stream: walls, floors and furniture."""

from __future__ import annotations

import cv2
import numpy as np

from stream_vlm_lab.simulation.drawing.background.clutter import paint_decoration
from stream_vlm_lab.simulation.drawing.background.moving_clutter import ANIMATED
from stream_vlm_lab.simulation.drawing.background.textures import paint_texture
from stream_vlm_lab.simulation.raster.projection import Projection
from stream_vlm_lab.simulation.raster.sprite import Image
from stream_vlm_lab.simulation.scene.palette import Rgb, shade
from stream_vlm_lab.simulation.scene.scene import Scene


def paint_backdrop(scene: Scene, width: int, height: int, margin: int) -> Image:
    """Paint the background: uint8 RGB, (height + 2 margin, width + 2 margin, 3)."""
    projection = Projection(2 * width, 2 * height, 2 * margin, 2 * margin)
    rng = np.random.default_rng(scene.style_seed)
    canvas = _floor(scene, projection, rng)
    if scene.skyline > 0:
        _wall(scene, projection, canvas, rng)
    for decoration in scene.decorations:
        if decoration.kind not in ANIMATED:
            paint_decoration(canvas, projection, decoration, scene.camera.pitch)
    if rng.random() < 0.3:
        canvas = _sunlight(canvas, rng)
    if scene.view == "desk" or (scene.view != "tabletop" and rng.random() < 0.5):
        canvas = _soft_light(canvas, rng)
    return np.asarray(
        cv2.resize(canvas, (width + 2 * margin, height + 2 * margin), interpolation=cv2.INTER_AREA),
        np.uint8,
    )


def _floor(scene: Scene, projection: Projection, rng: np.random.Generator) -> Image:
    width, height = (
        projection.width + 2 * int(projection.right),
        projection.height + 2 * int(projection.down),
    )
    side = 640
    unit = side / float(rng.uniform(9, 20))
    sheet = paint_texture(scene.floor_texture, scene.floor_rgb, side, side, unit, rng)
    if rng.random() < 0.5:
        sheet = np.ascontiguousarray(np.rot90(sheet))
    top, bottom = max(scene.skyline, -0.15), 1.15
    # Lines on the floor run to the same horizon as for the people who walk on it.
    narrow = 0.75
    wide = narrow * (bottom - scene.vanish) / max(top - scene.vanish, 0.05)
    centre = 0.5 + float(rng.uniform(-0.15, 0.15))
    corners = [
        projection.at(centre - narrow, top),
        projection.at(centre + narrow, top),
        projection.at(centre + wide, bottom),
        projection.at(centre - wide, bottom),
    ]
    source = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32)
    homography = cv2.getPerspectiveTransform(source, np.array(corners, np.float32))
    laid = cv2.warpPerspective(
        sheet, homography, (width, height), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(laid, np.uint8)


def _wall(scene: Scene, projection: Projection, canvas: Image, rng: np.random.Generator) -> None:
    width = canvas.shape[1]
    foot = int(projection.at(0, scene.skyline)[1])
    unit = projection.height * float(rng.uniform(0.09, 0.2))
    canvas[:foot] = paint_texture(scene.wall_texture, scene.wall_rgb, width, foot, unit, rng)
    skirting = max(1, int(projection.height * 0.014))
    board: Rgb = shade(scene.wall_rgb, 0.62) if rng.random() < 0.5 else (226, 222, 214)
    if scene.view in ("tabletop", "desk"):
        # At the far edge of a table the background is out of focus and darker.
        canvas[:foot] = cv2.GaussianBlur(canvas[:foot], (0, 0), projection.height * 0.012)
        canvas[foot : foot + skirting] = shade(scene.floor_rgb, 1.15)
        return
    canvas[foot - skirting : foot] = board
    shaded = canvas[foot : foot + 4 * skirting].astype(np.float32)
    canvas[foot : foot + 4 * skirting] = (
        shaded * np.linspace(0.72, 1, len(shaded))[:, None, None]
    ).astype(np.uint8)
    if scene.view == "corridor":
        _side_walls(scene, projection, canvas, rng)


def _side_walls(
    scene: Scene, projection: Projection, canvas: Image, rng: np.random.Generator
) -> None:
    inset = float(rng.uniform(0.05, 0.09))
    ceiling = float(rng.uniform(0.04, 0.12))
    slope = (scene.skyline - scene.vanish) / max(0.5 - inset, 0.1)
    for gain, near, far in ((0.8, -0.2, inset), (1.1, 1.2, 1 - inset)):
        reach = abs(near - far)
        wall = [
            projection.at(near, -0.2),
            projection.at(far, ceiling),
            projection.at(far, scene.skyline),
            projection.at(near, scene.skyline + slope * reach),
        ]
        cv2.fillPoly(canvas, [np.array(wall, np.int32)], shade(scene.wall_rgb, gain), cv2.LINE_AA)
    roof = [
        projection.at(-0.2, -0.2),
        projection.at(1.2, -0.2),
        projection.at(1 - inset, ceiling),
        projection.at(inset, ceiling),
    ]
    cv2.fillPoly(canvas, [np.array(roof, np.int32)], shade(scene.wall_rgb, 1.12), cv2.LINE_AA)


def _soft_light(canvas: Image, rng: np.random.Generator) -> Image:
    """Draw a large patch of daylight on wall and floor."""
    height, width = canvas.shape[:2]
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = float(rng.uniform(0, width)), float(rng.uniform(0, height * 0.7))
    glow = np.exp(-(((xs - x) / (0.45 * width)) ** 2 + ((ys - y) / (0.5 * height)) ** 2))
    return np.asarray(np.clip(canvas * (0.88 + 0.3 * glow[..., None]), 0, 255), np.uint8)


def _sunlight(canvas: Image, rng: np.random.Generator) -> Image:
    """Draw a slanted bright patch with soft edges, like sunlight from a window."""
    height, width = canvas.shape[:2]
    x, y = float(rng.uniform(0, 0.8)) * width, float(rng.uniform(0.1, 0.7)) * height
    wide, tall, slant = (
        float(rng.uniform(0.1, 0.35)) * width,
        float(rng.uniform(0.15, 0.4)) * height,
        float(rng.uniform(-0.2, 0.2)) * width,
    )
    shaded = np.zeros((height, width), np.float32)
    corners = [(x, y), (x + wide, y), (x + wide + slant, y + tall), (x + slant, y + tall)]
    cv2.fillPoly(shaded, [np.array(corners, np.int32)], 1.0)
    soft = cv2.GaussianBlur(shaded, (0, 0), height * float(rng.uniform(0.004, 0.03)))
    gain = 1 + float(rng.uniform(0.12, 0.45)) * soft[..., None] * np.array(
        [1.0, 0.96, 0.85], np.float32
    )
    return np.clip(canvas * gain, 0, 255).astype(np.uint8)
