"""A simulated camera: any moment of a stream as a picture with exact ground truth, in any order, always the same."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_vlm.world.backdrop import paint_backdrop
from stream_vlm.world.moving_clutter import ANIMATED, paint_moving
from stream_vlm.world.plot import Plot
from stream_vlm.world.script import Script, WorldError, make_script
from stream_vlm.world.sensor import Sensor
from stream_vlm.world.sprite import Appearance
from stream_vlm.world.stage import Stage
from stream_vlm.world.unseen import with_look

SMALLEST, LARGEST = 64, 4096
"""Pixels: allowed width and height."""


@dataclass(frozen=True)
class ThingState:
    """One thing that is in the picture.

    Attributes:
        instance: its number in the picture's instance map.
        kind, colour: as in `language`; doors and lamps have no colour, a hand's colour is its sleeve's.
        moving: it takes part in an event right now. `held`: a person or a hand has it.
        visible_fraction: share of its pixels that nothing hides and no border cuts off, 0..1.
        state: "open", "closed", "on", "off", or empty.
    """

    instance: int
    kind: str
    colour: str
    moving: bool
    held: bool
    visible_fraction: float
    state: str


@dataclass(frozen=True)
class View:
    """One frame with its truth.

    Attributes:
        image: uint8 RGB, (H, W, 3), C-contiguous.
        instances: int16, (H, W); 0 is background, else the `instance` of a thing.
        things: everything with at least one pixel in the picture, by instance.
    """

    image: NDArray[np.uint8]
    instances: NDArray[np.int16]
    things: tuple[ThingState, ...]


class World:
    """One simulated stream.

    The same (seed, duration, size, events per minute, look) shows the same pixels at the same time, whatever was looked at before. Looking
    costs a few milliseconds at 320x240; looking in order of time is fastest.
    """

    def __init__(
        self, seed: int, duration_s: float, size: tuple[int, int] = (320, 240), *, events_per_minute: float = 10.0, look: str = "seen"
    ) -> None:
        """Write the script and paint the backdrop.

        Args:
            size: width and height in pixels, each even and from 64 to 4096.
            look: "seen", "unseen objects" or "unseen backgrounds"; see `unseen.with_look`.

        Raises:
            WorldError: seed, duration, size, events per minute or look out of range; the message names it and what is allowed.
        """
        width, height = size
        if not all(SMALLEST <= length <= LARGEST and length % 2 == 0 for length in (width, height)):
            raise WorldError(f"size: {width}x{height} is refused; width and height must be even and from {SMALLEST} to {LARGEST} pixels")
        if not 1.0 <= width / height <= 2.5:
            raise WorldError(f"size: {width}x{height} is refused; use a format from square (1:1) to wide (2.5:1), for example 320x240")
        self.size = (width, height)
        self.script: Script = with_look(make_script(seed, duration_s, events_per_minute=events_per_minute), look)
        self._sensor = Sensor(self.script.scene, seed, width, height)
        self._stage = Stage(self.script, self._sensor, width, height)
        self._margin = self._sensor.margin()
        self._backdrop = paint_backdrop(self.script.scene, width, height, self._margin)
        self._moving = [decoration for decoration in self.script.scene.decorations if decoration.kind in ANIMATED]

    def view(self, t_s: float) -> View:
        """The picture at `t_s` seconds.

        Raises:
            WorldError: `t_s` lies outside the stream.
        """
        if not 0 <= t_s <= self.script.duration_s:
            raise WorldError(f"time: {t_s} s is outside the stream, which lasts from 0 to {self.script.duration_s} s")
        width, height = self.size
        left, top = self._stage.view_left_top(t_s)
        right, down = int(np.floor(left)), int(np.floor(top))
        x, y = self._margin + right, self._margin + down
        frame = self._backdrop[y : y + height, x : x + width].copy()
        instances = np.zeros((height, width), np.int16)
        plot = Plot(width, height, -right, -down)
        for decoration in self._moving:
            paint_moving(frame, plot, decoration, t_s)
        shown = self._stage.appearances(t_s)
        for item in shown:
            item.sprite.lay_over(frame, instances if item.instance else None, item.x - right, item.y - down, item.instance)
        if left != right or top != down:
            move = np.array([[1, 0, right - left], [0, 1, down - top]], np.float32)
            frame = np.asarray(cv2.warpAffine(frame, move, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8)
        state, _ = self.script.at(t_s)
        image = np.ascontiguousarray(self._sensor.expose(frame, t_s, state.lamp_on))
        return View(image, instances, self._things(shown, instances, t_s))

    def _things(self, shown: list[Appearance], instances: NDArray[np.int16], t_s: float) -> tuple[ThingState, ...]:
        state, event = self.script.at(t_s)
        seen = np.bincount(instances.ravel())
        whole: dict[int, int] = {}
        parts: dict[int, Appearance] = {}
        for item in shown:
            if item.instance:
                whole[item.instance] = whole.get(item.instance, 0) + item.sprite.solid_pixels
                parts[item.instance] = item
        found = []
        for instance in sorted(parts):
            if instance >= len(seen) or not seen[instance]:
                continue
            item = parts[instance]
            fixture = next((fixture for fixture in self.script.scene.fixtures if fixture.instance == instance), None)
            kind = fixture.kind if fixture else self.script.things[instance].kind
            colour = "" if fixture else self.script.things[instance].colour
            condition = ""
            if kind == "door":
                condition = "open" if state.door_open or item.moving else "closed"
            elif kind == "lamp":
                condition = "on" if state.lamp_on else "off"
            fraction = min(1.0, float(seen[instance]) / max(1, whole[instance]))
            found.append(ThingState(instance, kind, colour, item.moving, item.held, fraction, condition))
        return tuple(found)
