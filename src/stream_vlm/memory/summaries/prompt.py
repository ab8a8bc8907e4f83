"""What a language model is told so that it sums up, and what of its reply is the summary.

Knows no model and no database.
"""

from __future__ import annotations

import re

from stream_vlm.memory.summaries.extractive import Material, offset

TASK = (
    "You write the memory of a robot's camera. The user gives what was reported, a line each, with"
    " minutes and seconds since the beginning. Sum it up in at most {max_chars} characters of"
    " plain text. Begin with how things stood at the end. Then what cannot be undone, results and"
    " their causes, text and numbers that were read, and what was new; where things were last seen;"
    " three to five moments with their times. Where little happened, one sentence is enough. Say"
    " nothing that the lines do not say, and say where they are unsure."
)

MAX_LINES = 400
"""Newest items that are shown."""

_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)
_SENTENCE_END = re.compile(r"[.!?][\"”’)]?(?=\s|$)")


def lines_of(material: Material) -> list[str]:
    """A line for each of the newest items, oldest first: `2:05 the door opens`."""
    return [
        f"{offset(one.start_ns, material.since_ns)} {' '.join(one.text.split())}"
        for one in material.items[-MAX_LINES:]
    ]


def spoken(reply: str) -> str:
    """`reply` without what a model thought aloud, in one line."""
    return " ".join(_THOUGHTS.sub("", reply).split())


def whole_sentences(text: str, max_chars: int) -> str:
    """`text`, or where it is longer than `max_chars` as many of its first sentences as fit; all of
    it where not even one does.
    """
    if len(text) <= max_chars:
        return text
    ends = [found.end() for found in _SENTENCE_END.finditer(text) if found.end() <= max_chars]
    return text[: ends[-1]] if ends else text
