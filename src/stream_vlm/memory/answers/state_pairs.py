"""States and their opposites, and the verbs and adjectives for each: open and closed, on and off.

A state that is not in the table is made from a participle: "covered" is begun by "cover" and ended
by "uncover".
"""

from __future__ import annotations

from dataclasses import dataclass

from stream_vlm.memory.search.verb_forms import (
    irregular_verb_of,
    word_set,
)

PRESENT = "present"


@dataclass(frozen=True)
class Side:
    """One of two opposite states.

    Attributes:
        verbs: what begins it, each with the words that may follow: ("turn", "on").
        states: the words for it after "is".
    """

    verbs: tuple[tuple[str, ...], ...]
    states: frozenset[str]


@dataclass(frozen=True)
class StatePair:
    """Two opposite states; `yes` is the one that an event of `yes.verbs` begins."""

    name: str
    yes: Side
    no: Side


def _side(verbs: str, states: str) -> Side:
    return Side(
        tuple(tuple(verb.split()) for verb in verbs.split(", ") if verb), frozenset(states.split())
    )


PAIRS = (
    StatePair(
        "open",
        _side("open", "open opened ajar"),
        _side("close, shut, slam", "closed shut drawn"),
    ),
    StatePair(
        "on",
        _side(
            "start, begin, resume, ignite, come on, go on, turn on, switch on, power on, light up",
            "on lit alight burning running working active playing ringing glowing spinning started",
        ),
        _side(
            "stop, end, halt, pause, finish, extinguish, go off, go out, turn off, switch off,"
            " power off, shut off, shut down, turn out, put out, blow out",
            "off out unlit extinguished stopped idle paused inactive dark finished",
        ),
    ),
    StatePair(
        PRESENT,
        _side(
            "enter, arrive, appear, return, bring, drop, place, roll in, come in, walk in, run in,"
            " drive in, fly in, step in, come back, put down, set down, put on, put in",
            "there here present around in inside visible back",
        ),
        _side(
            "leave, depart, disappear, vanish, exit, remove, take, steal, throw away, carry away,"
            " carry out, pick up, roll away, roll out, walk away, walk out, walk off, run away,"
            " run out, run off, drive away, drive off, fly away, go away, go out, throw out",
            "gone away absent missing removed taken stolen vanished",
        ),
    ),
    StatePair("attached", _side("attach", "attached"), _side("detach", "detached")),
    StatePair("locked", _side("lock", "locked"), _side("unlock", "unlocked")),
    StatePair("full", _side("fill, refill", "full filled"), _side("empty, drain", "empty")),
    StatePair(
        "up",
        _side("raise, hoist, lift, go up, roll up, pull up, put up", "up raised lifted"),
        _side("lower, go down, come down, roll down, pull down", "down lowered"),
    ),
    StatePair(
        "standing",
        _side("stand, stand up, get up, rise", "standing"),
        _side("sit, sit down, kneel, lie down", "sitting seated kneeling"),
    ),
    StatePair(
        "awake",
        _side("wake, wake up, awake", "awake"),
        _side("fall asleep, go to sleep", "asleep sleeping"),
    ),
    StatePair("clean", _side("clean, wash, wipe", "clean washed"), _side("soil", "dirty soiled")),
    StatePair("wet", _side("wet, soak", "wet soaked"), _side("dry", "dry dried")),
    StatePair(
        "broken",
        _side("break, smash, shatter", "broken"),
        _side("repair, fix, mend", "whole fixed"),
    ),
    StatePair(
        "occupied", _side("occupy", "occupied busy"), _side("vacate", "free vacant unoccupied")
    ),
)

PARTICLES = word_set("on off up down in out away back over")
"""After a verb these belong to it; before a noun they are prepositions."""

BE = word_set("is are was were be been being stay stays stayed remain remains remained")

_NOT_OPPOSITE = word_set("discover disclos display dispos discus dismis disturb under")
"""Stems of verbs that look like an opposite and are none."""

_OPPOSITES = ("un", "dis", "de")


def made_pair(participle: str) -> tuple[StatePair, bool] | None:
    """Return the pair of states that a participle names, and whether it is the positive one.

    "covered" and "uncovered" name the same pair. None if the word is no participle.
    """
    if not participle.endswith("ed") and not irregular_verb_of(participle):
        return None
    for prefix in _OPPOSITES:
        bare = participle.removeprefix(prefix)
        if bare != participle and len(bare) > 4 and stem(participle) not in _NOT_OPPOSITE:
            return _made(bare), False
    return (_made(participle), True) if len(participle) > 3 else None


def _made(participle: str) -> StatePair:
    opposites = [
        prefix + participle
        for prefix in _OPPOSITES
        if stem(prefix + participle) not in _NOT_OPPOSITE
    ]
    return StatePair(
        stem(participle),
        Side(((participle,),), frozenset([participle])),
        Side(tuple((one,) for one in opposites), frozenset(opposites)),
    )


def stem(word: str) -> str:
    """Return a common form of a verb's forms: "stops", "stopped" and "stopping" give "stop"."""
    word = irregular_verb_of(word) or word
    for ending, instead in (
        ("ied", "y"),
        ("ies", "y"),
        ("ing", ""),
        ("ed", ""),
        ("es", ""),
        ("s", ""),
    ):
        if word.endswith(ending) and len(word) > len(ending) + 2 and not word.endswith("ss"):
            word = word[: -len(ending)] + instead
            break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    word = word.removesuffix("e")
    return word[:-1] + "y" if word.endswith("i") else word
