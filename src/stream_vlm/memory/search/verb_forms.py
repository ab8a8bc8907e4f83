"""Forms of English verbs, and the full-text expression for a word in all its forms."""

from __future__ import annotations

import re

from stream_vlm.memory.storage.indexed_text import index_phrase

# Irregular verbs with past and participle; one form where both are the same.
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
"""Verbs that double their last letter before -ing and -ed."""

_SYNONYMS = {"come": "enter arrive appear"}
"""Other verbs for the same event."""


def forms_of(verb: str) -> tuple[str, ...]:
    """Return all forms of `verb`, such as walk, walks, walked, walking."""
    doubled = verb + verb[-1] if verb in _DOUBLED else verb
    # As in carry, carries, carried.
    soft = re.sub(r"(?<=[^aeiou])y$", "ie", verb)
    third = soft + ("es" if re.search(r"(s|x|z|ch|sh|[^aeiou]o)$", verb) else "s")
    if verb.endswith("e") and not verb.endswith("ee"):
        past, going = verb + "d", (verb[:-2] + "y" if verb.endswith("ie") else verb[:-1]) + "ing"
    else:
        past, going = (soft + "d" if soft != verb else doubled + "ed"), doubled + "ing"
    pasts = _IRREGULAR[verb].split() if verb in _IRREGULAR else [past]
    return tuple(dict.fromkeys([verb, third, *pasts, going]))


def distinct_stems(verb: str) -> tuple[str, ...]:
    """Return `verb` and its forms with another stem in the full-text index: take, took, taken.

    The index uses the Porter stemmer, which gives regular forms the same stem.
    """
    return tuple(dict.fromkeys([verb, *_IRREGULAR.get(verb, "").split()]))


_VERB_OF = {form: verb for verb, forms in _IRREGULAR.items() for form in forms.split()}


def irregular_verb_of(form: str) -> str | None:
    """Return the irregular verb with this past or participle: take for took; else None."""
    return _VERB_OF.get(form)


def word_set(words: str) -> frozenset[str]:
    """Return the words in `words`, which are separated by spaces."""
    return frozenset(words.split())


def forms_of_all(verbs: str) -> frozenset[str]:
    """Return all forms of the verbs in `verbs`, which are separated by spaces."""
    return frozenset(form for verb in verbs.split() for form in forms_of(verb))


ANYONE = frozenset(["someone", "somebody", "anyone", "anybody"])
"""Unnamed persons. A record about what "someone" does need not contain these words."""

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
# "From the left" is a side and not the verb "leave".
_LEAVE = '("leave" OR ("left" NOT ({})))'.format(" OR ".join(f'"{side}"' for side in _SIDES))


def _expressions() -> dict[str, str]:
    """Return the FTS5 expression of each word that needs one.

    The Porter stemmer matches the forms of a regular verb. "Left" is handled separately, because it
    may be a side.
    """
    alike: dict[str, list[str]] = {}
    for verb in _IRREGULAR:
        if verb == "leave":
            continue
        for form in forms_of(verb):
            alike.setdefault(form, []).extend(
                [*distinct_stems(verb), *_SYNONYMS.get(verb, "").split()]
            )
    people = dict.fromkeys(ANYONE, _PEOPLE.split())
    return {
        word: " OR ".join(f'"{one}"' for one in dict.fromkeys(others))
        for word, others in (alike | people).items()
    }


_EXPRESSIONS = _expressions()


def fts_expression(word: str) -> str:
    """Return the FTS5 expression for `word` in all its forms; the word has no quotation mark.

    "Left" is searched for as it is, because it may be a side.
    """
    if word in ("leave", "leaves", "leaving"):
        return _LEAVE
    return f"({_EXPRESSIONS[word]})" if word in _EXPRESSIONS else f'"{index_phrase(word)}"'
