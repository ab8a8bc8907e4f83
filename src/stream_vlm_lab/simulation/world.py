"""A simulated camera: the picture at any time, with exact ground truth."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_vlm_lab.simulation.camera.camera_optics import Sensor
from stream_vlm_lab.simulation.camera.degrade import exposure_moments
from stream_vlm_lab.simulation.camera.faults import HIDING, Faults, plan_faults
from stream_vlm_lab.simulation.drawing.appearance import with_appearance
from stream_vlm_lab.simulation.drawing.background.backdrop import paint_backdrop
from stream_vlm_lab.simulation.drawing.background.moving_clutter import ANIMATED, paint_moving
from stream_vlm_lab.simulation.drawing.scene_sprites import SceneSprites
from stream_vlm_lab.simulation.raster.projection import Projection
from stream_vlm_lab.simulation.raster.sprite import Image, PlacedSprite
from stream_vlm_lab.simulation.script.script import Script, WorldError
from stream_vlm_lab.simulation.script.script_writer import make_script

SMALLEST, LARGEST = 64, 4096
"""Smallest and largest width and height in pixels."""


@dataclass(frozen=True)
class ThingState:
    """One thing in the picture.

    Attributes:
        instance: its number in the instance map.
        kind: kind of thing, as in `scene/captions.py`.
        colour: colour, as in `scene/captions.py`; empty for doors and lamps, the sleeve's for a
            hand.
        moving: whether it takes part in an event now.
        held: whether a person or a hand holds it.
        visible_fraction: share of its pixels that are not hidden and inside the picture, 0..1.
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
    """One frame with its ground truth.

    Attributes:
        image: uint8 RGB, (H, W, 3), C-contiguous.
        instances: int16, (H, W); 0 is background, other values are the `instance` of a thing.
        things: everything with at least one pixel in the picture, by instance.
    """

    image: NDArray[np.uint8]
    instances: NDArray[np.int16]
    things: tuple[ThingState, ...]


