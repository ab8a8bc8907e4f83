"""Small pictures with soft edges: drawn larger than needed, shrunk, and laid over the frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_vlm_lab.simulation.scene.palette import Rgb, shade

Image = NDArray[np.uint8]
Point = tuple[float, float]

_SHIFT = 4
_FINE = 1 << _SHIFT


@dataclass(frozen=True)
class Sprite:
    """A picture with soft edges.

    Attributes:
        rgb: uint8 (h, w, 3), already multiplied by alpha.
        alpha: uint8 (h, w), 255 is opaque.
        left, top: pixels from the sprite's origin (its point of contact) to its upper left corner.
    """

    rgb: Image
    alpha: Image
    left: int
    top: int

    @cached_property
    def solid_pixels(self) -> int:
        """How many pixels count as the thing's own."""
        return int(np.count_nonzero(self.alpha > 127))

    def lay_over(
        self, frame: Image, instances: NDArray[np.int16] | None, x: float, y: float, instance: int
    ) -> None:
        """Draw on `frame` (uint8 RGB) with the origin at pixel (x, y), and mark the solid pixels in
        `instances`, if given.
        """
        height, width = self.alpha.shape
        left, top = round(x) + self.left, round(y) + self.top
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + width, frame.shape[1]), min(top + height, frame.shape[0])
        if x1 <= x0 or y1 <= y0:
            return
        inside = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
        alpha = self.alpha[inside]
        patch = frame[y0:y1, x0:x1]
        see_through = cv2.merge([cv2.bitwise_not(alpha)] * 3)
        cv2.add(cv2.multiply(patch, see_through, scale=1 / 255), self.rgb[inside], dst=patch)
        if instances is not None:
            instances[y0:y1, x0:x1][alpha > 127] = instance

    def solid_box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom (exclusive) of what counts as the thing's own pixels, relative
        to the origin.
        """
        rows, columns = (
            np.flatnonzero((self.alpha > 127).any(axis=1)),
            np.flatnonzero((self.alpha > 127).any(axis=0)),
        )
        if not len(rows):
            return 0, 0, 0, 0
        return (
            self.left + int(columns[0]),
            self.top + int(rows[0]),
            self.left + int(columns[-1]) + 1,
            self.top + int(rows[-1]) + 1,
        )


@dataclass(frozen=True)
class Appearance:
    """One sprite in its place: `x`, `y` are picture pixels before pan and shake; larger `depth` is
    drawn later.
    """

    instance: int
    depth: float
    sprite: Sprite
    x: float
    y: float
    moving: bool = False
    held: bool = False


class Brush:
    """Draws shapes in pixels of the final picture on a canvas that is `scale` times finer, and
    hands back a `Sprite`.

    Coordinates are relative to the sprite's origin: x to the right, y down.
    """

    def __init__(
        self, left: float, top: float, right: float, bottom: float, scale: int = 2
    ) -> None:
        self._left, self._top = int(np.floor(left)) - 1, int(np.floor(top)) - 1
        self._width, self._height = (
            int(np.ceil(right)) + 1 - self._left,
            int(np.ceil(bottom)) + 1 - self._top,
        )
        self._scale = scale
        self.canvas = np.zeros((self._height * scale, self._width * scale, 4), np.uint8)

    def _fixed(self, points: Sequence[Point] | NDArray[np.float64]) -> NDArray[np.int32]:
        moved = (np.asarray(points, np.float64) - (self._left, self._top)) * self._scale - 0.5
        return np.round(moved * _FINE).astype(np.int32)

    def polygon(self, points: Sequence[Point] | NDArray[np.float64], rgb: Rgb) -> None:
        """A filled polygon."""
        cv2.fillPoly(self.canvas, [self._fixed(points)], (*rgb, 255), cv2.LINE_8, _SHIFT)

    def disc(self, centre: Point, radius: float, rgb: Rgb) -> None:
        """A filled circle."""
        x, y = self._fixed([centre])[0]
        cv2.circle(
            self.canvas,
            (int(x), int(y)),
            int(radius * self._scale * _FINE),
            (*rgb, 255),
            -1,
            cv2.LINE_8,
            _SHIFT,
        )

    def oval(
        self, centre: Point, half_width: float, half_height: float, rgb: Rgb, angle: float = 0.0
    ) -> None:
        """A filled ellipse, turned by `angle` degrees."""
        x, y = self._fixed([centre])[0]
        axes = (int(half_width * self._scale * _FINE), int(half_height * self._scale * _FINE))
        cv2.ellipse(
            self.canvas, (int(x), int(y)), axes, angle, 0, 360, (*rgb, 255), -1, cv2.LINE_8, _SHIFT
        )

    def ring(
        self, centre: Point, half_width: float, half_height: float, thickness: float, rgb: Rgb
    ) -> None:
        """An ellipse's outline."""
        x, y = self._fixed([centre])[0]
        axes = (int(half_width * self._scale * _FINE), int(half_height * self._scale * _FINE))
        stroke = max(1, round(thickness * self._scale))
        cv2.ellipse(
            self.canvas, (int(x), int(y)), axes, 0, 0, 360, (*rgb, 255), stroke, cv2.LINE_8, _SHIFT
        )

    def limb(
        self,
        start: Point,
        end: Point,
        start_radius: float,
        end_radius: float,
        rgb: Rgb,
        *,
        lit: bool = True,
    ) -> None:
        """A rounded bar that may taper; `lit` adds a lighter and a darker side."""
        if lit:
            self._bar(start, end, start_radius, end_radius, shade(rgb, 0.82))
            drift = 0.28 * min(start_radius, end_radius)
            start, end = (
                (start[0] - drift, start[1] - drift * 0.4),
                (end[0] - drift, end[1] - drift * 0.4),
            )
            start_radius, end_radius = start_radius * 0.72, end_radius * 0.72
        self._bar(start, end, start_radius, end_radius, rgb)

    def _bar(
        self, start: Point, end: Point, start_radius: float, end_radius: float, rgb: Rgb
    ) -> None:
        along = np.subtract(end, start)
        length = float(np.hypot(*along))
        if length > 1e-6:
            across = np.array([-along[1], along[0]]) / length
            corners = [
                np.add(start, across * start_radius),
                np.add(end, across * end_radius),
                np.subtract(end, across * end_radius),
                np.subtract(start, across * start_radius),
            ]
            self.polygon(np.array(corners), rgb)
        self.disc(start, start_radius, rgb)
        self.disc(end, end_radius, rgb)

    def hull(self, centres: Sequence[Point], radii: Sequence[float], rgb: Rgb) -> None:
        """The convex shape around circles: a torso, a mitten."""
        turns = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        ring = np.stack([np.cos(turns), np.sin(turns)], axis=1)
        points = np.concatenate(
            [
                np.asarray(centre) + ring * radius
                for centre, radius in zip(centres, radii, strict=True)
            ]
        )
        self.polygon(cv2.convexHull(points.astype(np.float32))[:, 0, :].astype(np.float64), rgb)

    def glaze(self, opacity: float) -> None:
        """Make everything drawn so far see-through."""
        self.canvas[:] = (self.canvas * opacity).astype(np.uint8)

    def sprite(self) -> Sprite:
        """What was drawn, shrunk to final pixels."""
        small = cv2.resize(self.canvas, (self._width, self._height), interpolation=cv2.INTER_AREA)
        return Sprite(
            np.ascontiguousarray(small[..., :3]),
            np.ascontiguousarray(small[..., 3]),
            self._left,
            self._top,
        )


def shadow(half_width: float, half_height: float, depth: float) -> Sprite:
    """A soft dark oval, centred at its origin; `depth` 0..1."""
    margin = 1.5
    brush = Brush(
        -half_width * margin,
        -half_height * margin - 1,
        half_width * margin,
        half_height * margin + 1,
        1,
    )
    brush.oval((0, 0), half_width, half_height, (0, 0, 0))
    flat = brush.sprite()
    sigma = max(0.6, half_height * 0.35)
    alpha = cv2.GaussianBlur(flat.alpha, (0, 0), sigma)
    return Sprite(np.zeros_like(flat.rgb), (alpha * depth).astype(np.uint8), flat.left, flat.top)
