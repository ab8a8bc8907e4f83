"""The fixed part of a simulated stream: the view, the room, its fixtures and the camera.

Coordinates: `u` is 0..1 across the picture's width, `v` is 0..1 down its height; sizes are in
picture heights. A scene therefore works with any picture format.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_vlm_lab.simulation.scene.palette import Rgb

VIEWS = ("room", "corridor", "overhead", "tabletop", "desk")
NARROWEST_ASPECT = 4 / 3
"""Horizontal distances are planned for this picture format; wider formats only show more."""


@dataclass(frozen=True)
class Area:
    """A rectangle of the picture."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Surface:
    """Where things can rest; points of contact are inside `area`.

    Attributes:
        area: rectangle of the picture.
        rgb: colour.
        depth: depth of all things on it; None if the depth of each thing is its own `v`.
    """

    area: Area
    rgb: Rgb
    depth: float | None = None


@dataclass(frozen=True)
class Decoration:
    """Something that never takes part in an event, such as furniture, a window or a screen."""

    kind: str
    area: Area
    rgb: Rgb
    style_seed: int


@dataclass(frozen=True)
class Fixture:
    """A door or a lamp: it has a fixed place and changes its state."""

    instance: int
    kind: str
    style: str
    area: Area
    rgb: Rgb
    style_seed: int

    @property
    def light_source(self) -> tuple[float, float]:
        """Position of a lamp's light, as fractions of its area: right, down."""
        return {"floor": (0.5, 0.12), "pendant": (0.5, 0.85), "desk": (0.62, 0.25)}[self.style]


@dataclass(frozen=True)
class Camera:
    """Geometry and picture quality of the camera.

    Attributes:
        pitch: radians, down from the horizontal.
        pan: largest offset of the slow pan, in picture widths; 0 for a fixed camera.
        pan_period_s: period of the pan in seconds.
        shake: size of the shake, in picture heights.
        noise: standard deviation of the sensor noise, in grey levels.
        blur: standard deviation in pixels, for a picture height of 240.
        vignette: how much darker the corners are, 0..1.
        warmth: red gain divided by blue gain, about 1.
        saturation: colour saturation; 1 is neutral.
        gamma: gamma of the camera's processing; 1 is neutral.
        exposure: mean exposure.
        exposure_drift: relative amplitude of slow exposure changes.
        exposure_period_s: period of the exposure changes in seconds.
        shadows: depth of soft moving shadows, 0..1.
        shadow_period_s: period of the shadows in seconds.
        jpeg_quality: 0 for no compression.
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
    """The fixed part of a simulated stream.

    Attributes:
        view: one of `VIEWS`.
        camera: the camera.
        style_seed: seed of small variations.
        skyline: `v` at which floor (or table) and wall meet; 0 or less if there is no wall.
        vanish: `v` of the horizon, where things would have no size.
        person_height: height of a person standing at `v` = 0.95, in picture heights; 0 for a scene
            without people.
        thing_size: typical size of portable things, in picture heights.
        wall_rgb: colour of the wall.
        floor_rgb: colour of the floor.
        wall_texture: name of the wall's texture.
        floor_texture: name of the floor's texture.
        floor: where people stand.
        surfaces: where portable things rest.
        decorations: things that never take part in an event.
        fixtures: the door and the lamp, if there are any.
    """

    view: str
    camera: Camera
    style_seed: int
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
        """Height of a person whose feet are at `v`, in picture heights."""
        return self.person_height * (v - self.vanish) / (0.95 - self.vanish)

    @property
    def margin(self) -> float:
        """Smallest distance of a resting thing from the left and right border, in picture widths.

        A pan then never cuts it off.
        """
        return 0.03 + self.camera.pan


def top_to_front(pitch: float) -> float:
    """Depth of a table's top in the picture, relative to its front, for a pitch in radians."""
    return 0.16 + 0.8 * float(np.sin(pitch))
