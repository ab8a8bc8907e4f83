"""Proposes events for a simulated stream: what can happen next, where, and how fast."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stream_vlm_lab.simulation.scene.captions import COLOURS, PORTABLE_KINDS, caption
from stream_vlm_lab.simulation.script.placement import Placer
from stream_vlm_lab.simulation.script.scene_contents import SceneContents
from stream_vlm_lab.simulation.script.script import Event, Placement, Thing

MOST_PORTABLE = 5
"""A new thing is only brought in if the scene has fewer than this, held ones included."""


class EventProposals:
    """Proposes events that the current scene allows.

    The methods below return an event whose times count from 0, or None if the scene has no room for
    it.
    """

    def __init__(self, contents: SceneContents, placer: Placer, rng: np.random.Generator) -> None:
        self._contents, self._placer, self._rng = contents, placer, rng
        self._scene = contents.scene

    def next_event(self) -> Event | None:
        """A random event that the scene allows, or None."""
        people, portable = self._contents.present("person"), self._contents.present(*PORTABLE_KINDS)
        people_count, portable_count = (
            len(people),
            len(portable) + len(self._contents.state.holding),
        )
        with_people = self._scene.person_height > 0
        candidates: list[tuple[float, Callable[[], Event | None]]] = [
            (1.0 if self._contents.state.door_open is not None else 0, self._door),
            (0.8 if self._contents.state.lamp_on is not None else 0, self._lamp),
            ({0: 2.6, 1: 1.5, 2: 0.7}.get(people_count, 0) if with_people else 0, self._enters),
            (0.7 * people_count, self._leaves),
            (2.2 if people and portable else 0, self._picks_up),
            (3.4 if self._contents.state.holding else 0, self._puts_down),
            (0.55 if portable_count < MOST_PORTABLE else 0, self._rolls_in),
            (1.1 if self._contents.present("ball") else 0, self._rolls_away),
            (0 if with_people else 0.7 * len(portable), self._takes),
            (
                0 if with_people or portable_count >= MOST_PORTABLE else 3.2 - 0.6 * portable_count,
                self._hand_puts_down,
            ),
        ]
        weights = np.array([max(0.0, weight) for weight, _ in candidates])
        while weights.sum() > 0:
            chosen = int(self._rng.choice(len(candidates), p=weights / weights.sum()))
            event = candidates[chosen][1]()
            if event is not None:
                return event
            weights[chosen] = 0
        return None

    def _door(self) -> Event:
        action = "closes" if self._contents.state.door_open else "opens"
        return self._event(
            action, "door", "", duration=float(self._rng.uniform(0.7, 2.0)), instance=1
        )

    def _lamp(self) -> Event:
        action = "turns off" if self._contents.state.lamp_on else "turns on"
        return self._event(action, "lamp", "", duration=0.0, instance=2)

    def _enters(self) -> Event | None:
        person = self._contents.new_person()
        place = self._placer.for_person(person)
        if place is None:
            return None
        edge = self._edge()
        duration = self._walk_s(self._placer.distance_to_edge(place, edge))
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
        person = self._contents.pick(self._contents.present("person"))
        place = self._contents.state.resting[person.instance]
        edge = self._edge()
        duration = self._walk_s(self._placer.distance_to_edge(place, edge)) + 0.2
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
            for person in self._contents.present("person")
            if person.instance not in self._contents.state.holding
        ]
        if not free:
            return None
        person, thing = (
            self._contents.pick(free),
            self._contents.pick(self._contents.present(*PORTABLE_KINDS)),
        )
        place = self._contents.state.resting[thing.instance]
        return self._handling("picks up", person, thing, place)

    def _puts_down(self) -> Event | None:
        person = self._contents.things[int(self._rng.choice(list(self._contents.state.holding)))]
        thing = self._contents.things[self._contents.state.holding[person.instance]]
        for _ in range(6):
            place = self._placer.for_portable(thing)
            event = self._handling("puts down", person, thing, place) if place else None
            if event:
                return event
        return None

    def _handling(self, action: str, person: Thing, thing: Thing, place: Placement) -> Event | None:
        stand = self._placer.for_handling(place, person, thing)
        if stand is None:
            return None
        before = self._contents.state.resting[person.instance]
        distance = float(
            np.hypot(stand.across() - before.across(), stand.v - before.v)
        ) / self._scene.height_at(stand.depth)
        approached = distance / float(self._rng.uniform(0.5, 0.75)) if distance > 0.04 else 0.0
        contact = approached + float(self._rng.uniform(0.7, 1.2))
        duration = contact + float(self._rng.uniform(0.8, 1.3))
        if duration > 5.5:
            return None
        return self._event(
            action,
            thing.kind,
            thing.colour,
            duration,
            who="person",
            instance=thing.instance,
            actor=person.instance,
            place=place,
            stand=stand,
            approached=approached,
            contact=contact,
        )

    def _edge(self) -> str:
        if self._scene.view == "overhead" and self._rng.random() < 0.5:
            # Without a wall, people also enter and leave at the far side.
            return "top" if self._scene.skyline < 0 and self._rng.random() < 0.4 else "bottom"
        return str(self._rng.choice(["left", "right"]))

    def _walk_s(self, distance: float) -> float:
        """Seconds to walk `distance` picture heights; small people also appear slower."""
        speed = self._scene.person_height * float(self._rng.uniform(0.42, 0.8))
        return float(np.clip(distance / speed, 1.5, 5.2))

    def _rolls_in(self) -> Event | None:
        ball = self._contents.new_portable("ball")
        place = self._placer.for_portable(ball, on_floor=True) if ball else None
        if ball is None or place is None:
            return None
        edge = str(self._rng.choice(["left", "right"]))
        duration = float(
            np.clip(
                self._placer.distance_to_edge(place, edge) / self._rng.uniform(0.3, 0.7), 1.2, 4.5
            )
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
            for ball in self._contents.present("ball")
            if self._placer.is_on_floor(self._contents.state.resting[ball.instance])
        ]
        if not balls:
            return None
        ball = self._contents.pick(balls)
        place = self._contents.state.resting[ball.instance]
        edge = str(self._rng.choice(["left", "right"]))
        duration = float(
            np.clip(
                self._placer.distance_to_edge(place, edge) / self._rng.uniform(0.3, 0.7), 1.2, 4.5
            )
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
        thing = self._contents.pick(self._contents.present(*PORTABLE_KINDS))
        return self._by_hand("takes", thing, self._contents.state.resting[thing.instance])

    def _hand_puts_down(self) -> Event | None:
        thing = self._contents.new_portable(str(self._rng.choice(PORTABLE_KINDS)))
        place = self._placer.for_portable(thing) if thing else None
        return self._by_hand("puts down", thing, place) if thing and place else None

    def _by_hand(self, action: str, thing: Thing, place: Placement) -> Event:
        colour = str(self._rng.choice(COLOURS))
        # The length of a hand is about the height of a bottle or a book.
        length = float(np.clip(self._scene.thing_size * self._rng.uniform(0.85, 1.35), 0.18, 0.42))
        hand = self._contents.add("hand", colour, length)
        edge = str(self._rng.choice(["left", "right", "bottom", "top"], p=[0.31, 0.31, 0.32, 0.06]))
        contact = float(self._rng.uniform(0.8, 1.7))
        duration = contact + float(self._rng.uniform(0.9, 1.8))
        return self._event(
            action,
            thing.kind,
            thing.colour,
            duration,
            who="hand",
            edge=edge,
            instance=thing.instance,
            actor=hand.instance,
            place=place,
            contact=contact,
        )

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
        style_seed = int(self._rng.integers(1 << 31))
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
            style_seed,
        )
