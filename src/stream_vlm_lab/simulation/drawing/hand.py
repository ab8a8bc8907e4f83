"""Draws a hand with sleeve, wrist, palm, four fingers and a thumb that close around a thing."""

from __future__ import annotations

import numpy as np

from stream_vlm_lab.simulation.raster.sprite import Brush, Point, Sprite
from stream_vlm_lab.simulation.scene.palette import SKINS, Rgb, shade


class Hand:
    """One hand with its sleeve.

    Its origin is the grasp point; the arm is behind it.
    """

    def __init__(self, sleeve: Rgb, style_seed: int) -> None:
        rng = np.random.default_rng(style_seed)
        self._sleeve = sleeve
        self._skin = SKINS[int(rng.integers(len(SKINS)))]
        self._mirror = 1.0 if rng.random() < 0.5 else -1.0
        self._bare = float(rng.uniform(0.15, 0.7))
        self._thick = float(rng.uniform(0.9, 1.15))

    def draw(
        self, direction: float, closed: float, span: float, size: float, arm: float
    ) -> tuple[Sprite, Sprite]:
        """Draw the hand, and separately the thumb, which is in front of the held thing.

        Args:
            direction: radians, from the grasp point back along the arm; 0 is right, pi/2 down.
            closed: 0 open, 1 closed around a thing.
            span: half the width of that thing in pixels.
            size: length of the hand in pixels.
            arm: length of the arm in pixels, long enough to leave the picture.
        """
        back = np.array([np.cos(direction), np.sin(direction)])
        side = np.array([-back[1], back[0]]) * self._mirror
        reach = 0.24 * size + 0.75 * span
        palm = back * (reach + 0.14 * size)
        wrist = back * (reach + 0.42 * size)
        end = wrist + back * arm
        corners = np.array(
            [
                palm - side * size * 0.5,
                palm + side * size * 0.5,
                end,
                -back * size * 0.6,
                side * size * 0.7,
                -side * size * 0.7,
            ]
        )
        margin = 0.3 * size
        box = (*(corners.min(axis=0) - margin), *(corners.max(axis=0) + margin))
        brush, thumb_brush = Brush(*box), Brush(*box)
        cuff = wrist + back * (self._bare * size)
        thick = 0.15 * size * self._thick
        brush.limb(_point(end), _point(cuff), thick * 2.1, thick * 1.6, self._sleeve)
        brush.limb(
            _point(cuff - back * 0.02 * size),
            _point(cuff + back * 0.04 * size),
            thick * 1.6,
            thick * 1.6,
            shade(self._sleeve, 0.75),
            shaded=False,
        )
        brush.limb(_point(cuff), _point(wrist), thick * 1.25, thick, self._skin)
        brush.hull(
            [_point(wrist), _point(palm + side * 0.17 * size), _point(palm - side * 0.17 * size)],
            [thick, 0.12 * size, 0.12 * size],
            shade(self._skin, 0.94),
        )
        grip = 0.12 * size + 0.55 * span
        for rank, offset in enumerate((-0.24, -0.08, 0.08, 0.23)):
            root = palm + side * offset * size
            open_tip = (
                root - back * (0.44 - 0.05 * abs(rank - 1.5)) * size + side * offset * 0.45 * size
            )
            shut_tip = (
                -back * 0.02 * size - side * (grip - 0.05 * size * rank) + back * 0.05 * size * rank
            )
            tip = open_tip * (1 - closed) + shut_tip * closed
            knuckle = (root + tip) / 2 - back * 0.06 * size * closed - side * 0.12 * size * closed
            finger = shade(self._skin, 0.9 + 0.04 * rank)
            brush.limb(_point(root), _point(knuckle), 0.066 * size, 0.06 * size, finger)
            brush.limb(_point(knuckle), _point(tip), 0.06 * size, 0.05 * size, finger)
        root = palm + side * 0.2 * size + back * 0.12 * size
        open_tip = root + side * 0.24 * size - back * 0.26 * size
        shut_tip = side * grip * 0.9 - back * 0.05 * size
        tip = open_tip * (1 - closed) + shut_tip * closed
        knuckle = (root + tip) / 2 + side * 0.08 * size
        thumb_brush.limb(_point(root), _point(knuckle), 0.075 * size, 0.065 * size, self._skin)
        thumb_brush.limb(_point(knuckle), _point(tip), 0.065 * size, 0.055 * size, self._skin)
        return brush.sprite(), thumb_brush.sprite()


def _point(vector: np.ndarray) -> Point:
    return float(vector[0]), float(vector[1])
