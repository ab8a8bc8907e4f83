"""Finds places for people and things: apart from each other, inside the picture, within reach."""

from __future__ import annotations

import numpy as np

from stream_vlm_lab.simulation.scene.scene import NARROWEST_ASPECT
from stream_vlm_lab.simulation.script.scene_contents import SceneContents
from stream_vlm_lab.simulation.script.script import Placement, Thing

TRIALS = 24
ARM_REACH = 0.3
"""Distance of a person from the middle of the thing they handle, in body heights."""


class Placer:
    """Draws random places and refuses those that would hide or touch something."""

    def __init__(self, contents: SceneContents, rng: np.random.Generator) -> None:
        self._contents = contents
        self._scene = contents.scene
        self._rng = rng

    def for_portable(
        self,
        thing: Thing,
        *,
        on_floor: bool = False,
    ) -> Placement | None:
        """A free place on a table or on the floor; None if no trial finds one.

        Args:
            thing: the thing to place.
            on_floor: only on the floor.
        """
        surfaces = [
            surface for surface in self._scene.surfaces if surface.depth is None or not on_floor
        ]
        for _ in range(TRIALS):
            surface = surfaces[int(self._rng.integers(len(surfaces)))]
            margin = (
                self._scene.margin + thing.width / 2 / NARROWEST_ASPECT
                if surface.depth is None
                else 0.0
            )
            left, right = max(surface.area.left, margin), min(surface.area.right, 1 - margin)
            if right <= left:
                continue
            u, v = (
                float(self._rng.uniform(left, right)),
                float(self._rng.uniform(surface.area.top, surface.area.bottom)),
            )
            place = Placement(u, v, v if surface.depth is None else surface.depth)
            if v - thing.size < 0.01:
                continue
            if all(
                self._apart(place, thing, other, self._contents.things[instance])
                for instance, other in self._contents.state.resting.items()
            ):
                return place
        return None

    def for_person(self, person: Thing) -> Placement | None:
        """A free place on the floor at which a person is inside the picture from left to right."""
        floor = self._scene.floor
        for _ in range(TRIALS):
            v = float(self._rng.uniform(floor.top, floor.bottom))
            margin = self._person_margin(v)
            if margin >= 0.48:
                continue
            heading = (
                float(self._rng.normal(0, 0.7))
                if self._rng.random() < 0.8
                else float(self._rng.uniform(-np.pi, np.pi))
            )
            place = Placement(float(self._rng.uniform(margin, 1 - margin)), v, v, heading=heading)
            if self._hides_a_fixture(place):
                continue
            if all(
                self._apart(place, person, other, self._contents.things[instance])
                for instance, other in self._contents.state.resting.items()
            ):
                return place
        return None

    def for_handling(
        self,
        place: Placement,
        person: Thing,
        thing: Thing,
    ) -> Placement | None:
        """Where `person` stands to reach `place`: at arm's length, left or right of it.

        None if there is no room.
        """
        v = place.depth + 0.02
        if v < self._scene.floor.top - 0.06:
            return None
        height = self._scene.height_at(v)
        sides = [-1, 1] if self._rng.random() < 0.5 else [1, -1]
        for side in sides:
            stand = Placement(
                place.u,
                v,
                v,
                place.shift + side * (ARM_REACH * height + thing.width * 0.25),
                -side * np.pi / 2,
            )
            across = stand.across() / NARROWEST_ASPECT
            margin = self._person_margin(v)
            if not margin <= across <= 1 - margin or self._hides_a_fixture(stand):
                continue
            others = (
                (other, self._contents.things[instance])
                for instance, other in self._contents.state.resting.items()
                if instance not in (person.instance, thing.instance)
            )
            if all(self._apart(stand, person, other, what) for other, what in others):
                return stand
        return None

    def distance_to_edge(self, place: Placement, edge: str) -> float:
        """Distance from `place` to `edge` in picture heights."""
        if edge == "left":
            return place.across()
        if edge == "right":
            return NARROWEST_ASPECT - place.across()
        if edge == "top":
            return place.v
        height = self._scene.person_height * float(np.cos(self._scene.camera.pitch))
        return 1.0 - place.v + height

    def is_on_floor(self, place: Placement) -> bool:
        """Whether a ball at `place` can roll to the border of the picture."""
        return place.depth == place.v

    def _person_margin(self, v: float) -> float:
        return self._scene.margin + 0.2 * self._scene.height_at(v) / NARROWEST_ASPECT

    def _hides_a_fixture(self, place: Placement) -> bool:
        """Whether a person at `place` would hide most of a door or lamp."""
        half_person = 0.17 * self._scene.height_at(place.depth)
        for fixture in self._scene.fixtures:
            if fixture.style == "pendant":
                continue
            middle = (fixture.area.left + fixture.area.right) / 2 * NARROWEST_ASPECT
            half_fixture = (fixture.area.right - fixture.area.left) / 2 * NARROWEST_ASPECT
            if abs(place.across() - middle) < half_person + 0.4 * half_fixture:
                return True
        return False

    def _apart(self, place: Placement, thing: Thing, other_place: Placement, other: Thing) -> bool:
        across = abs(place.across() - other_place.across())
        widths = (self._width(thing, place) + self._width(other, other_place)) / 2
        if across >= widths + 0.03:
            return True
        # On a surface seen from above, a thing can be behind another one if neither hides the
        # other.
        if "person" in (thing.kind, other.kind):
            return False
        nearer = thing if place.v > other_place.v else other
        return abs(place.v - other_place.v) > nearer.size * 0.95 + 0.02

    def _width(self, thing: Thing, place: Placement) -> float:
        return 0.36 * self._scene.height_at(place.depth) if thing.kind == "person" else thing.width
