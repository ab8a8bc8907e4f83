"""The closed language of the simulated world: captions, questions, answers, and a parser."""

from __future__ import annotations

import re
from dataclasses import dataclass

COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "white", "black", "grey", "brown")
PORTABLE_KINDS = ("ball", "box", "cup", "bottle", "book")
KINDS = ("person", "hand", *PORTABLE_KINDS, "door", "lamp")
EDGES = ("left", "right", "top", "bottom")
ACTIONS = (
    "enters",
    "leaves",
    "takes",
    "puts down",
    "picks up",
    "rolls in",
    "rolls away",
    "opens",
    "closes",
    "turns on",
    "turns off",
)
NUMBER_WORDS = ("none", "one", "two", "three", "four")
SIDES = ("left", "middle", "right")
NOTHING = "nothing"

_COLOUR = "(?P<colour>" + "|".join(COLOURS) + ")"
_PORTABLE = "(?P<kind>" + "|".join(PORTABLE_KINDS) + ")"
_EDGE = "(?:" + "|".join(EDGES) + ")"
_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?P<kind>person) in {_COLOUR} (?P<action>enters) from the {_EDGE}",
        rf"(?P<kind>person) in {_COLOUR} (?P<action>leaves) to the {_EDGE}",
        rf"hand (?P<action>takes|puts down) the {_COLOUR} {_PORTABLE}",
        rf"person (?P<action>picks up|puts down) the {_COLOUR} {_PORTABLE}",
        rf"{_COLOUR} (?P<kind>ball) (?P<action>rolls in) from the {_EDGE}",
        rf"{_COLOUR} (?P<kind>ball) (?P<action>rolls away) to the {_EDGE}",
        r"(?P<kind>door) (?P<action>opens|closes)",
        r"(?P<kind>lamp) (?P<action>turns on|turns off)",
    )
)


@dataclass(frozen=True)
class Label:
    """The meaning of a caption.

    Attributes:
        action: one of `ACTIONS`.
        kind: the thing it happens to: the cup that a hand takes, the person who enters, the door
            that opens.
        colour: one of `COLOURS`; empty for doors and lamps.
    """

    action: str
    kind: str
    colour: str = ""

    def agrees_with(self, other: Label) -> bool:
        """Whether action and kind of thing are the same; colours are not compared."""
        return self.action == other.action and self.kind == other.kind


def caption(action: str, kind: str, colour: str, *, actor: str = "", edge: str = "") -> str:
    """The caption of an event.

    Args:
        action: one of `ACTIONS`.
        kind: the thing it happens to.
        colour: colour of the thing; empty for doors and lamps.
        actor: "hand" or "person", for actions with an actor.
        edge: one of `EDGES`, for actions with an edge.
    """
    if action == "enters":
        return f"person in {colour} enters from the {edge}"
    if action == "leaves":
        return f"person in {colour} leaves to the {edge}"
    if action == "rolls in":
        return f"{colour} ball rolls in from the {edge}"
    if action == "rolls away":
        return f"{colour} ball rolls away to the {edge}"
    if action in ("takes", "puts down", "picks up"):
        return f"{actor} {action} the {colour} {kind}"
    return f"{kind} {action}"


def parse_label(text: str) -> Label | None:
    """Parse a caption; returns None if `text` is not a complete caption.

    Case and spacing do not matter.
    """
    words = " ".join(text.lower().split())
    for pattern in _PATTERNS:
        match = pattern.fullmatch(words)
        if match:
            found = match.groupdict()
            return Label(found["action"], found["kind"], found.get("colour") or "")
    return None


def ask_door() -> str:
    """A question; its answer is yes or no."""
    return "is the door open ?"


def ask_lamp() -> str:
    """A question; its answer is yes or no."""
    return "is the lamp on ?"


def ask_people() -> str:
    """A question; its answer is one of `NUMBER_WORDS`."""
    return "how many people are there ?"


def ask_colour(kind: str) -> str:
    """A question; its answer is one of `COLOURS`."""
    return f"what colour is the {kind} ?"


def ask_presence(kind: str) -> str:
    """A question; its answer is yes or no."""
    return f"is there a {kind} ?"


def ask_side(kind: str) -> str:
    """A question; its answer is one of `SIDES`, the thirds of the picture."""
    return f"where is the {kind} ?"


def ask_last() -> str:
    """A question; its answer is the caption of the last event, or `NOTHING`."""
    return "what happened last ?"


def vocabulary() -> tuple[str, ...]:
    """Every word in captions, questions and answers of this world, sorted."""
    edge_captions = [
        caption(action, "ball", "red", edge=edge)
        for action in ("enters", "leaves", "rolls in", "rolls away")
        for edge in EDGES
    ]
    object_captions = [
        caption(action, kind, colour, actor=actor)
        for actor, action in (
            ("hand", "takes"),
            ("hand", "puts down"),
            ("person", "picks up"),
            ("person", "puts down"),
        )
        for kind in PORTABLE_KINDS
        for colour in COLOURS
    ]
    fixture_captions = [
        caption(action, kind, "") for kind, actions in FIXTURE_ACTIONS.items() for action in actions
    ]
    asked = [ask_door(), ask_lamp(), ask_people(), ask_last()]
    asked += [ask(kind) for ask in (ask_colour, ask_presence, ask_side) for kind in KINDS]
    answers = ["yes", "no", NOTHING, *NUMBER_WORDS, *SIDES, *COLOURS]
    sentences = edge_captions + object_captions + fixture_captions + asked + answers
    return tuple(sorted({word for sentence in sentences for word in sentence.split()}))


FIXTURE_ACTIONS = {"door": ("opens", "closes"), "lamp": ("turns on", "turns off")}
