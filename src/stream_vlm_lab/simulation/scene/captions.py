"""The closed language of the simulated world: captions, questions and answers, and how a caption is
read back.
"""

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
    """What a caption says happened.

    Attributes:
        action: one of `ACTIONS`.
        kind: what it happened to: the cup that a hand takes, the person who enters, the door that
            opens.
        colour: one of `COLOURS`, or empty for doors and lamps.
    """

    action: str
    kind: str
    colour: str = ""

    def agrees_with(self, other: Label) -> bool:
        """True when both name the same action on the same kind of thing; colour is not part of the
        bargain.
        """
        return self.action == other.action and self.kind == other.kind


def caption(action: str, kind: str, colour: str, *, actor: str = "", edge: str = "") -> str:
    """The sentence for an event; `actor` ("hand" or "person") and `edge` (one of `EDGES`) only
    where the action has one.
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
    """Read a caption back; None when `text` is not a whole caption of this language.

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
    """Answered by yes or no."""
    return "is the door open ?"


def ask_lamp() -> str:
    """Answered by yes or no."""
    return "is the lamp on ?"


def ask_people() -> str:
    """Answered by one of `NUMBER_WORDS`."""
    return "how many people are there ?"


def ask_colour(kind: str) -> str:
    """Answered by one of `COLOURS`."""
    return f"what colour is the {kind} ?"


def ask_presence(kind: str) -> str:
    """Answered by yes or no."""
    return f"is there a {kind} ?"


def ask_side(kind: str) -> str:
    """Answered by one of `SIDES`: thirds of the picture."""
    return f"where is the {kind} ?"


def ask_last() -> str:
    """Answered by the last event's caption, or `NOTHING`."""
    return "what happened last ?"


def vocabulary() -> tuple[str, ...]:
    """Every word that captions, questions and answers of this world are made of, sorted."""
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
