"""Kinds of events that a user can ask about, and the steps of an event."""

from __future__ import annotations

from dataclasses import dataclass

from stream_vlm_lab.simulation.scene.captions import COLOURS, PORTABLE_KINDS
from stream_vlm_lab.simulation.script.script import Event

Step = tuple[str, float, float]
"""Description, start and end in seconds."""


@dataclass(frozen=True)
class EventPattern:
    """All events with this action on this kind of thing.

    Attributes:
        action: one of `ACTIONS`.
        kind: kind of thing.
        colour: colour of the thing; empty for any colour.
        actor: "hand" or "person", for actions with an actor; else empty.
    """

    action: str
    kind: str
    colour: str = ""
    actor: str = ""

    def matches(self, event: Event) -> bool:
        """Whether `event` matches this pattern."""
        mine = (self.action, self.kind, self.actor) == (event.action, event.kind, actor_of(event))
        return mine and self.colour in ("", event.colour)

    @property
    def words(self) -> str:
        """A clause: "the door opens", "a person in red enters", "a hand takes a cup"."""
        if self.kind in ("door", "lamp"):
            return f"the {self.kind} {self.action}"
        if self.kind == "person":
            return f"a person{f' in {self.colour}' if self.colour else ''} {self.action}"
        thing = f"the {self.colour} {self.kind}" if self.colour else _with_article(self.kind)
        if self.actor:
            return f"a {self.actor} {self.action} {thing}"
        return f"{_with_article(f'{self.colour} {self.kind}'.strip())} {self.action}"


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def actor_of(event: Event) -> str:
    """The actor who takes, puts down or picks up something: "hand" or "person"; else empty."""
    return event.label.split()[0] if event.action in ("takes", "puts down", "picks up") else ""


def pattern_of(event: Event, *, any_colour: bool) -> EventPattern:
    """The pattern of `event`, with its colour or with any colour."""
    return EventPattern(
        event.action, event.kind, "" if any_colour else event.colour, actor_of(event)
    )


def all_patterns() -> list[EventPattern]:
    """Every pattern that exists, for any colour and for each colour."""
    kinds = [
        EventPattern("opens", "door"),
        EventPattern("closes", "door"),
        EventPattern("turns on", "lamp"),
        EventPattern("turns off", "lamp"),
    ]
    for colour in ("", *COLOURS):
        kinds += [EventPattern(action, "person", colour) for action in ("enters", "leaves")]
        kinds += [EventPattern(action, "ball", colour) for action in ("rolls in", "rolls away")]
        for kind in PORTABLE_KINDS:
            kinds += [
                EventPattern("takes", kind, colour, "hand"),
                EventPattern("puts down", kind, colour, "hand"),
            ]
            kinds += [
                EventPattern("picks up", kind, colour, "person"),
                EventPattern("puts down", kind, colour, "person"),
            ]
    return kinds


def steps(event: Event) -> list[Step]:
    """The steps of `event`, one after the other; an event without parts is one step."""
    thing = f"the {event.colour} {event.kind}"
    by_hand = event.stand is None
    if event.action == "takes":
        return [
            (f"hand reaches for {thing}", event.t_start, event.t_contact),
            (f"hand takes {thing} away", event.t_contact, event.t_end),
        ]
    if event.action == "puts down" and by_hand:
        return [
            (f"hand brings {thing}", event.t_start, event.t_contact),
            (f"hand lets go of {thing}", event.t_contact, event.t_end),
        ]
    if event.action not in ("picks up", "puts down"):
        return [(event.label, event.t_start, event.t_end)]
    picks = event.action == "picks up"
    walks = f"person walks to {thing}" if picks else f"person carries {thing}"
    bends = f"person bends down to {thing}" if picks else f"person bends down with {thing}"
    rises = f"person lifts {thing}" if picks else f"person lets go of {thing}"
    walked = (
        [(walks, event.t_start, event.t_approached)] if event.t_approached > event.t_start else []
    )
    return [
        *walked,
        (bends, event.t_approached, event.t_contact),
        (rises, event.t_contact, event.t_end),
    ]
