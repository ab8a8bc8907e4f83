"""Decides what happens next in a simulated stream: only what the scene allows, never two events at
once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from stream_vlm_lab.simulation.scene.captions import COLOURS, PORTABLE_KINDS, caption
from stream_vlm_lab.simulation.scene.palette import pixel_colour, standing_out
from stream_vlm_lab.simulation.scene.random_scene import make_scene
from stream_vlm_lab.simulation.scene.scene import Fixture
from stream_vlm_lab.simulation.script.placement import Placer
from stream_vlm_lab.simulation.script.quiet import BURST_S, quiet_spans
from stream_vlm_lab.simulation.script.script import Event, Placement, SceneState, Script, Thing
from stream_vlm_lab.simulation.script.slow_motion import SlowMotion

MOST_PORTABLE = 5


class Director:
    """Writes one script.

    Every proposal below returns an event whose times count from 0, or None where the scene has no
    room for it.
    """

    def __init__(
        self,
        seed: int,
        duration_s: float,
        events_per_minute: float,
        quiet_minutes: float = 0.0,
        longest_event_s: float = 0.0,
    ) -> None:
        self._rng = np.random.default_rng([seed, 0x5EE])
        self._seed = seed
        self._duration_s = duration_s
        self._rate = events_per_minute
        self._scene = make_scene(self._rng)
        self._placer = Placer(self._scene, self._rng)
        self._things: dict[int, Thing] = {}
        self._state = SceneState()
        self._told: dict[tuple[str, str], int] = {}
        self._quiet = quiet_spans(seed, duration_s, quiet_minutes)
        # What lasts longer than the shortest burst might find no place between two quiet stretches.
        self._slow = SlowMotion(
            seed, min(longest_event_s, BURST_S[0]) if self._quiet else longest_event_s
        )

    def direct(self) -> Script:
        """Set the stage, then let events follow each other with silent gaps until the time is over."""
        self._set_stage()
        states, events = [self._state], []
        now = self._gap() * float(self._rng.uniform(0.4, 1.2)) + 0.5
        while self._rate > 0:
            proposed = self._next_event()
            if proposed is None:
                break
            proposed = self._slow.done(proposed)
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
            self._state = self._state.after(event)
            states.append(self._state)
            now = event.t_end + self._gap()
        used = {
            instance for state in states for instance in (*state.resting, *state.holding.values())
        }
        used |= {instance for event in events for instance in (event.instance, event.actor)}
        things = {instance: thing for instance, thing in self._things.items() if instance in used}
        return Script(
            self._seed, self._duration_s, self._scene, things, tuple(events), tuple(states)
        )

    def _after_quiet(self, now: float, length_s: float) -> float:
        """When something that lasts `length_s` seconds and would begin at `now` begins without
        touching a quiet stretch.
        """
        for start, end in self._quiet:
            if start < now + length_s and now < end:
                now = end
        return now

    def _gap(self) -> float:
        """Silence before the next event, seconds: at least 1, mostly under 10, now and then half a
        minute.
        """
        if self._rng.random() < 0.03:
            return float(self._rng.uniform(20, 30))
        mean = max(1.2, 60 / max(self._rate, 0.1) - 2.5)
        return float(min(1.05 + self._rng.exponential(mean - 1.0), max(10.0, 2 * mean)))

    def _set_stage(self) -> None:
        scene, rng = self._scene, self._rng
        door = self._fixture("door")
        lamp = self._fixture("lamp")
        self._state = SceneState(
            door_open=bool(rng.random() < 0.4) if door else None,
            lamp_on=bool(rng.random() < 0.5) if lamp else None,
        )
        for _ in range(int(rng.integers(1, 4))):
            thing = self._new_portable(str(rng.choice(PORTABLE_KINDS)))
            place = self._placer.for_portable(thing, self._state, self._things) if thing else None
            if thing and place:
                self._settle(thing, place)
        if scene.person_height > 0:
            for _ in range(int(rng.choice([0, 1, 2], p=[0.5, 0.35, 0.15]))):
                person = self._new_person()
                place = self._placer.for_person(person, self._state, self._things)
                if place:
                    self._settle(person, place)

    def _settle(self, thing: Thing, place: Placement) -> None:
        self._state = replace(self._state, resting={**self._state.resting, thing.instance: place})

    def _fixture(self, kind: str) -> Fixture | None:
        return next((fixture for fixture in self._scene.fixtures if fixture.kind == kind), None)

    def _present(self, *kinds: str) -> list[Thing]:
        return [
            self._things[instance]
            for instance in self._state.resting
            if self._things[instance].kind in kinds
        ]

    def _next_event(self) -> Event | None:
        people, portable = self._present("person"), self._present(*PORTABLE_KINDS)
        crowd, goods = len(people), len(portable) + len(self._state.holding)
        with_people = self._scene.person_height > 0
        wishes: list[tuple[float, Callable[[], Event | None]]] = [
            (1.0 if self._state.door_open is not None else 0, self._door),
            (0.8 if self._state.lamp_on is not None else 0, self._lamp),
            ({0: 2.6, 1: 1.5, 2: 0.7}.get(crowd, 0) if with_people else 0, self._enters),
            (0.7 * crowd, self._leaves),
            (2.2 if people and portable else 0, self._picks_up),
            (3.4 if self._state.holding else 0, self._puts_down),
            (0.55 if goods < MOST_PORTABLE else 0, self._rolls_in),
            (1.1 if self._present("ball") else 0, self._rolls_away),
            (0 if with_people else 0.7 * len(portable), self._takes),
            (
                0 if with_people or goods >= MOST_PORTABLE else 3.2 - 0.6 * goods,
                self._hand_puts_down,
            ),
        ]
        weights = np.array([max(0.0, weight) for weight, _ in wishes])
        while weights.sum() > 0:
            chosen = int(self._rng.choice(len(wishes), p=weights / weights.sum()))
            event = wishes[chosen][1]()
            if event is not None:
                return event
            weights[chosen] = 0
        return None

    # -- fixtures
    # -----------------------------------------------------------------------------------------------------------------

    def _door(self) -> Event:
        action = "closes" if self._state.door_open else "opens"
        return self._event(
            action, "door", "", duration=float(self._rng.uniform(0.7, 2.0)), instance=1
        )

    def _lamp(self) -> Event:
        action = "turns off" if self._state.lamp_on else "turns on"
        return self._event(action, "lamp", "", duration=0.0, instance=2)

    # -- people
    # -------------------------------------------------------------------------------------------------------------------

    def _enters(self) -> Event | None:
        person = self._new_person()
        place = self._placer.for_person(person, self._state, self._things)
        if place is None:
            return None
        edge = self._edge()
        duration = self._walk_s(self._placer.way_to_edge(place, edge))
        return self._event(
            "enters",
            "person",
            person.colour,
            duration,
            edge=edge,
            instance=person.instance,
            place=place,
        )

    def _leaves(self) -> Event:
        person = self._pick(self._present("person"))
        place = self._state.resting[person.instance]
        edge = self._edge()
        duration = self._walk_s(self._placer.way_to_edge(place, edge)) + 0.2
        return self._event(
            "leaves",
            "person",
            person.colour,
            duration,
            edge=edge,
            instance=person.instance,
            place=place,
        )

    def _picks_up(self) -> Event | None:
        free = [
            person
            for person in self._present("person")
            if person.instance not in self._state.holding
        ]
        if not free:
            return None
        person, thing = self._pick(free), self._pick(self._present(*PORTABLE_KINDS))
        place = self._state.resting[thing.instance]
        return self._handling("picks up", person, thing, place)

    def _puts_down(self) -> Event | None:
        person = self._things[int(self._rng.choice(list(self._state.holding)))]
        thing = self._things[self._state.holding[person.instance]]
        for _ in range(6):
            place = self._placer.for_portable(thing, self._state, self._things)
            event = self._handling("puts down", person, thing, place) if place else None
            if event:
                return event
        return None

    def _handling(self, action: str, person: Thing, thing: Thing, place: Placement) -> Event | None:
        stand = self._placer.beside(place, person, thing, self._state, self._things)
        if stand is None:
            return None
        before = self._state.resting[person.instance]
        way = float(
            np.hypot(stand.across() - before.across(), stand.v - before.v)
        ) / self._scene.height_at(stand.depth)
        approached = way / float(self._rng.uniform(0.5, 0.75)) if way > 0.04 else 0.0
        contact = approached + float(self._rng.uniform(0.7, 1.2))
        duration = contact + float(self._rng.uniform(0.8, 1.3))
        if duration > 5.5:
            return None
        return self._event(
            action, thing.kind, thing.colour, duration, who="person", instance=thing.instance, actor=person.instance,
            place=place, stand=stand, approached=approached, contact=contact,
        )  # fmt: skip

    def _edge(self) -> str:
        if self._scene.view == "overhead" and self._rng.random() < 0.5:
            # Where no wall closes the view, people also come and go at the far side.
            return "top" if self._scene.skyline < 0 and self._rng.random() < 0.4 else "bottom"
        return str(self._rng.choice(["left", "right"]))

    def _walk_s(self, way: float) -> float:
        """Seconds for `way` picture heights; people seen small walk slower across the picture."""
        speed = self._scene.person_height * float(self._rng.uniform(0.42, 0.8))
        return float(np.clip(way / speed, 1.5, 5.2))

    # -- balls and hands
    # ----------------------------------------------------------------------------------------------------------

    def _rolls_in(self) -> Event | None:
        ball = self._new_portable("ball")
        place = (
            self._placer.for_portable(ball, self._state, self._things, on_floor=True)
            if ball
            else None
        )
        if ball is None or place is None:
            return None
        edge = str(self._rng.choice(["left", "right"]))
        duration = float(
            np.clip(self._placer.way_to_edge(place, edge) / self._rng.uniform(0.3, 0.7), 1.2, 4.5)
        )
        return self._event(
            "rolls in",
            "ball",
            ball.colour,
            duration,
            edge=edge,
            instance=ball.instance,
            place=place,
        )

    def _rolls_away(self) -> Event | None:
        balls = [
            ball
            for ball in self._present("ball")
            if self._placer.is_on_floor(self._state.resting[ball.instance])
        ]
        if not balls:
            return None
        ball = self._pick(balls)
        place = self._state.resting[ball.instance]
        edge = str(self._rng.choice(["left", "right"]))
        duration = float(
            np.clip(self._placer.way_to_edge(place, edge) / self._rng.uniform(0.3, 0.7), 1.2, 4.5)
        )
        return self._event(
            "rolls away",
            "ball",
            ball.colour,
            duration,
            edge=edge,
            instance=ball.instance,
            place=place,
        )

    def _takes(self) -> Event:
        thing = self._pick(self._present(*PORTABLE_KINDS))
        return self._by_hand("takes", thing, self._state.resting[thing.instance])

    def _hand_puts_down(self) -> Event | None:
        thing = self._new_portable(str(self._rng.choice(PORTABLE_KINDS)))
        place = self._placer.for_portable(thing, self._state, self._things) if thing else None
        return self._by_hand("puts down", thing, place) if thing and place else None

    def _by_hand(self, action: str, thing: Thing, place: Placement) -> Event:
        colour = str(self._rng.choice(COLOURS))
        # A hand is about as long as a bottle or a book is high.
        length = float(np.clip(self._scene.thing_size * self._rng.uniform(0.85, 1.35), 0.18, 0.42))
        hand = self._add("hand", colour, length)
        edge = str(self._rng.choice(["left", "right", "bottom", "top"], p=[0.31, 0.31, 0.32, 0.06]))
        contact = float(self._rng.uniform(0.8, 1.7))
        duration = contact + float(self._rng.uniform(0.9, 1.8))
        return self._event(
            action, thing.kind, thing.colour, duration, who="hand", edge=edge,
            instance=thing.instance, actor=hand.instance, place=place, contact=contact,
        )  # fmt: skip

    # -- making things
    # ------------------------------------------------------------------------------------------------------------

    def _event(
        self,
        action: str,
        kind: str,
        colour: str,
        duration: float,
        *,
        instance: int,
        who: str = "",
        actor: int = 0,
        edge: str = "",
        place: Placement | None = None,
        stand: Placement | None = None,
        approached: float = 0.0,
        contact: float = 0.0,
    ) -> Event:
        label = caption(action, kind, colour, actor=who, edge=edge)
        look = int(self._rng.integers(1 << 31))
        return Event(
            action,
            kind,
            colour,
            label,
            0.0,
            duration,
            approached,
            contact,
            instance,
            actor,
            edge,
            place,
            stand,
            look,
        )

    def _pick(self, things: list[Thing]) -> Thing:
        return things[int(self._rng.integers(len(things)))]

    def _new_portable(self, kind: str) -> Thing | None:
        """A thing that cannot be confused with another of its kind that is present, or None when no
        colour is left.
        """
        present = [*self._state.resting, *self._state.holding.values()]
        taken = {
            self._things[instance].colour
            for instance in present
            if self._things[instance].kind == kind
        }
        backgrounds = [surface.rgb for surface in self._scene.surfaces]
        backgrounds += [self._scene.wall_rgb] if self._scene.skyline > 0.3 else []
        colours = [colour for colour in standing_out(backgrounds, 170) if colour not in taken]
        if not colours:
            return None
        size = self._scene.thing_size * float(self._rng.uniform(0.88, 1.15))
        size *= {"ball": 0.9, "box": 0.85, "cup": 0.9, "bottle": 1.5, "book": 1.05}[kind]
        return self._add(kind, str(self._rng.choice(colours)), size)

    def _new_person(self) -> Thing:
        taken = {
            self._things[instance].colour
            for instance in self._state.resting
            if self._things[instance].kind == "person"
        }
        backgrounds = [self._scene.wall_rgb if self._scene.skyline > 0.3 else self._scene.floor_rgb]
        colours = [colour for colour in standing_out(backgrounds, 165) if colour not in taken]
        colour = str(self._rng.choice(colours or [name for name in COLOURS if name not in taken]))
        return self._add("person", colour, self._scene.person_height)

    def _add(self, kind: str, colour: str, size: float) -> Thing:
        instance = 3 + len(self._things)
        thing = Thing(
            instance,
            kind,
            colour,
            pixel_colour(colour, self._rng),
            size,
            int(self._rng.integers(1 << 31)),
        )
        self._things[instance] = thing
        return thing
