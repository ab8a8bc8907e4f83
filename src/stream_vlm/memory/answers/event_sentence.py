"""Parse an English event sentence: what happened to which object, by a fixed list of verbs."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from stream_vlm.memory.answers.denial import clauses_of, denied_places
from stream_vlm.memory.search.verb_forms import forms_of_all

COMES, GOES, PUT_DOWN, PICKED_UP, TAKEN, ON, OFF, SEEN = CHANGES = (
    "comes",
    "goes",
    "put down",
    "picked up",
    "taken",
    "on",
    "off",
    "seen",
)
"""What can happen to an object. ON and OFF also mean open and closed."""

_WORD = re.compile(r"[^\W_]+")


def _set(words: str) -> frozenset[str]:
    return frozenset(_WORD.findall(words))


@dataclass(frozen=True)
class _Verb:
    """One verb.

    Attributes:
        forms: all its forms.
        particles: words that follow the verb or its object ("down" in "puts it down").
        change: one of `CHANGES`.
        has_object: whether the event is about the verb's object.
    """

    forms: frozenset[str]
    particles: frozenset[str]
    change: str
    has_object: bool


def _verb(verbs: str, particles: str, change: str, *, has_object: bool) -> _Verb:
    return _Verb(forms_of_all(verbs), _set(particles), change, has_object)


_MOVES = "roll walk run drive fly"

# Verbs with a particle come first, because "goes on" is not "goes".
_VERBS = (
    _verb("put set lay", "down", PUT_DOWN, has_object=True),
    _verb("pick", "up", PICKED_UP, has_object=True),
    _verb("turn switch", "on", ON, has_object=True),
    _verb("turn switch", "off out", OFF, has_object=True),
    _verb("carry take throw", "away out", TAKEN, has_object=True),
    _verb("come go light", "on up", ON, has_object=False),
    _verb("go", "off", OFF, has_object=False),
    _verb(f"come {_MOVES}", "in back", COMES, has_object=False),
    _verb(f"go {_MOVES}", "away out off", GOES, has_object=False),
    _verb("open", "", ON, has_object=True),
    _verb("close shut", "", OFF, has_object=True),
    _verb("start begin", "", ON, has_object=False),
    _verb("stop end", "", OFF, has_object=False),
    _verb("take remove grab steal", "", TAKEN, has_object=True),
    _verb("bring", "", COMES, has_object=True),
    _verb("place drop", "", PUT_DOWN, has_object=True),
    _verb("lift", "", PICKED_UP, has_object=True),
    _verb("enter arrive appear return", "", COMES, has_object=False),
    _Verb(
        forms_of_all("leave depart disappear vanish exit") | {"gone"},
        frozenset(),
        GOES,
        has_object=False,
    ),
)

_LIGHTS = _set("lamp light lights fire flame candle screen")
"""These go off by going out, and stay where they are."""

_MAX_PARTICLE_DISTANCE = 5
"""Most words between a verb and its particle."""

_DETERMINERS = _set(
    "a an the this that these those his her its their my your our some another other one"
)
_PRONOUNS = _set("it he she they them him something someone somebody anything")
_AUXILIARIES = _set(
    "is are was were be been being has have had does did just now slowly quickly again then"
)
_STATES = _set("is are was were") | forms_of_all("stand sit lie hang fall hold break")
"""Without another verb these mean that what stands before them is present."""

_ENDS_A_PHRASE = _set(
    "in on at to from into onto off under over near by with behind beside towards through across"
    " against of for and or then while which who as"
)
_ADDS_TO_A_PHRASE = _set("in with")
"""Before a verb these continue the description: "person in red"."""


@dataclass(frozen=True)
class ParsedEvent:
    """What happened to one object.

    Attributes:
        noun: the kind of object, "ball".
        words: its other words, sorted: ("red",).
        change: one of `CHANGES`.
    """

    noun: str
    words: tuple[str, ...]
    change: str


def parse_event(text: str) -> ParsedEvent | None:
    """Return what `text` says happened and to what, or None where it cannot be parsed.

    The object is that of a verb with one ("hand takes the red cup", "man opens the door"), else the
    words before the verb ("person in red enters from the left", "door opens"). With several verbs,
    the object is that of the first verb, and the change that of the last. Without a verb the
    sentence is about the words before "is", "stands", "fell" and the like.
    """
    words = _WORD.findall(unicodedata.normalize("NFC", text).casefold())
    happened = _without_denied(text)
    if happened is not None:
        words = happened
    found = _verbs_in(words)
    if not found and happened is not None:
        return None
    if not found:
        subject = words[: next((at for at, word in enumerate(words) if word in _STATES), 0)]
        return _named(subject, SEEN, is_subject=True)
    for at, particle_at, verb in found:
        named = None
        if verb.has_object:
            named = _named(words[at + 1 : particle_at], found[-1][2].change) or _named(
                words[particle_at + 1 :], found[-1][2].change
            )
        named = named or _named(words[:at], found[-1][2].change, is_subject=True)
        if named is not None:
            return named
    return None


def _without_denied(text: str) -> list[str] | None:
    """Return the words of `text` without what it denies, or None if it denies nothing."""
    clauses = clauses_of(text)
    denied = [denied_places(clause) for clause in clauses]
    if not any(denied):
        return None
    kept: list[str] = []
    for clause, places in zip(clauses, denied, strict=True):
        kept += [
            word
            for at, word in enumerate(clause)
            if at not in places and word not in ("no", "without")
        ]
        kept.append("and")
    return kept


def _verbs_in(words: list[str]) -> list[tuple[int, int, _Verb]]:
    """Return each verb in `words`: its index, the index of its particle, and the verb.

    For a verb without a particle both indices are the same.
    """
    found = []
    at = 0
    while at < len(words):
        for verb in _VERBS:
            # In "from the left" the word is not a verb.
            if words[at] not in verb.forms or (
                words[at - 1 : at] and words[at - 1] in _DETERMINERS
            ):
                continue
            near = range(
                at + 1,
                min(at + 2 + _MAX_PARTICLE_DISTANCE, len(words))
                if verb.has_object
                else min(at + 2, len(words)),
            )
            particle_at = (
                at
                if not verb.particles
                else next((place for place in near if words[place] in verb.particles), -1)
            )
            if particle_at >= 0:
                found.append((at, particle_at, verb))
                at = particle_at
                break
        at += 1
    return found


def _named(words: list[str], change: str, *, is_subject: bool = False) -> ParsedEvent | None:
    """Return the object that a phrase names.

    Its kind is the last word before a word that ends the phrase or continues its description.
    """
    core: list[str] = []
    rest: list[str] = []
    into = core
    for word in words:
        if word in _ENDS_A_PHRASE:
            if not (is_subject and word in _ADDS_TO_A_PHRASE) or not core:
                break
            into = rest
        elif word not in _DETERMINERS | _AUXILIARIES:
            into.append(word)
    if not core or core[-1] in _PRONOUNS:
        return None
    if change == GOES and core[-1] in _LIGHTS:
        change = OFF
    return ParsedEvent(core[-1], tuple(sorted({*core[:-1], *rest})), change)
