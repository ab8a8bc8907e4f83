"""Where a simulated camera looks: the view, the room and its fixtures, and how the camera itself
behaves.

Lengths: `u` runs 0..1 across the picture's width, `v` 0..1 down its height, sizes are in picture
heights. So one scene fits any picture format.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_vlm_lab.simulation.scene.palette import Rgb

VIEWS = ("room", "corridor", "overhead", "tabletop", "desk")
NARROWEST_ASPECT = 4 / 3
"""Distances across the picture are planned for this format; wider ones only add room."""


@dataclass(frozen=True)
class Area:
    """A rectangle of the picture."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Surface:
    """Where things may rest: the point of contact lies between the corners; `depth` None means each
    thing's own `v` is its depth.
    """

    area: Area
    rgb: Rgb
    depth: float | None = None


@dataclass(frozen=True)
class Decoration:
    """Something that never takes part in an event: furniture, a window, a poster, a flickering
    screen, a swaying plant.
    """

    kind: str
    area: Area
    rgb: Rgb
    look: int


@dataclass(frozen=True)
class Fixture:
    """A door or a lamp: bolted to its place, changes state."""

    instance: int
    kind: str
    style: str
    area: Area
    rgb: Rgb
    look: int

    @property
    def light_source(self) -> tuple[float, float]:
        """Where the light of a lamp comes from, as fractions of its area: right, down."""
        return {"floor": (0.5, 0.12), "pendant": (0.5, 0.85), "desk": (0.62, 0.25)}[self.style]


@dataclass(frozen=True)
class Camera:
    """How the camera sees and what it does to the picture.

    Attributes:
        pitch: radians, looking down from the horizontal.
        pan: largest offset of the slow pan, in picture widths; 0 is a fixed camera.
        pan_period_s, exposure_period_s, shadow_period_s: seconds for one round.
        shake: standard size of the shake, in picture heights.
        noise: standard deviation of the sensor noise, grey levels.
        blur: standard deviation in pixels of a picture 240 high.
        vignette: how much darker the corners are, 0..1.
        warmth: red gain over blue gain, about 1.
        saturation, gamma: of the camera's own colour processing; 1 leaves the picture as it is.
        exposure: mean exposure; `exposure_drift` its relative swing.
        shadows: depth of soft moving shadows, 0..1.
        jpeg_quality: 0 for none.
    """

    pitch: float
    pan: float
    pan_period_s: float
    shake: float
    noise: float
    blur: float
    vignette: float
    warmth: float
    saturation: float
    gamma: float
    exposure: float
    exposure_drift: float
    exposure_period_s: float
    shadows: float
    shadow_period_s: float
    jpeg_quality: int


@dataclass(frozen=True)
class Scene:
    """The unchanging part of a simulated stream.

    Attributes:
        skyline: `v` where floor (or table) meets the wall; 0 or less when no wall is in view.
        vanish: `v` of the horizon, where things would have no size.
        person_height: of a person standing at `v` = 0.95, in picture heights; 0 when no people come
            here.
        thing_size: typical size of portable things, in picture heights.
        floor: where people stand; portable things rest on `surfaces`.
    """

    view: str
    camera: Camera
    look: int
    skyline: float
    vanish: float
    person_height: float
    thing_size: float
    wall_rgb: Rgb
    floor_rgb: Rgb
    wall_texture: str
    floor_texture: str
    floor: Area
    surfaces: tuple[Surface, ...]
    decorations: tuple[Decoration, ...]
    fixtures: tuple[Fixture, ...]

    def height_at(self, v: float) -> float:
        """How tall (picture heights) a person whose feet are at `v` appears."""
        return self.person_height * (v - self.vanish) / (0.95 - self.vanish)

    @property
    def margin(self) -> float:
        """How far from the left and right border (widths) the middle of a resting thing stays, so
        that a pan never cuts it.
        """
        return 0.03 + self.camera.pan


def top_to_front(pitch: float) -> float:
    """How deep a table's top appears, relative to its front; seen from higher up (pitch, radians)
    it shows more.
    """
    return 0.16 + 0.8 * float(np.sin(pitch))
