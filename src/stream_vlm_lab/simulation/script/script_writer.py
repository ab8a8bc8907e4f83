"""Writes the script of a simulated stream: events one after the other, never two at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stream_vlm_lab.simulation.scene.captions import PORTABLE_KINDS
from stream_vlm_lab.simulation.scene.random_scene import make_scene
from stream_vlm_lab.simulation.scene.scene import Fixture
from stream_vlm_lab.simulation.script.event_proposals import EventProposals
from stream_vlm_lab.simulation.script.pacing import BURST_S, SlowEvents, plan_quiet_spans
from stream_vlm_lab.simulation.script.placement import Placer
from stream_vlm_lab.simulation.script.scene_contents import SceneContents
from stream_vlm_lab.simulation.script.script import SceneState, Script, WorldError

LONGEST_QUIET_MINUTES = 720.0
LONGEST_EVENT_S = 600.0


def make_script(
    seed: int,
    duration_s: float,
    *,
    events_per_minute: float = 10.0,
    quiet_minutes: float = 0.0,
    longest_event_s: float = 0.0,
) -> Script:
    """Write the script of one stream; the same arguments always give the same script.

    Args:
        seed: any whole number from 0.
        duration_s: length in seconds, from 1 s to a day.
        events_per_minute: mean rate of events, from 0 (none) to 20.
        quiet_minutes: mean length of quiet spans, with bursts of a minute or two between them; 0
            for none, at most 720.
        longest_event_s: about half of the events are slow and last up to this long, at most 600 s
            (45 s with quiet spans); 0 for events of a few seconds only.

    Raises:
        WorldError: an argument is out of range.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise WorldError(f"seed: {seed!r} is refused; use a whole number from 0")
    if not 1.0 <= duration_s <= 86_400.0:
        raise WorldError(f"duration: {duration_s} s is refused; use 1 s to 86400 s (a day)")
    if not 0.0 <= events_per_minute <= 20.0:
        raise WorldError(f"events_per_minute: {events_per_minute} is refused; use 0 to 20")
    if not 0.0 <= quiet_minutes <= LONGEST_QUIET_MINUTES:
        raise WorldError(
            f"quiet_minutes: {quiet_minutes} is refused; use 0 (none) to {LONGEST_QUIET_MINUTES:g}"
        )
    if not 0.0 <= longest_event_s <= LONGEST_EVENT_S:
        raise WorldError(
            f"longest_event_s: {longest_event_s} is refused; use 0 (a few seconds) to"
            f" {LONGEST_EVENT_S:g}"
        )
    return ScriptWriter(
        seed,
        float(duration_s),
        float(events_per_minute),
        float(quiet_minutes),
        float(longest_event_s),
    ).write()


class ScriptWriter:
    """Writes one script; for the arguments see `make_script`."""

    def __init__(
        self,
        seed: int,
        duration_s: float,
        events_per_minute: float,
        quiet_minutes: float,
        longest_event_s: float,
    ) -> None:
        self._rng = np.random.default_rng([seed, 0x5EE])
        self._seed = seed
        self._duration_s = duration_s
        self._rate = events_per_minute
        self._scene = make_scene(self._rng)
        self._contents = SceneContents(self._scene, self._rng)
        self._placer = Placer(self._contents, self._rng)
        self._proposals = EventProposals(self._contents, self._placer, self._rng)
        self._quiet = plan_quiet_spans(seed, duration_s, quiet_minutes)
        # An event longer than the shortest burst might not fit between two quiet spans.
        self._slow = SlowEvents(
            seed, min(longest_event_s, BURST_S[0]) if self._quiet else longest_event_s
        )

    def write(self) -> Script:
        """Place the first things, then add events with gaps between them until the end."""
        self._place_first_things()
        states, events = [self._contents.state], []
        now = self._gap() * float(self._rng.uniform(0.4, 1.2)) + 0.5
        while self._rate > 0:
            proposed = self._proposals.next_event()
            if proposed is None:
                break
            proposed = self._slow.slow_down(proposed)
            now = self._after_quiet(now, proposed.t_end)
            event = replace(
                proposed,
                t_start=round(now, 3),
                t_end=round(now + proposed.t_end, 3),
                t_approached=round(now + proposed.t_approached, 3),
                t_contact=round(now + proposed.t_contact, 3),
            )
            if event.t_end > self._duration_s - 1.0:
                break
            events.append(event)
            self._contents.state = self._contents.state.after(event)
            states.append(self._contents.state)
            now = event.t_end + self._gap()
        used = {
            instance for state in states for instance in (*state.resting, *state.holding.values())
        }
        used |= {instance for event in events for instance in (event.instance, event.actor)}
        things = {
            instance: thing for instance, thing in self._contents.things.items() if instance in used
        }
        return Script(
            self._seed, self._duration_s, self._scene, things, tuple(events), tuple(states)
        )

    def _after_quiet(self, now: float, length_s: float) -> float:
        """First time from `now` on with `length_s` seconds outside all quiet spans."""
        for start, end in self._quiet:
            if start < now + length_s and now < end:
                now = end
        return now

    def _gap(self) -> float:
        """Gap before the next event in seconds: at least 1, mostly under 10, sometimes 30."""
        if self._rng.random() < 0.03:
            return float(self._rng.uniform(20, 30))
        mean = max(1.2, 60 / max(self._rate, 0.1) - 2.5)
        return float(min(1.05 + self._rng.exponential(mean - 1.0), max(10.0, 2 * mean)))

    def _place_first_things(self) -> None:
        scene, rng = self._scene, self._rng
        door = self._fixture("door")
        lamp = self._fixture("lamp")
        self._contents.state = SceneState(
            door_open=bool(rng.random() < 0.4) if door else None,
            lamp_on=bool(rng.random() < 0.5) if lamp else None,
        )
        for _ in range(int(rng.integers(1, 4))):
            thing = self._contents.new_portable(str(rng.choice(PORTABLE_KINDS)))
            place = self._placer.for_portable(thing) if thing else None
            if thing and place:
                self._contents.put(thing, place)
        if scene.person_height > 0:
            for _ in range(int(rng.choice([0, 1, 2], p=[0.5, 0.35, 0.15]))):
                person = self._contents.new_person()
                place = self._placer.for_person(person)
                if place:
                    self._contents.put(person, place)

    def _fixture(self, kind: str) -> Fixture | None:
        return next((fixture for fixture in self._scene.fixtures if fixture.kind == kind), None)
