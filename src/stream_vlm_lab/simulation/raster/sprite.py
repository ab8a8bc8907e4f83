"""Sprites: small pictures with soft edges, drawn at a higher resolution and reduced."""

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
        left: pixels from the origin (the point of contact) to the left border.
        top: pixels from the origin to the upper border.
    """

    rgb: Image
    alpha: Image
    left: int
    top: int

    @cached_property
    def solid_pixels(self) -> int:
        """Number of pixels that count as the thing's own."""
        return int(np.count_nonzero(self.alpha > 127))

    def lay_over(
        self, frame: Image, instances: NDArray[np.int16] | None, x: float, y: float, instance: int
    ) -> None:
        """Draw the sprite on a frame.

        Args:
            frame: uint8 RGB, (H, W, 3).
            instances: int16 (H, W) in which the solid pixels are marked, or None.
            x: column of the origin.
            y: row of the origin.
            instance: number to mark the solid pixels with.
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
        """Left, top, right, bottom (exclusive) of the solid pixels, relative to the origin."""
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
class PlacedSprite:
    """A sprite and its position.

    Attributes:
        instance: number of the thing; 0 for none.
        depth: sprites with a larger depth are drawn later.
        sprite: the sprite.
        x: column of the origin, before pan and shake.
        y: row of the origin, before pan and shake.
        moving: whether the thing takes part in an event.
        held: whether a person or a hand holds the thing.
    """

    instance: int
    depth: float
    sprite: Sprite
    x: float
    y: float
    moving: bool = False
    held: bool = False


class Brush:
    """Draws shapes on a canvas of higher resolution and returns them as a `Sprite`.

    The canvas is `scale` times finer than the picture. Coordinates are in pixels of the picture,
    relative to the sprite's origin: x to the right, y down.
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
        """Draw a filled polygon."""
        cv2.fillPoly(self.canvas, [self._fixed(points)], (*rgb, 255), cv2.LINE_8, _SHIFT)

    def disc(self, centre: Point, radius: float, rgb: Rgb) -> None:
        """Draw a filled circle."""
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
        """Draw a filled ellipse, turned by `angle` degrees."""
        x, y = self._fixed([centre])[0]
        axes = (int(half_width * self._scale * _FINE), int(half_height * self._scale * _FINE))
        cv2.ellipse(
            self.canvas, (int(x), int(y)), axes, angle, 0, 360, (*rgb, 255), -1, cv2.LINE_8, _SHIFT
        )

    def ring(
        self, centre: Point, half_width: float, half_height: float, thickness: float, rgb: Rgb
    ) -> None:
        """Draw the outline of an ellipse."""
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
        shaded: bool = True,
    ) -> None:
        """Draw a rounded bar whose ends can have different radii.

        `shaded` adds a lighter and a darker side.
        """
        if shaded:
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
        """Draw the convex hull of circles, such as a torso or a mitten."""
        turns = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        ring = np.stack([np.cos(turns), np.sin(turns)], axis=1)
        points = np.concatenate(
            [
                np.asarray(centre) + ring * radius
                for centre, radius in zip(centres, radii, strict=True)
            ]
        )
        self.polygon(cv2.convexHull(points.astype(np.float32))[:, 0, :].astype(np.float64), rgb)

    def set_opacity(self, opacity: float) -> None:
        """Multiply everything drawn so far by `opacity`, in 0..1."""
        self.canvas[:] = (self.canvas * opacity).astype(np.uint8)

    def sprite(self) -> Sprite:
        """Return the drawing, reduced to the resolution of the picture."""
        small = cv2.resize(self.canvas, (self._width, self._height), interpolation=cv2.INTER_AREA)
        return Sprite(
            np.ascontiguousarray(small[..., :3]),
            np.ascontiguousarray(small[..., 3]),
            self._left,
            self._top,
        )


def shadow(half_width: float, half_height: float, depth: float) -> Sprite:
    """A soft dark oval, centred at its origin; `depth` is its opacity in 0..1."""
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
