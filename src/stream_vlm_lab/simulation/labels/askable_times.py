"""What can be known of a simulated stream at each moment: events as its pictures show them, and
moments that are good for asking.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from stream_vlm_lab.simulation.labels.event_pattern import Wanted
from stream_vlm_lab.simulation.script.script import Event
from stream_vlm_lab.simulation.world import World


@dataclass(frozen=True)
class Seen:
    """An event with the times (s) from which a picture shows its start and its end: later than they
    are where a fault hides them.
    """

    event: Event
    t_start: float
    t_end: float


class Moments:
    """Events of `world` as its camera delivers them."""

    def __init__(self, world: World) -> None:
        self.script = world.script
        self._faults = world.faults
        self.events = tuple(
            Seen(event, self.seen_from(event.t_start), self.seen_from(event.t_end))
            for event in world.script.events
        )
        self._ends = [seen.t_end for seen in self.events]

    def seen_from(self, t_s: float) -> float:
        """When a picture first shows what became true at `t_s` seconds."""
        return self._faults.seen_from(t_s)

    @cached_property
    def quiet(self) -> Sequence[float]:
        """Whole seconds at which nothing is under way and nothing is hidden, from 1 s on to two
        seconds before the end.
        """
        seconds = (float(second) for second in range(1, int(self.script.duration_s) - 1))
        return [
            t_s for t_s in seconds if self.script.at(t_s)[1] is None and self.seen_from(t_s) == t_s
        ]

    def before(self, t_s: float) -> Sequence[Seen]:
        """Events that are over and seen at `t_s` seconds."""
        return self.events[: bisect.bisect_right(self._ends, t_s)]

    def after(self, t_s: float) -> Sequence[Seen]:
        """Events that are not over, or not seen to be, at `t_s` seconds."""
        return self.events[bisect.bisect_right(self._ends, t_s) :]

    def first(self, wanted: Wanted, t_s: float) -> Seen | None:
        """The first event after `t_s` seconds that is `wanted`, or None."""
        return next((seen for seen in self.after(t_s) if wanted.fits(seen.event)), None)
