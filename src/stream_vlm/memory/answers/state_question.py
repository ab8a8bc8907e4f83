"""Read a question about a state: which state, and whether it asks for it or for its opposite."""

from __future__ import annotations

import re
from dataclasses import dataclass

from stream_vlm.memory.answers.denial import with_not
from stream_vlm.memory.answers.state_pairs import (
    PAIRS,
    PARTICLES,
    PRESENT,
    StatePair,
    made_pair,
    stem,
)
from stream_vlm.memory.search.verb_forms import word_set

_PRESENT = next(pair for pair in PAIRS if pair.name == PRESENT)
_INVERTED = re.compile(r"^\W*(\w+) not\b")
"""After n't became not: "isn't the door open?" expects yes if it is open."""

_WAS_NT = re.compile(r"^\W*\w+n['\u2019]?t\b", re.IGNORECASE)
_AFTER_A_STATE = word_set(
    "now still currently again already yet or and too then today right at this anymore in at near"
)
_BEFORE_A_NOUN = word_set("the a an any some this that these those my your his her")
_NEGATIONS = word_set("not nobody nothing never none no")
_POSTURES = word_set("standing sitting awake")

FILLERS = word_set(
    "still now currently there here present around away in out on off lying lie "
    "standing stand stay stays stayed remain remains remained enter enters entered "
    "leave leaves roll rolls rolled turn turns turned no longer never yet already "
    "again anymore nobody nothing none not long get got go went come came often many"
)
"""Words of a question about a state that are not searched for."""

PLACES = word_set("table floor room place")
"""Nor are these, unless the question is about them."""


@dataclass(frozen=True)
class StateQuestion:
    """What a question about a state asks.

    Attributes:
        pair: the two opposite states.
        side: which of them it names: True for `pair.yes`.
        negated: whether it asks if that is not so ("is the door not open?").
        choice: both words of "on or off", the one of `pair.yes` first; else empty. Then `side` is
            that of the first of them in the question.
        is_named: whether the question names a state; else it is taken as a question of presence.
        dropped: its words that are not searched for.
    """

    pair: StatePair
    side: bool = True
    negated: bool = False
    choice: tuple[str, ...] = ()
    is_named: bool = True
    dropped: frozenset[str] = frozenset()

    @property
    def wants(self) -> bool:
        """The value of `pair.yes` for which the answer is yes."""
        return self.side != self.negated


def plain_question(text: str) -> str:
    """Return a question without "n't" at its beginning: "isn't it open?" asks "is it open?"."""
    plain = with_not(text)
    return _INVERTED.sub(r"\1", plain) if _WAS_NT.match(text) else plain


def read_state_question(text: str) -> StateQuestion:
    """Return what state the question `text` is about."""
    words = re.findall(r"[^\W_]+", plain_question(text))
    negations = sum(word in _NEGATIONS for word in words)
    place = False
    for at in range(len(words) - 1, 0, -1):
        named = _state_at(words, at)
        if named is None:
            # "On the table" asks for presence unless a state is named before it.
            place = place or words[at] in ("in", "on")
            continue
        pair, side, dropped = named
        choice: tuple[str, ...] = ()
        if words[at - 1] == "or" and at > 1:
            other = _state_at(words, at - 2)
            if other is not None and other[0] == pair and other[1] != side:
                dropped |= other[2]
                choice = (words[at], words[at - 2]) if side else (words[at - 2], words[at])
                side = not side
        return StateQuestion(pair, side, negations % 2 == 1, choice, True, FILLERS | dropped)
    if words[-1:] == ["still"]:
        on = next(pair for pair in PAIRS if pair.name == "on")
        return StateQuestion(on, False, negations % 2 == 1, dropped=FILLERS)
    return StateQuestion(_PRESENT, negated=negations % 2 == 1, is_named=place, dropped=FILLERS)


def _state_at(words: list[str], at: int) -> tuple[StatePair, bool, frozenset[str]] | None:
    """Return the pair and the side of the state named by `words[at]`, and its words."""
    word, before = words[at], words[at - 1]
    if word == "left" and before in ("the", "to", "on", "its", "his", "her"):
        return None
    is_last = at + 1 == len(words) or words[at + 1] in _AFTER_A_STATE
    if word in PARTICLES:
        if not is_last:
            return None
        made = made_pair(before)
        is_noun = at > 1 and words[at - 2] in _BEFORE_A_NOUN  # "is the bed in?"
        if made is not None and not is_noun and not _known(before):
            return *made, frozenset([word, before])
        dropped = frozenset([word, before] if _known(before) else [word])
        return _in_table(word, dropped)
    if not is_last and not (words[0] == "how" or word in ("there", "here")):
        return None
    found = _in_table(word, frozenset([word]))
    if found is not None:
        return None if found[0].name in _POSTURES and not is_last else found
    if is_last and at > 1 and before not in _BEFORE_A_NOUN and words[1] != "there":
        verb = next(
            (
                (pair, side)
                for pair in PAIRS
                for one, side in ((pair.yes, True), (pair.no, False))
                if any(len(verb) == 1 and stem(verb[0]) == stem(word) for verb in one.verbs)
            ),
            None,
        )
        if verb is not None:
            return *verb, frozenset([word])
        made = made_pair(word)
        if made is not None:
            return *made, frozenset([word])
    return None


def _in_table(word: str, dropped: frozenset[str]) -> tuple[StatePair, bool, frozenset[str]] | None:
    for pair in PAIRS:
        if word in pair.yes.states:
            return pair, True, dropped
        if word in pair.no.states:
            return pair, False, dropped
    return None


def _known(word: str) -> bool:
    """Return whether `word` is the first word of a verb with a particle ("switched on")."""
    return any(
        len(verb) > 1 and stem(verb[0]) == stem(word)
        for pair in PAIRS
        for one in (pair.yes, pair.no)
        for verb in one.verbs
    )
