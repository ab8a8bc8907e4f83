"""The script of a simulated stream: the scene, its things, and every event with its exact span."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from stream_vlm.types import StreamError
from stream_vlm_lab.simulation.scene.palette import Rgb
from stream_vlm_lab.simulation.scene.scene import NARROWEST_ASPECT, Scene

HELD_OUT_SEED = 1_000_000
"""First seed of the held-out streams, which are for examinations; no training uses them."""


class WorldError(StreamError):
    """A simulated stream cannot be made; the message names the setting and what is allowed."""


@dataclass(frozen=True)
class Thing:
    """A person, a hand or a portable thing.

    Attributes:
        instance: its number.
        kind: kind of thing.
        colour: name of its colour.
        rgb: its colour.
        size: height in picture heights; people are also scaled by where they stand.
        style_seed: seed of small variations.
        form: name of another form, set by an appearance; empty for the standard form.
    """

    instance: int
    kind: str
    colour: str
    rgb: Rgb
    size: float
    style_seed: int
    form: str = ""

    @property
    def width(self) -> float:
        """Largest width in picture heights."""
        return (
            self.size
            * {
                "ball": 1.0,
                "box": 1.35,
                "cup": 1.2,
                "bottle": 0.42,
                "book": 0.85,
                "person": 0.36,
                "hand": 1.0,
            }[self.kind]
        )


@dataclass(frozen=True)
class Placement:
    """Where something rests.

    Attributes:
        u: horizontal position of the point of contact; see `scene/scene.py`.
        v: vertical position of the point of contact.
        depth: `v` of the ground below, which decides what hides what; larger is nearer.
        shift: added to the horizontal position, in picture heights, so that a person stays within
            arm's reach in any format.
        heading: of people, in radians: 0 faces the camera, +pi/2 the right, pi away.
    """

    u: float
    v: float
    depth: float
    shift: float = 0.0
    heading: float = 0.0

    def across(self) -> float:
        """Horizontal position in picture heights, in the narrowest format."""
        return self.u * NARROWEST_ASPECT + self.shift


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes:
        action: one of `ACTIONS`.
        kind: kind of the thing.
        colour: colour of the thing.
        label: the caption.
        t_start: seconds; first time at which the picture shows it.
        t_end: seconds; when the picture shows it complete.
        t_approached: when a person who picks up or puts down has arrived; else `t_start`.
        t_contact: when a hand or person grasps or releases the thing; else `t_start`.
        instance: the thing it happens to.
        actor: the person or hand that does it, 0 for none.
        edge: where it comes from or goes to; empty for none.
        place: where the thing rests afterwards (before, for takes, leaves and rolls away).
        stand: where the person stands afterwards (picks up, puts down).
        style_seed: seed of small variations.
    """

    action: str
    kind: str
    colour: str
    label: str
    t_start: float
    t_end: float
    t_approached: float
    t_contact: float
    instance: int = 0
    actor: int = 0
    edge: str = ""
    place: Placement | None = None
    stand: Placement | None = None
    style_seed: int = 0


@dataclass(frozen=True)
class SceneState:
    """Where everything is between two events.

    Attributes:
        resting: placements by instance, without held things.
        holding: held thing's instance by person's instance.
        door_open: None if there is no door.
        lamp_on: None if there is no lamp.
    """

    resting: Mapping[int, Placement] = field(default_factory=dict)
    holding: Mapping[int, int] = field(default_factory=dict)
    door_open: bool | None = None
    lamp_on: bool | None = None

    def after(self, event: Event) -> SceneState:
        """The state after `event`."""
        resting, holding = dict(self.resting), dict(self.holding)
        door_open, lamp_on = self.door_open, self.lamp_on
        if event.action in ("enters", "rolls in"):
            assert event.place is not None
            resting[event.instance] = event.place
        elif event.action == "leaves":
            resting.pop(event.instance)
            holding.pop(event.instance, None)
        elif event.action in ("rolls away", "takes"):
            resting.pop(event.instance)
        elif event.action == "picks up":
            assert event.stand is not None
            resting.pop(event.instance)
            resting[event.actor] = event.stand
            holding[event.actor] = event.instance
        elif event.action == "puts down":
            assert event.place is not None
            resting[event.instance] = event.place
            if event.stand is not None:
                resting[event.actor] = event.stand
                holding.pop(event.actor)
        elif event.kind == "door":
            door_open = event.action == "opens"
        elif event.kind == "lamp":
            lamp_on = event.action == "turns on"
        return SceneState(resting, holding, door_open, lamp_on)


@dataclass(frozen=True)
class Script:
    """A whole simulated stream, without pixels.

    Attributes:
        seed: seed of the stream.
        duration_s: length in seconds.
        scene: the fixed part.
        things: every visible thing by instance; fixtures are in `scene.fixtures`.
        events: in order of time, without overlaps.
        states: `states[k]` is the state after the first `k` events; one more than events.
    """

    seed: int
    duration_s: float
    scene: Scene
    things: Mapping[int, Thing]
    events: tuple[Event, ...]
    states: tuple[SceneState, ...]

    def at(self, t_s: float) -> tuple[SceneState, Event | None]:
        """The event in progress at `t_s` and the state before it, or the current state and None."""
        started = bisect.bisect_right(self._starts, t_s)
        if started and t_s < self.events[started - 1].t_end:
            return self.states[started - 1], self.events[started - 1]
        return self.states[started], None

    def last_event(self, t_s: float) -> Event | None:
        """The last event that is complete at `t_s`, or None."""
        done = bisect.bisect_right(self._ends, t_s)
        return self.events[done - 1] if done else None

    @cached_property
    def _starts(self) -> list[float]:
        return [event.t_start for event in self.events]

    @cached_property
    def _ends(self) -> list[float]:
        return [event.t_end for event in self.events]
