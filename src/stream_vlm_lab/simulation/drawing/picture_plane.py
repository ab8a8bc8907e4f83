"""Converts places of a scene to pixels, and draws the things that rest there."""

from __future__ import annotations

from stream_vlm_lab.simulation.camera.camera_optics import Sensor
from stream_vlm_lab.simulation.drawing.sprite_cache import SpriteCache
from stream_vlm_lab.simulation.raster.sprite import PlacedSprite, Point, Sprite
from stream_vlm_lab.simulation.script.script import Placement, Script, Thing


class PicturePlane:
    """The picture of one stream.

    Attributes:
        script: what happens in the stream.
        width: width of the picture in pixels.
        height: height of the picture in pixels.
        sprites: sprites of its people and things.
    """

    def __init__(self, script: Script, sensor: Sensor, width: int, height: int) -> None:
        self.script, self.width, self.height = script, width, height
        self.sprites = SpriteCache(script, width, height)
        self._sensor = sensor

    def pixel_of(self, place: Placement) -> Point:
        """Pixel position of a placement."""
        return place.u * self.width + place.shift * self.height, place.v * self.height

    def view_left_top(self, t_s: float) -> Point:
        """Pixel position of the upper left corner of the view at `t_s`."""
        right, down = self._sensor.shake_px(t_s)
        return self._sensor.pan_px(t_s) + right, down

    def outside(
        self,
        inside: Point,
        edge: str,
        shown: list[PlacedSprite],
        t_s: float,
        towards: Point | None = None,
    ) -> Point:
        """Position of `shown` at which its last pixel is just outside `edge` at `t_s`.

        Args:
            inside: position inside the picture.
            edge: edge of the picture.
            shown: sprites, placed relative to their origin.
            t_s: time in seconds.
            towards: direction from `inside` to the edge; None for straight.
        """
        boxes = [(item.x, item.y, item.sprite.solid_box()) for item in shown]
        left, top = self.view_left_top(t_s)
        # One pixel more, because sprites are drawn at whole pixels.
        need = {
            "left": left - max(x + box[2] for x, _, box in boxes) - 1,
            "right": left + self.width - min(x + box[0] for x, _, box in boxes) + 1,
            "bottom": top + self.height - min(y + box[1] for _, y, box in boxes) + 1,
            "top": top - max(y + box[3] for _, y, box in boxes) - 1,
        }[edge]
        if edge in ("left", "right"):
            slope = towards[1] / towards[0] if towards is not None else 0.0
            return need, inside[1] + (need - inside[0]) * slope
        slope = towards[0] / towards[1] if towards is not None else 0.0
        return inside[0] + (need - inside[1]) * slope, need

    def resting(self, thing: Thing, place: Placement) -> list[PlacedSprite]:
        """A resting thing on its shadow."""
        x, y = self.pixel_of(place)
        return self.with_shadow(thing, self.sprites.thing(thing), x, y, place.depth, moving=False)

    def with_shadow(
        self, thing: Thing, sprite: Sprite, x: float, y: float, depth: float, *, moving: bool
    ) -> list[PlacedSprite]:
        """`sprite` of `thing` with its foot at pixel (`x`, `y`), on its shadow."""
        under = self.sprites.shadow(thing.width * self.height * 0.55)
        return [
            PlacedSprite(0, depth, under, x, y),
            PlacedSprite(thing.instance, depth + 1e-6, sprite, x, y, moving),
        ]
