"""Converts scene coordinates to pixels, and paints rectangles."""

from __future__ import annotations

from dataclasses import dataclass

import cv2

from stream_vlm_lab.simulation.raster.sprite import Image
from stream_vlm_lab.simulation.scene.palette import Rgb
from stream_vlm_lab.simulation.scene.scene import Area

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Projection:
    """Converts scene coordinates to pixels of a canvas.

    Attributes:
        width: width of the picture in pixels.
        height: height of the picture in pixels.
        right: pixels from the canvas's left border to the picture's upper left corner.
        down: pixels from the canvas's upper border to the picture's upper left corner.
    """

    width: int
    height: int
    right: float
    down: float

    def at(self, u: float, v: float) -> tuple[float, float]:
        """Pixel position of (u, v)."""
        return self.right + u * self.width, self.down + v * self.height

    def box(self, area: Area) -> Box:
        """Left, top, right and bottom pixel of `area`."""
        left, top = self.at(area.left, area.top)
        right, bottom = self.at(area.right, area.bottom)
        return int(left), int(top), int(right), int(bottom)


def fill_box(canvas: Image, left: float, top: float, right: float, bottom: float, rgb: Rgb) -> None:
    """Paint a rectangle given in pixels."""
    cv2.rectangle(canvas, (int(left), int(top)), (int(right), int(bottom)), rgb, -1)
