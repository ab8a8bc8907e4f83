"""What an English sentence denies: "nobody enters", "the door does not open", "without opening".

A denied event did not happen: it begins no state, is not counted, and answers no question.
"""

from __future__ import annotations

import re

from stream_vlm.memory.search.verb_forms import forms_of, word_set

_NT = re.compile(
    r"\b(is|are|was|were|has|have|had|do|does|did|could|would|should|wo|ca)n(?:['\u2019]?t)\b"
)
_CLAUSE = re.compile(
    r"[.,;:!?()]|\b(?:and|but|while|whereas|then|because|when|so|although|as|after|before|until)\b"
)
_NOBODY = word_set("nobody nothing none neither nor never not hardly unable almost nearly")
_FAILS = frozenset(form for verb in ("fail", "refuse") for form in forms_of(verb))
_LIMITED = word_set("with has have having wearing wears carrying carries of in holding")
_DETERMINERS = word_set("a an the any his her its their my your our single")
_DEFINITE = word_set("the this that these those his her its their my your our")

NEGATION_EXPRESSION = "({})".format(
    " OR ".join(
        f'"{one}"'
        for one in sorted({*_NOBODY, "no", "without", "cannot", "t", "fail", "refuse", "about to"})
        + [f"{aux}nt" for aux in ("is", "are", "was", "were", "do", "does", "did", "has", "have")]
    )
)
"""FTS5 expression for the texts that may deny something; "doesn't" is indexed as "doesn t"."""


def with_not(text: str) -> str:
    """Return `text` in lower case with "not" for every "n't"."""
    lower = text.lower().replace("cannot", "can not")
    lower = _NT.sub(lambda one: f"{ {'wo': 'will', 'ca': 'can'}.get(one[1], one[1]) } not", lower)
    return lower


def clauses_of(text: str) -> list[list[str]]:
    """Return the words of each clause of `text`, in lower case, with "not" for "n't"."""
    parts = (re.findall(r"[^\W_]+", part) for part in _CLAUSE.split(with_not(text)))
    return [part for part in parts if part]


def denied_places(clause: list[str]) -> set[int]:
    """Return the indices of the words of `clause` that it denies.

    A negation reaches to the end of its clause. "With no hat", "without a coat" denies only the
    noun. What "the", "this", "his" ... introduces exists all the same.
    """
    denied: set[int] = set()
    for at, word in enumerate(clause):
        rest = range(at + 1, len(clause))
        if word == "not" and clause[at + 1 : at + 2] == ["only"]:
            continue
        if word in _NOBODY or word in _FAILS or clause[at : at + 2] == ["about", "to"]:
            denied.update(rest)
        elif word == "no" or word == "without":
            after = clause[at + 1 : at + 2]
            is_gerund = bool(after) and after[0].endswith("ing") and word == "without"
            before = clause[at - 1] if at else ""
            if is_gerund or (word == "no" and before not in _LIMITED):
                denied.update(rest)
            else:
                denied.update(_noun_phrase(clause, at + 1))
    return denied - _definite(clause)


def _noun_phrase(clause: list[str], start: int) -> list[int]:
    """Return the places of a noun and at most one adjective from `start`, without a verb."""
    at = start
    while at < len(clause) and clause[at] in _DETERMINERS:
        at += 1
    second = clause[at + 1 : at + 2]
    is_verb = bool(second) and re.search(r"(?:s|ed|ing)$|^(?:is|was|to|in|at|on)$", second[0])
    return list(range(start, min(at + (1 if is_verb else 2), len(clause))))


def _definite(clause: list[str]) -> set[int]:
    places: set[int] = set()
    for at, word in enumerate(clause):
        if word in _DEFINITE:
            places.update((at + 1, at + 2))
    return places