class World:
    """One simulated stream.

    The same arguments give the same pixels at the same time, in whatever order pictures are drawn.
    A picture of 320x240 takes a few milliseconds; ascending times are fastest. Pictures are not
    kept, so a stream of a day needs no more memory than one of a minute, except for its script.

    Attributes:
        size: width and height in pixels.
        script: what happens.
        faults: the camera faults.
    """

    def __init__(
        self,
        seed: int,
        duration_s: float,
        size: tuple[int, int] = (320, 240),
        *,
        events_per_minute: float = 10.0,
        look: str = "seen",
        quiet_minutes: float = 0.0,
        longest_event_s: float = 0.0,
        faults: Collection[str] = (),
        faults_per_minute: float = 1.0,
    ) -> None:
        """Write the script and paint the background.

        Args:
            seed: any whole number from 0.
            duration_s: length of the stream in seconds.
            size: width and height in pixels, each even and from 64 to 4096.
            events_per_minute: mean rate of events.
            look: "seen", "varied objects", "invented", "unseen objects" or "unseen backgrounds";
                see `with_appearance`.
            quiet_minutes: mean length of quiet spans; see `make_script`.
            longest_event_s: longest duration of slow events; see `make_script`.
            faults: kinds of camera faults, of `FAULTS`; they do not change the events.
            faults_per_minute: mean rate of the faults of each kind.

        Raises:
            WorldError: an argument is out of range; the message names it and the allowed range.
        """
        width, height = size
        if not all(SMALLEST <= length <= LARGEST and length % 2 == 0 for length in (width, height)):
            raise WorldError(
                f"size: {width}x{height} is refused; width and height must be even and from"
                f" {SMALLEST} to {LARGEST} pixels"
            )
        if not 1.0 <= width / height <= 2.5:
            raise WorldError(
                f"size: {width}x{height} is refused; use a format from square (1:1) to wide"
                " (2.5:1), for example 320x240"
            )
        self.size = (width, height)
        script = make_script(
            seed,
            duration_s,
            events_per_minute=events_per_minute,
            quiet_minutes=quiet_minutes,
            longest_event_s=longest_event_s,
        )
        self.script: Script = with_appearance(script, look)
        self.faults = (
            plan_faults(seed, script.duration_s, faults, faults_per_minute) if faults else Faults()
        )
        self._sensor = Sensor(self.script.scene, seed, width, height)
        self._sprites = SceneSprites(self.script, self._sensor, width, height)
        self._margin = self._sensor.margin()
        self._backdrop = paint_backdrop(self.script.scene, width, height, self._margin)
        self._moving = [
            decoration
            for decoration in self.script.scene.decorations
            if decoration.kind in ANIMATED
        ]

    def has_picture(self, t_s: float) -> bool:
        """Whether there is a picture at `t_s` seconds; False while pictures are dropped."""
        return self.faults.active("dropped", t_s) is None

    def view(self, t_s: float) -> View:
        """The picture at `t_s` seconds with its ground truth.

        While the camera is frozen, both are those of the time at which it froze. While pictures are
        dropped, this is the picture that is missing; see `has_picture`.

        Raises:
            WorldError: `t_s` is outside the stream.
        """
        if not 0 <= t_s <= self.script.duration_s:
            raise WorldError(
                f"time: {t_s} s is outside the stream, which lasts from 0 to"
                f" {self.script.duration_s} s"
            )
        frozen = self.faults.active("frozen", t_s)
        t_s = frozen.t_start if frozen else t_s
        frame, instances, shown = self._draw(t_s)
        rolling = self.faults.active("rolling", t_s)
        if rolling is not None:
            self._apply_rolling(frame, instances, shown, exposure_moments(rolling, t_s)[:-1])
        state, _ = self.script.at(t_s)
        holding = [fault for fault in self.faults.at(t_s) if fault.kind not in HIDING]
        image = np.ascontiguousarray(self._sensor.expose(frame, t_s, state.lamp_on, holding))
        return View(image, instances, self._things(shown, instances, t_s))

    def _draw(self, t_s: float) -> tuple[Image, NDArray[np.int16], list[PlacedSprite]]:
        """The scene before camera effects, its instance map, and the placed sprites."""
        width, height = self.size
        left, top = self._sprites.view_left_top(t_s)
        right, down = int(np.floor(left)), int(np.floor(top))
        x, y = self._margin + right, self._margin + down
        frame = self._backdrop[y : y + height, x : x + width].copy()
        instances = np.zeros((height, width), np.int16)
        projection = Projection(width, height, -right, -down)
        for decoration in self._moving:
            paint_moving(frame, projection, decoration, t_s)
        shown = self._sprites.placed_sprites(t_s)
        for item in shown:
            item.sprite.lay_over(
                frame,
                instances if item.instance else None,
                item.x - right,
                item.y - down,
                item.instance,
            )
        if left != right or top != down:
            move = np.array([[1, 0, right - left], [0, 1, down - top]], np.float32)
            frame = np.asarray(
                cv2.warpAffine(frame, move, (width, height), borderMode=cv2.BORDER_REPLICATE),
                np.uint8,
            )
        return frame, instances, shown

    def _apply_rolling(
        self,
        frame: Image,
        instances: NDArray[np.int16],
        shown: list[PlacedSprite],
        earlier: list[float],
    ) -> None:
        """Replace the upper bands of rows in `frame` by those of `earlier` times.

        The last band stays.
        """
        rows = self.size[1]
        for band, t_s in enumerate(earlier):
            above, below = (
                band * rows // (len(earlier) + 1),
                (band + 1) * rows // (len(earlier) + 1),
            )
            then, whose, there = self._draw(t_s)
            frame[above:below], instances[above:below] = then[above:below], whose[above:below]
            known = {item.instance for item in shown}
            shown += [item for item in there if item.instance not in known]

    def _things(
        self, shown: list[PlacedSprite], instances: NDArray[np.int16], t_s: float
    ) -> tuple[ThingState, ...]:
        state, _ = self.script.at(t_s)
        seen = np.bincount(instances.ravel())
        whole: dict[int, int] = {}
        parts: dict[int, PlacedSprite] = {}
        for item in shown:
            if item.instance:
                whole[item.instance] = whole.get(item.instance, 0) + item.sprite.solid_pixels
                parts[item.instance] = item
        found = []
        for instance in sorted(parts):
            if instance >= len(seen) or not seen[instance]:
                continue
            item = parts[instance]
            fixture = next(
                (fixture for fixture in self.script.scene.fixtures if fixture.instance == instance),
                None,
            )
            kind = fixture.kind if fixture else self.script.things[instance].kind
            colour = "" if fixture else self.script.things[instance].colour
            condition = ""
            if kind == "door":
                condition = "open" if state.door_open or item.moving else "closed"
            elif kind == "lamp":
                condition = "on" if state.lamp_on else "off"
            fraction = min(1.0, float(seen[instance]) / max(1, whole[instance]))
            found.append(
                ThingState(instance, kind, colour, item.moving, item.held, fraction, condition)
            )
        return tuple(found)
