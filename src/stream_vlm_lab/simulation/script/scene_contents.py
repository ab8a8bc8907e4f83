"""The things of a simulated stream and where they are, while its script is being written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stream_vlm_lab.simulation.scene.captions import COLOURS
from stream_vlm_lab.simulation.scene.palette import pixel_colour, standing_out
from stream_vlm_lab.simulation.scene.scene import Scene
from stream_vlm_lab.simulation.script.script import Placement, SceneState, Thing


class SceneContents:
    """All things of a stream, and the state after the events so far.

    Attributes:
        scene: the fixed part of the stream.
        things: every thing that was made, by instance; not all of them become visible.
        state: where everything is now.
    """

    def __init__(self, scene: Scene, rng: np.random.Generator) -> None:
        self.scene = scene
        self.things: dict[int, Thing] = {}
        self.state = SceneState()
        self._rng = rng

    def put(self, thing: Thing, place: Placement) -> None:
        """Let `thing` rest at `place`."""
        self.state = replace(self.state, resting={**self.state.resting, thing.instance: place})

    def present(self, *kinds: str) -> list[Thing]:
        """The resting things of these kinds."""
        return [
            self.things[instance]
            for instance in self.state.resting
            if self.things[instance].kind in kinds
        ]

    def pick(self, things: list[Thing]) -> Thing:
        """One of `things` at random."""
        return things[int(self._rng.integers(len(things)))]

    def new_portable(self, kind: str) -> Thing | None:
        """A new thing whose colour differs from the present things of its kind.

        None if no colour is left.
        """
        present = [*self.state.resting, *self.state.holding.values()]
        taken = {
            self.things[instance].colour
            for instance in present
            if self.things[instance].kind == kind
        }
        backgrounds = [surface.rgb for surface in self.scene.surfaces]
        backgrounds += [self.scene.wall_rgb] if self.scene.skyline > 0.3 else []
        colours = [colour for colour in standing_out(backgrounds, 170) if colour not in taken]
        if not colours:
            return None
        size = self.scene.thing_size * float(self._rng.uniform(0.88, 1.15))
        size *= {"ball": 0.9, "box": 0.85, "cup": 0.9, "bottle": 1.5, "book": 1.05}[kind]
        return self.add(kind, str(self._rng.choice(colours)), size)

    def new_person(self) -> Thing:
        """A new person whose clothes contrast with the background.

        The colour differs from that of other persons if possible.
        """
        taken = {
            self.things[instance].colour
            for instance in self.state.resting
            if self.things[instance].kind == "person"
        }
        backgrounds = [self.scene.wall_rgb if self.scene.skyline > 0.3 else self.scene.floor_rgb]
        colours = [colour for colour in standing_out(backgrounds, 165) if colour not in taken]
        colour = str(self._rng.choice(colours or [name for name in COLOURS if name not in taken]))
        return self.add("person", colour, self.scene.person_height)

    def add(self, kind: str, colour: str, size: float) -> Thing:
        """Make a new thing that rests nowhere yet; `size` is in picture heights."""
        instance = 3 + len(self.things)
        thing = Thing(
            instance,
            kind,
            colour,
            pixel_colour(colour, self._rng),
            size,
            int(self._rng.integers(1 << 31)),
        )
        self.things[instance] = thing
        return thing
