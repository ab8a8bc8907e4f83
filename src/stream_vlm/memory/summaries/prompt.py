"""The prompt that asks a language model for a summary, and the summary in its reply.

This module knows no model and no database.
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
"""Only so many of the newest items go into the prompt."""

_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)
_SENTENCE_END = re.compile(r"[.!?][\"”’)]?(?=\s|$)")


def lines_of(material: Material) -> list[str]:
    """Return a line for each of the newest items, oldest first: `2:05 the door opens`."""
    return [
        f"{offset(one.start_ns, material.since_ns)} {' '.join(one.text.split())}"
        for one in material.items[-MAX_LINES:]
    ]


def without_reasoning(reply: str) -> str:
    """Return `reply` in one line, without the model's <think> part."""
    return " ".join(_THOUGHTS.sub("", reply).split())


def whole_sentences(text: str, max_chars: int) -> str:
    """Return as many of the first sentences of `text` as fit into `max_chars` characters.

    If not even the first one fits, return the whole text.
    """
    if len(text) <= max_chars:
        return text
    ends = [found.end() for found in _SENTENCE_END.finditer(text) if found.end() <= max_chars]
    return text[: ends[-1]] if ends else text
