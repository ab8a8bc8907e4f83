"""Events as the pictures show them, and times at which a question can be asked."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from stream_vlm_lab.simulation.labels.event_pattern import EventPattern
from stream_vlm_lab.simulation.script.script import Event
from stream_vlm_lab.simulation.world import World


@dataclass(frozen=True)
class VisibleEvent:
    """An event with the times in seconds at which a picture shows its start and its end.

    They are later than the real times if a camera fault hides them.
    """

    event: Event
    t_start: float
    t_end: float


class VisibleEvents:
    """The events of `world` as its camera shows them."""

    def __init__(self, world: World) -> None:
        self.script = world.script
        self._faults = world.faults
        self.events = tuple(
            VisibleEvent(event, self.visible_from(event.t_start), self.visible_from(event.t_end))
            for event in world.script.events
        )
        self._ends = [seen.t_end for seen in self.events]

    def visible_from(self, t_s: float) -> float:
        """The first time from `t_s` on at which a picture shows the scene."""
        return self._faults.visible_from(t_s)

    @cached_property
    def askable_times(self) -> Sequence[float]:
        """Whole seconds at which no event is in progress and nothing is hidden.

        They are between 1 s and two seconds before the end.
        """
        seconds = (float(second) for second in range(1, int(self.script.duration_s) - 1))
        return [
            t_s
            for t_s in seconds
            if self.script.at(t_s)[1] is None and self.visible_from(t_s) == t_s
        ]

    def before(self, t_s: float) -> Sequence[VisibleEvent]:
        """Events whose end a picture has shown at `t_s` seconds."""
        return self.events[: bisect.bisect_right(self._ends, t_s)]

    def after(self, t_s: float) -> Sequence[VisibleEvent]:
        """Events whose end no picture has shown yet at `t_s` seconds."""
        return self.events[bisect.bisect_right(self._ends, t_s) :]

    def first_match(self, pattern: EventPattern, t_s: float) -> VisibleEvent | None:
        """The first event after `t_s` seconds that matches `pattern`, or None."""
        return next((seen for seen in self.after(t_s) if pattern.matches(seen.event)), None)
