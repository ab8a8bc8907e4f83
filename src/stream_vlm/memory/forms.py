"""Other forms of a word that is looked for: of an irregular verb those that no stemmer brings together, of "someone" whoever that may be."""

from __future__ import annotations

# Each verb's regular forms, which the full text's stemmer (Porter) brings together, and its other forms, each of which has a stem of its own. Who
# comes is mostly said to enter.
_VERBS = {
    "begin begins beginning": "began begun",
    "bend bends bending": "bent",
    "blow blows blowing": "blew blown",
    "break breaks breaking": "broke broken",
    "bring brings bringing": "brought",
    "build builds building": "built",
    "buy buys buying": "bought",
    "catch catches catching": "caught",
    "come comes coming": "came enter arrive appear",
    "draw draws drawing": "drew drawn",
    "drink drinks drinking": "drank drunk",
    "drive drives driving": "drove driven",
    "eat eats eating": "ate eaten",
    "fall falls falling": "fell fallen",
    "feed feeds feeding": "fed",
    "find finds finding": "found",
    "fly flies flying": "flew flown",
    "forget forgets forgetting": "forgot forgotten",
    "get gets getting": "got gotten",
    "give gives giving": "gave given",
    "go goes going": "went gone",
    "hang hangs hanging": "hung",
    "hide hides hiding": "hid hidden",
    "hold holds holding": "held",
    "keep keeps keeping": "kept",
    "kneel kneels kneeling": "knelt",
    "light lights lighting": "lit",
    "lose loses losing": "lost",
    "make makes making": "made",
    "meet meets meeting": "met",
    "pay pays paying": "paid",
    "ride rides riding": "rode ridden",
    "run runs running": "ran",
    "send sends sending": "sent",
    "shake shakes shaking": "shook shaken",
    "sit sits sitting": "sat",
    "sleep sleeps sleeping": "slept",
    "slide slides sliding": "slid",
    "speak speaks speaking": "spoke spoken",
    "spill spills spilling": "spilt",
    "stand stands standing": "stood",
    "steal steals stealing": "stole stolen",
    "stick sticks sticking": "stuck",
    "sweep sweeps sweeping": "swept",
    "swing swings swinging": "swung",
    "take takes taking": "took taken",
    "tear tears tearing": "tore torn",
    "throw throws throwing": "threw thrown",
    "wake wakes waking": "woke woken",
    "wear wears wearing": "wore worn",
    "write writes writing": "wrote written",
}

ANYONE = frozenset(["someone", "somebody", "anyone", "anybody"])
"""Who is not named: in a question, nothing that a record must say where it says what is done."""

_PEOPLE = "someone somebody person people man men woman women boy girl child children hand"

_SIDES = "the left", "to left", "on left", "his left", "her left", "its left", "their left", "left side", "left hand"
# "From the left" tells of nobody who leaves.
_LEAVE = '("leave" OR ("left" NOT ({})))'.format(" OR ".join(f'"{side}"' for side in _SIDES))

_MATCHING = {
    **{
        form: " OR ".join(f'"{one}"' for one in (regular.split()[0], *others.split()))
        for regular, others in _VERBS.items()
        for form in (*regular.split(), *others.split())
        if form not in ("enter", "arrive", "appear")
    },
    **dict.fromkeys(ANYONE, " OR ".join(f'"{one}"' for one in _PEOPLE.split())),
}


def matching(word: str) -> str:
    """FTS5's expression for `word`, which has no quotation mark in it, in whatever form a record has it.

    "Left" itself is taken as it is, for it may be a side.
    """
    if word in ("leave", "leaves", "leaving"):
        return _LEAVE
    return f"({_MATCHING[word]})" if word in _MATCHING else f'"{word}"'
