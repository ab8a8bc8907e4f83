"""Forms of English verbs, and what else a word that is looked for is said with: of "someone"
whoever that may be.
"""

from __future__ import annotations

import re

# Each irregular verb with the forms that no rule makes of it; where those are past and participle
# alike, the form stands once.
_IRREGULAR = {
    "begin": "began begun",
    "bend": "bent",
    "blow": "blew blown",
    "break": "broke broken",
    "bring": "brought",
    "build": "built",
    "buy": "bought",
    "catch": "caught",
    "come": "came",
    "draw": "drew drawn",
    "drink": "drank drunk",
    "drive": "drove driven",
    "eat": "ate eaten",
    "fall": "fell fallen",
    "feed": "fed",
    "find": "found",
    "fly": "flew flown",
    "forget": "forgot forgotten",
    "get": "got gotten",
    "give": "gave given",
    "go": "went gone",
    "hang": "hung",
    "hide": "hid hidden",
    "hold": "held",
    "keep": "kept",
    "kneel": "knelt",
    "lay": "laid",
    "leave": "left",
    "lie": "lay lain",
    "light": "lit",
    "lose": "lost",
    "make": "made",
    "meet": "met",
    "pay": "paid",
    "put": "put",
    "ride": "rode ridden",
    "run": "ran run",
    "see": "saw seen",
    "send": "sent",
    "set": "set",
    "shake": "shook shaken",
    "shut": "shut",
    "sit": "sat",
    "sleep": "slept",
    "slide": "slid",
    "speak": "spoke spoken",
    "spill": "spilt",
    "stand": "stood",
    "steal": "stole stolen",
    "stick": "stuck",
    "sweep": "swept",
    "swing": "swung",
    "take": "took taken",
    "tear": "tore torn",
    "throw": "threw thrown",
    "wake": "woke woken",
    "wear": "wore worn",
    "write": "wrote written",
}
_DOUBLED = frozenset(
    ["begin", "drop", "forget", "get", "grab", "put", "run", "set", "shut", "sit", "stop"]
)
"""Verbs whose last letter is doubled before -ing and -ed."""

_LIKEWISE = {"come": "enter arrive appear"}
"""What else a happening is mostly said with."""


def forms_of(verb: str) -> tuple[str, ...]:
    """`verb` in all its forms: walk, walks, walked, walking; take, takes, took, taken, taking."""
    doubled = verb + verb[-1] if verb in _DOUBLED else verb
    # Carry, carries, carried.
    soft = re.sub(r"(?<=[^aeiou])y$", "ie", verb)
    third = soft + ("es" if re.search(r"(s|x|z|ch|sh|[^aeiou]o)$", verb) else "s")
    if verb.endswith("e") and not verb.endswith("ee"):
        past, going = verb + "d", (verb[:-2] + "y" if verb.endswith("ie") else verb[:-1]) + "ing"
    else:
        past, going = (soft + "d" if soft != verb else doubled + "ed"), doubled + "ing"
    pasts = _IRREGULAR[verb].split() if verb in _IRREGULAR else [past]
    return tuple(dict.fromkeys([verb, third, *pasts, going]))


def said_as(verb: str) -> tuple[str, ...]:
    """`verb` and those of its forms that full text's stemmer (Porter) does not bring together with
    it: take, took, taken.
    """
    return tuple(dict.fromkeys([verb, *_IRREGULAR.get(verb, "").split()]))


def forms_of_all(verbs: str) -> frozenset[str]:
    """All forms of the verbs that `verbs` names, with spaces between."""
    return frozenset(form for verb in verbs.split() for form in forms_of(verb))


ANYONE = frozenset(["someone", "somebody", "anyone", "anybody"])
"""Who is not named: in a question, nothing that a record must say where it says what is done."""

_PEOPLE = "someone somebody person people man men woman women boy girl child children hand"

_SIDES = (
    "the left",
    "to left",
    "on left",
    "his left",
    "her left",
    "its left",
    "their left",
    "left side",
    "left hand",
)
# "From the left" tells of nobody who leaves.
_LEAVE = '("leave" OR ("left" NOT ({})))'.format(" OR ".join(f'"{side}"' for side in _SIDES))


def _matching() -> dict[str, str]:
    """By word, what FTS5 is to look for.

    A regular verb's forms are brought together by its stemmer (Porter); "left" may be a side.
    """
    alike: dict[str, list[str]] = {}
    for verb in _IRREGULAR:
        if verb == "leave":
            continue
        for form in forms_of(verb):
            alike.setdefault(form, []).extend([*said_as(verb), *_LIKEWISE.get(verb, "").split()])
    people = dict.fromkeys(ANYONE, _PEOPLE.split())
    return {
        word: " OR ".join(f'"{one}"' for one in dict.fromkeys(others))
        for word, others in (alike | people).items()
    }


_MATCHING = _matching()


def matching(word: str) -> str:
    """FTS5's expression for `word`, which has no quotation mark in it, in whatever form a record
    has it.

    "Left" itself is taken as it is, for it may be a side.
    """
    if word in ("leave", "leaves", "leaving"):
        return _LEAVE
    return f"({_MATCHING[word]})" if word in _MATCHING else f'"{word}"'
