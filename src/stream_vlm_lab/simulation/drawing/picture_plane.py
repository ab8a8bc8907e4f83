"""Where the places of a scene lie in the picture, in pixels, and the things that rest there."""

from __future__ import annotations

from stream_vlm_lab.simulation.camera.camera_optics import Sensor
from stream_vlm_lab.simulation.drawing.props import Props
from stream_vlm_lab.simulation.raster.sprite import Appearance, Point, Sprite
from stream_vlm_lab.simulation.script.script import Placement, Script, Thing


class PicturePlane:
    """The picture of one stream.

    Attributes:
        script: what happens in the stream.
        width, height: size of the picture in pixels.
        props: sprites of its people and things, in that size.
    """

    def __init__(self, script: Script, sensor: Sensor, width: int, height: int) -> None:
        self.script, self.width, self.height = script, width, height
        self.props = Props(script, width, height)
        self._sensor = sensor

    def spot(self, place: Placement) -> Point:
        """Picture pixel of a placement."""
        return place.u * self.width + place.shift * self.height, place.v * self.height

    def view_left_top(self, t_s: float) -> Point:
        """Picture pixel that the upper left corner of the view shows at `t_s`."""
        right, down = self._sensor.shake_px(t_s)
        return self._sensor.pan_px(t_s) + right, down

    def beyond(
        self,
        inside: Point,
        edge: str,
        shown: list[Appearance],
        t_s: float,
        towards: Point | None = None,
    ) -> Point:
        """Where the origin of `shown` (placed relative to it) must be for its last pixel to lie
        just outside `edge` at `t_s`.
        """
        boxes = [(item.x, item.y, item.sprite.solid_box()) for item in shown]
        left, top = self.view_left_top(t_s)
        # One pixel more, for sprites are laid on whole pixels.
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

    def resting(self, thing: Thing, place: Placement) -> list[Appearance]:
        """A thing at rest on its shadow."""
        x, y = self.spot(place)
        return self.with_shadow(thing, self.props.thing(thing), x, y, place.depth, moving=False)

    def with_shadow(
        self, thing: Thing, sprite: Sprite, x: float, y: float, depth: float, *, moving: bool
    ) -> list[Appearance]:
        """`sprite` of `thing` with its foot at pixel (`x`, `y`), on its shadow."""
        under = self.props.shadow(thing.width * self.height * 0.55)
        return [
            Appearance(0, depth, under, x, y),
            Appearance(thing.instance, depth + 1e-6, sprite, x, y, moving),
        ]
