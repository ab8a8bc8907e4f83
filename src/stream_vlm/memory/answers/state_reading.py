"""Read from a sentence which of two opposite states its object is in afterwards."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

from stream_vlm.memory.answers.denial import clauses_of, denied_places
from stream_vlm.memory.answers.state_pairs import BE, Side, StatePair, stem
from stream_vlm.memory.search.verb_forms import word_set

_REACH = 5
"""Most words between a verb and the word that belongs to it ("turns the old lamp on")."""

_BEFORE_A_NOUN = word_set("a an the this that these those his her its my your our their")
_PRONOUNS = word_set("it he she they")
_SIDES = word_set("the to on his her its their from")


@lru_cache(maxsize=4096)
def state_after(text: str, words: tuple[str, ...], pair: StatePair) -> bool | None:
    """Return whether `pair.yes` holds after `text`, or None if it says nothing about the pair.

    Args:
        text: an event sentence.
        words: of the question; only the clauses about them count. A clause that goes on without a
            subject ("and puts it down") is about the same.
        pair: the states.
    """
    subjects = {stem(word) for word in words}
    found: bool | None = None
    clauses = clauses_of(text)
    about = [subjects <= {stem(word) for word in clause} for clause in clauses]
    whole = not any(about)
    goes_on = False
    for clause, is_about in zip(clauses, about, strict=True):
        first = clause[0]
        goes_on = is_about or (
            goes_on and (first in _PRONOUNS or first in BE or _begins_with_a_verb(clause, pair))
        )
        if goes_on or whole:
            read = _state_of(clause, subjects, pair)
            found = found if read is None else read
    return found


def _begins_with_a_verb(clause: list[str], pair: StatePair) -> bool:
    return any(
        stem(clause[0]) == stem(verb[0]) for side in (pair.yes, pair.no) for verb in side.verbs
    )


def _state_of(clause: list[str], subjects: set[str], pair: StatePair) -> bool | None:
    denied = denied_places(clause)
    found: bool | None = None
    for at, word in enumerate(clause):
        sides = [
            (len(length), value)
            for side, value in ((pair.yes, True), (pair.no, False))
            if (length := _said_at(clause, at, side, subjects))
        ]
        if not sides:
            continue
        value = max(sides)[1]
        if at not in denied:
            found = value
        elif word in (pair.yes.states | pair.no.states) and _is_predicate(clause, at):
            found = not value  # "is not open", "is no longer there"
    return found


def _said_at(clause: list[str], at: int, side: Side, subjects: set[str]) -> tuple[str, ...]:
    """Return the verb or state of `side` that begins at `at`, or nothing."""
    word = clause[at]
    if word in side.states and _is_predicate(clause, at):
        return (word,)
    if stem(word) in subjects or (at and clause[at - 1] in _BEFORE_A_NOUN):
        return ()
    if word == "left" and at and clause[at - 1] in _SIDES:
        return ()
    best: tuple[str, ...] = ()
    for verb in side.verbs:
        first, *rest = verb
        if stem(word) != stem(first) or len(verb) <= len(best):
            continue
        if first == "close" and clause[at + 1 : at + 2] == ["to"]:
            continue
        if not rest or rest[-1] in clause[at + 1 : at + 2 + _REACH]:
            best = verb
    if not best and "lit" in side.states and word in ("light", "lights", "lit"):
        return (word,)
    return best


def _is_predicate(clause: list[str], at: int) -> bool:
    """Return whether a form of "be" stands shortly before `at`."""
    return any(word in BE for word in clause[max(0, at - 4) : at])


def denies(text: str, words: tuple[str, ...], *, about_anyone: bool) -> bool:
    """Return whether `text` says that what `words` ask for did not happen, or is not there.

    Args:
        text: a record's text that has all of `words`.
        words: of a question, none of them "someone".
        about_anyone: whether the question is about any person.
    """
    wanted = {stem(word) for word in words}
    free: set[str] = set()
    for clause in clauses_of(text):
        denied = denied_places(clause)
        places = {at for at, word in enumerate(clause) if stem(word) in wanted}
        if about_anyone and _denies_people(clause):
            continue
        if any(
            word in _SEEN and at in denied and _is_predicate(clause, at)
            for at, word in enumerate(clause)
        ):
            continue  # "the ball is not there": it was not seen
        free |= {stem(clause[at]) for at in places - denied}
    said = {stem(word) for clause in clauses_of(text) for word in clause}
    return not (wanted & said) <= free


_SEEN = word_set("there here present visible seen")


def _denies_people(clause: list[str]) -> bool:
    return "nobody" in clause or any(
        first in ("no", "none", "not")
        and second in ("one", "person", "people", "man", "woman", "of")
        for first, second in pairwise(clause)
    )
