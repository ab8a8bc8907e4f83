"""What happens in a simulated stream: the scene, the things in it, and every event with its exact
span.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from stream_vlm.types import StreamError
from stream_vlm_lab.simulation.scene.palette import Rgb
from stream_vlm_lab.simulation.scene.scene import NARROWEST_ASPECT, Scene

HELD_OUT_SEED = 1_000_000
"""Streams with seeds from here on are for examination; nothing is ever trained on them."""


class WorldError(StreamError):
    """A simulated stream cannot be made as asked; the message names the setting, its value and what
    is allowed.
    """


@dataclass(frozen=True)
class Thing:
    """A person, a hand or a portable thing.

    `size` is its height in picture heights (people: scaled by where they stand); `form` is empty
    but where a look gave it another.
    """

    instance: int
    kind: str
    colour: str
    rgb: Rgb
    size: float
    look: int
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
        u, v: of its point of contact with the ground; see `scene`.
        shift: added to the horizontal position, in picture heights, so that a person stays within
            arm's reach in any format.
        heading: radians, people only: 0 looks into the camera, +pi/2 to the right, pi away.
        depth: `v` of the ground below, for what hides what; larger is nearer.
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
    """Something that happens once.

    Attributes:
        action, kind, colour, label: as in `language`.
        t_start: seconds; the first moment at which the picture shows it. `t_end`: when the picture
            shows it complete.
        t_approached: when walking up to the place ends (people who pick up or put down); else
            `t_start`.
        t_contact: when a thing is grasped or let go (hands, people who pick up or put down); else
            `t_start`.
        instance: the thing it happens to. `actor`: the person or hand that does it, 0 for none.
        edge: where it comes from or goes to; empty for none.
        place: where the thing rests afterwards (or rested before, for takes, leaves and rolls
            away).
        stand: where the person stands afterwards (picks up, puts down).
        look: seed of its small variations.
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
    look: int = 0


@dataclass(frozen=True)
class SceneState:
    """What is where between two events.

    Attributes:
        resting: placements by instance; what is held is not in it.
        holding: person's instance → the thing's instance.
        door_open, lamp_on: None when there is no such fixture.
    """

    resting: Mapping[int, Placement] = field(default_factory=dict)
    holding: Mapping[int, int] = field(default_factory=dict)
    door_open: bool | None = None
    lamp_on: bool | None = None

    def after(self, event: Event) -> SceneState:
        """The state once `event` is complete."""
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
    """A whole simulated stream before any pixel is drawn.

    Attributes:
        things: every thing that is ever seen, by instance; fixtures are in `scene.fixtures`.
        events: in order of time; they do not overlap.
        states: `states[k]` holds after the first `k` events; one more than there are events.
    """

    seed: int
    duration_s: float
    scene: Scene
    things: Mapping[int, Thing]
    events: tuple[Event, ...]
    states: tuple[SceneState, ...]

    def at(self, t_s: float) -> tuple[SceneState, Event | None]:
        """The state before the event under way at `t_s` and that event; or the resting state and
        None.
        """
        started = bisect.bisect_right(self._starts, t_s)
        if started and t_s < self.events[started - 1].t_end:
            return self.states[started - 1], self.events[started - 1]
        return self.states[started], None

    def last_event(self, t_s: float) -> Event | None:
        """The last event complete at `t_s`, or None."""
        done = bisect.bisect_right(self._ends, t_s)
        return self.events[done - 1] if done else None

    @cached_property
    def _starts(self) -> list[float]:
        return [event.t_start for event in self.events]

    @cached_property
    def _ends(self) -> list[float]:
        return [event.t_end for event in self.events]
