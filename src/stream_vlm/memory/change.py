"""Which happenings begin a state and which end it: a ball that rolls in is there, a door that closes is no longer open."""

from __future__ import annotations

BEGINS = [
    "enters",
    "arrives",
    "appears",
    "opens",
    "lights up",
    "starts",
    "begins",
    "rolls in",
    "comes in",
    "walks in",
    "comes on",
    "goes on",
    "turns on",
    "turned on",
    "switches on",
    "is on",
    "puts down",
    "put down",
    "sets down",
]
"""Words after which what is spoken of is there, open, on or under way. Full text stems them: 'opens' stands for 'opened' too."""

ENDS = [
    "leaves",
    "departs",
    "disappears",
    "vanishes",
    "closes",
    "goes out",
    "stops",
    "ends",
    "removes",
    "takes",
    "taken",
    "takes away",
    "rolls away",
    "rolls out",
    "walks away",
    "walks out",
    "goes off",
    "turns off",
    "turned off",
    "switches off",
    "picks up",
    "carries away",
]
"""Words after which it is not any more."""

STATE_WORDS = frozenset(
    [
        "still",
        "now",
        "currently",
        "there",
        "here",
        "present",
        "around",
        "gone",
        "away",
        "open",
        "opens",
        "opened",
        "opening",
        "close",
        "closes",
        "closed",
        "closing",
        "shut",
        "on",
        "off",
        "running",
        "burning",
        "lit",
        "lying",
        "lie",
        "standing",
        "stand",
        "in",
        "out",
        "enter",
        "enters",
        "entered",
        "leave",
        "leaves",
        "roll",
        "rolls",
        "rolled",
        "turn",
        "turns",
        "turned",
        "taken",
        "stay",
        "stays",
        "stayed",
        "remain",
        "remains",
        "remained",
        "table",
        "floor",
        "room",
        "place",
    ]
)
"""Words that a question about a state has beside the thing: "is the door still open" is about the door."""


def match_any(phrases: list[str]) -> str:
    """FTS5's expression for any of `phrases`."""
    return " OR ".join(f'"{phrase}"' for phrase in phrases)
