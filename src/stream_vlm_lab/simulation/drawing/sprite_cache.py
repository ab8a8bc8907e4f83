"""A cache of the sprites of a stream's people and things; it does not change what is drawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stream_vlm_lab.simulation.drawing.figure import Figure
from stream_vlm_lab.simulation.drawing.hand import Hand
from stream_vlm_lab.simulation.raster.sprite import Sprite, shadow
from stream_vlm_lab.simulation.script.script import Script, Thing
from stream_vlm_lab.simulation.things.ball import Ball
from stream_vlm_lab.simulation.things.held_out import draw_unseen
from stream_vlm_lab.simulation.things.procedural import draw_invented
from stream_vlm_lab.simulation.things.standard import draw_thing
from stream_vlm_lab.simulation.things.varied import draw_varied

SHADOW_DEPTH = 0.34
GRIPS = 6
"""Number of steps in which a closing hand is drawn."""
MOST_KEPT = 256


class SpriteCache:
    """Returns sprites in the size for a picture of `width` x `height` pixels."""

    def __init__(self, script: Script, width: int, height: int) -> None:
        self._script = script
        self._width, self._height = width, height
        self._pitch = script.scene.camera.pitch
        self._still: dict[tuple[object, ...], Sprite] = {}
        self._figures: dict[int, Figure] = {}
        self._balls: dict[int, Ball] = {}
        self._grips: dict[tuple[int, int], tuple[Sprite, Sprite]] = {}

    def get(self, key: tuple[object, ...], draw: Callable[[], Sprite]) -> Sprite:
        """The sprite of `key`; it is drawn if it is not in the cache."""
        if len(self._still) > MOST_KEPT:
            self._still.clear()
        if key not in self._still:
            self._still[key] = draw()
        return self._still[key]

    def thing(self, thing: Thing) -> Sprite:
        """A portable thing at rest."""
        if thing.kind == "ball":
            return self.get(("thing", thing.instance), lambda: self.ball(thing).turned(0.0))
        size = thing.size * self._height
        draw = {
            "": draw_thing,
            "varied": draw_varied,
            "invented": draw_invented,
            "unseen": draw_unseen,
        }[thing.form]
        return self.get(
            ("thing", thing.instance),
            lambda: draw(thing.kind, thing.rgb, size, self._pitch, thing.style_seed),
        )

    def ball(self, thing: Thing) -> Ball:
        """A ball that can be rotated."""
        if len(self._balls) > MOST_KEPT:
            self._balls.clear()
        if thing.instance not in self._balls:
            self._balls[thing.instance] = Ball(
                thing.rgb, thing.size * self._height, thing.style_seed, thing.form
            )
        return self._balls[thing.instance]

    def shadow(self, half_width: float) -> Sprite:
        """The soft shadow of something that is 2 * `half_width` pixels wide."""
        half = max(2, round(half_width))
        flat = max(1.0, half * (0.2 + 0.5 * float(np.sin(self._pitch))))
        return self.get(("shadow", half), lambda: shadow(half, flat, SHADOW_DEPTH))

    def figure(self, thing: Thing) -> Figure:
        """A person with clothes."""
        if len(self._figures) > MOST_KEPT:
            self._figures.clear()
        if thing.instance not in self._figures:
            self._figures[thing.instance] = Figure(thing.rgb, thing.style_seed)
        return self._figures[thing.instance]

    def grip(
        self, hand: Thing, thing: Thing, direction: float, closed: float
    ) -> tuple[Sprite, Sprite]:
        """A hand around (`closed` 1) or before (0) a thing, and separately its thumb.

        `direction` is as in `Hand.draw`.
        """
        step = round(closed * GRIPS)
        key = (hand.instance, step)
        if key not in self._grips:
            if len(self._grips) > MOST_KEPT // 8:
                self._grips.clear()
            span = thing.width * self._height * (0.5 if thing.kind in ("bottle", "ball") else 0.34)
            far = float(np.hypot(self._width, self._height))
            drawn = Hand(hand.rgb, hand.style_seed).draw(
                direction, step / GRIPS, span, hand.size * self._height, far
            )
            self._grips[key] = drawn
        return self._grips[key]
