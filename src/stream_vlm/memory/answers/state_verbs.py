"""Verbs that begin or end a state, such as being present, open or on.

A ball that rolls in is present, a door that closes is no longer open.
"""

from __future__ import annotations

from stream_vlm.memory.search.verb_forms import distinct_stems

_BEGINS = (
    "enter, arrive, appear, open, start, begin, bring, drop, roll in, come in, walk in, run in,"
    " come on, go on, turn on, switch on, light up, put down, set down"
)
_ENDS = (
    "depart, disappear, vanish, close, shut, stop, end, remove, take, steal, throw away, carry"
    " away, pick up, roll away, roll out, walk away, walk out, run away, go out, go off, turn off,"
    " switch off"
)


def _phrases(verbs: str) -> list[str]:
    """Return the verbs, which are separated by commas, with their irregular forms.

    "come in" gives "come in" and "came in".
    """
    pairs = [verb.partition(" ") for verb in verbs.split(", ")]
    return [
        f"{form}{space}{particle}"
        for verb, space, particle in pairs
        for form in distinct_stems(verb)
    ]


BEGINS = [*_phrases(_BEGINS), "is on"]
"""Words after which the object is present, open, on or active.

The full-text index stems them: 'open' also matches 'opened'.
"""

ENDS = [*_phrases(_ENDS), "leaves", "left the", "has left", "gone"]
"""Words after which it is not any more. "To the left" does not count as leaving."""

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
"""Words of a question about a state that are not searched for.

"Is the door still open" searches for the door.
"""


def match_any(phrases: list[str]) -> str:
    """Return the FTS5 expression for any of `phrases`."""
    return " OR ".join(f'"{phrase}"' for phrase in phrases)
