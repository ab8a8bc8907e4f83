"""The kind of answer that a question asks for, read from its words unless it is given."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from stream_vlm.memory.answers.state_question import (
    PLACES,
    StateQuestion,
    plain_question,
    read_state_question,
)
from stream_vlm.memory.search.query import DEFAULT_KINDS, RecallError, RecallQuery
from stream_vlm.memory.search.query_words import search_words
from stream_vlm.memory.search.verb_forms import ANYONE
from stream_vlm.memory.storage.step_rows import EVENT

AUTO = "auto"

FIRST, LAST, HOW_OFTEN, HOW_LONG, WHERE, BETWEEN, BEFORE, AFTER, STILL_THERE = MODES = (
    "first",
    "last",
    "how_often",
    "how_long",
    "where",
    "between",
    "before",
    "after",
    "still_there",
)
"""Kinds of answers, see `computed_answer.answer`."""

_MODE_PATTERNS = (
    (HOW_OFTEN, r"\bhow (often|many)\b"),
    (HOW_LONG, r"\bhow long\b"),
    (WHERE, r"^\W*where\b"),
    (BEFORE, r"\bbefore\b"),
    (AFTER, r"\bafter\b"),
    (STILL_THERE, r"\bstill\b"),
    (FIRST, r"\bfirst\b"),
    (LAST, r"\b(last|ever)\b|^\W*(when|did|have|has)\b"),
    (BETWEEN, r"\bbetween\b|^\W*what\b"),
    (STILL_THERE, r"^\W*(is|are|was|were)\b"),
)
"""Patterns of a question for each kind; the first that matches decides."""

_ASKING_WORDS = frozenset(
    [
        "long",
        "often",
        "many",
        "still",
        "before",
        "after",
        "between",
        "next",
        "total",
        "altogether",
        "get",
        "got",
        "go",
        "went",
        "come",
        "came",
        "no",
        "longer",
        "never",
        "yet",
        "already",
    ]
)
"""Words that belong to the form of a question; they are dropped like the stop words of a search."""


_COME_OR_GO = frozenset(["come", "came", "go", "went"])

_NEIGHBOUR = re.compile(
    r"\b(?:right|just|directly|immediately|shortly)\s+(?:before|after)\b", re.IGNORECASE
)
"""Asks for the event next to another.

Without "before" or "after" these words may be part of what is asked about ("to the right").
"""

_NOBODY = re.compile(r"\b(nobody|no one|no-one)\b", re.IGNORECASE)
_DENIES = re.compile(r"\b(nobody|no one|no-one|never|not|nothing)\b", re.IGNORECASE)

_HAS_LEFT = re.compile(
    r"(\b(?:has|have|had|who)\b.*(?<!\bthe )(?<!\bto )(?<!\bon )(?<!\bits )(?<!\bhis )(?<!\bher"
    r" ))\bleft\b",
    re.IGNORECASE,
)
"""Asks who left; elsewhere "left" is a side."""


@dataclass(frozen=True)
class Question:
    """A question whose answer is computed from the records.

    Attributes:
        query: words and filters. Its order is ignored, and its limit too except for "between". Only
            events are used unless other kinds are named.
        mode: one of `MODES`, or "auto" to read it from the words ("how often ...", "when ... last
            ...", "is ... still ...").
        words: the words that every record of the evidence must have, derived from the query.
        state: of the modes "how_long" and "still_there", and of "has the door been closed?", the
            state that is asked for; else None.
        denies: whether it asks if something did not happen ("did nobody enter?").
        about_anyone: whether it is about any person.

    Raises:
        RecallError: the mode is unknown or cannot be read from the words, or the question is about
            a state but names no object.
    """

    query: RecallQuery
    mode: str = AUTO
    words: tuple[str, ...] = field(init=False, default=())
    state: StateQuestion | None = field(init=False, default=None)
    denies: bool = field(init=False, default=False)
    about_anyone: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        plain = plain_question(self.query.text)
        if self.mode == AUTO:
            object.__setattr__(self, "mode", _mode_from_text(plain))
        if self.mode not in MODES:
            raise RecallError(
                f"mode: {self.mode!r} is unknown; choose among {AUTO}, {', '.join(MODES)}"
            )
        if self.query.kinds == DEFAULT_KINDS:
            # An event and the utterance that reports it count once.
            object.__setattr__(self, "query", replace(self.query, kinds=(EVENT,)))
        about_a_state = self.mode in (HOW_LONG, STILL_THERE)
        asking = _ASKING_WORDS
        if about_a_state:
            object.__setattr__(self, "state", read_state_question(self.query.text))
            asking |= read_state_question(self.query.text).dropped
        object.__setattr__(self, "denies", _DENIES.search(plain) is not None)
        plain = _NOBODY.sub("anyone", plain)
        text = _HAS_LEFT.sub(r"\1leave", _NEIGHBOUR.sub(" ", plain))
        words = tuple(word for word in search_words(text) if word not in asking)
        if about_a_state:
            words = tuple(word for word in words if word not in PLACES) or words
        # "Someone takes the cup" must match "a hand takes the cup" and "the cup is taken".
        who = tuple(word for word in words if word in ANYONE)
        object.__setattr__(self, "about_anyone", bool(who))
        if who == words and who:
            # The question names no other word than "someone": search for coming or going as well.
            words += tuple(word for word in search_words(text) if word in _COME_OR_GO)
        else:
            words = tuple(word for word in words if word not in ANYONE)
        object.__setattr__(self, "words", words)
        if not words and self.mode in (HOW_LONG, STILL_THERE, BEFORE, AFTER):
            raise RecallError(
                f"text: {self.query.text!r} names no object; say what the question is about"
            )


def _mode_from_text(text: str) -> str:
    said = " ".join(text.lower().split())
    for mode, pattern in _MODE_PATTERNS:
        if re.search(pattern, said):
            return mode
    raise RecallError(
        f"mode: {text!r} is not a question of a known kind; name one of {', '.join(MODES)}"
    )
