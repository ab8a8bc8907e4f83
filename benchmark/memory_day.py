"""A robot's day in twelve simulated rooms, and how it is stored in a memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from event_step import event_step
from memory_states import StateFact

from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import Place
from stream_vlm.types import (
    NANOSECONDS,
    Decision,
    Frame,
    Pose,
    State,
    StepResult,
    Tick,
)
from stream_vlm_lab.simulation.scene.captions import PORTABLE_KINDS
from stream_vlm_lab.simulation.script.script import Event
from stream_vlm_lab.simulation.script.script_writer import make_script

FIRST_NS = 1_700_000_000 * NANOSECONDS
ROOM_S = 3600
ROOMS = 12
FRAME_PERIOD_S = 5
ROOM_RADIUS_M = 2.0


@dataclass(frozen=True)
class DayEvent:
    """An event of a script on the robot's day.

    Attributes:
        room: number of the room.
        event: the event.
        start_ns: start in ns.
        end_ns: end in ns.
    """

    room: int
    event: Event
    start_ns: int
    end_ns: int

    @property
    def label(self) -> str:
        return self.event.label

    def is_about(self, kind: str, colour: str) -> bool:
        return (self.event.kind, self.event.colour) == (kind, colour)


class Day:
    """Twelve rooms, one after the other, 5 m apart along x."""

    def __init__(self, seed: int, events_per_minute: float) -> None:
        self.scripts = [
            make_script(seed * 1000 + room, ROOM_S, events_per_minute=events_per_minute)
            for room in range(ROOMS)
        ]
        self.events = [
            DayEvent(room, event, self.ns(room, event.t_start), self.ns(room, event.t_end))
            for room, script in enumerate(self.scripts)
            for event in script.events
        ]

    def ns(self, room: int, t_s: float) -> int:
        return FIRST_NS + round((room * ROOM_S + t_s) * NANOSECONDS)

    def place(self, room: int) -> Place:
        return Place(5.0 * room, 0.0, ROOM_RADIUS_M)

    def steps(self, room: int) -> Iterator[StepResult]:
        """The steps of a perfect model in the room's hour."""
        image = np.zeros((48, 64, 3), np.uint8)
        pose = Pose("map", 5.0 * room, 0.0, 0.0)
        moments = sorted(
            {(event.end_ns, index) for index, event in enumerate(self.events) if event.room == room}
        )
        frames = [(self.ns(room, second), -1) for second in range(0, ROOM_S, FRAME_PERIOD_S)]
        for number, (stamp_ns, index) in enumerate(sorted([*moments, *frames])):
            frame = Frame("front", stamp_ns, "front_optical", image, pose)
            if index < 0:
                yield StepResult(
                    f"room-{room}",
                    Tick(number, stamp_ns, (frame,)),
                    {"front": Decision(State.SILENCE, {State.SILENCE: 1.0})},
                )
                continue
            event = self.events[index]
            yield event_step(f"room-{room}", number, frame, event.label, event.start_ns)

    def write(self, memory: Memory) -> None:
        for room in range(ROOMS):
            memory.begin_session(f"room-{room}", "simulated", "a new room", self.ns(room, 0))
            for result in self.steps(room):
                memory.write(result)


def state_facts(day: Day) -> list[StateFact]:
    """Every state that an event of a room changed, as it is at the end of the room's hour."""
    facts = []
    for room, script in enumerate(day.scripts):
        place, last = day.place(room), script.states[-1]
        seen = [h.event for h in day.events if h.room == room]
        kinds = {event.kind for event in seen}
        if "door" in kinds and last.door_open is not None:
            facts.append(StateFact("door", "open", "closed", last.door_open, place))
        if "lamp" in kinds and last.lamp_on is not None:
            facts.append(StateFact("lamp", "on", "off", last.lamp_on, place))
        resting = {(script.things[one].kind, script.things[one].colour) for one in last.resting}
        for kind, colour in sorted({(one.kind, one.colour) for one in seen}):
            if kind in PORTABLE_KINDS:
                is_there = (kind, colour) in resting
                facts.append(StateFact(f"{colour} {kind}", "there", "gone", is_there, place))
    return facts
