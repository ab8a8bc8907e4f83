"""Which events of the simulated world an instruction in free words asks for."""

from __future__ import annotations

import re
from functools import lru_cache

from stream_vlm_lab.simulation.labels.event_pattern import EventPattern, all_patterns
from stream_vlm_lab.simulation.scene.captions import COLOURS, PORTABLE_KINDS, parse_label
from stream_vlm_lab.simulation.script.script import Event

LONGEST_CAPTION = 8
"""Words of the longest caption."""

_NOUNS = {
    "person": "person people someone somebody anyone anybody man woman men women visitor visitors"
    " human humans who",
    "ball": "ball balls",
    "box": "box boxes crate crates package packages parcel parcels",
    "cup": "cup cups mug mugs",
    "bottle": "bottle bottles flask flasks",
    "book": "book books",
    "door": "door doors",
    "lamp": "lamp lamps light lights",
}
_GENERAL = "thing things object objects item items something anything"
_ACTIONS = {
    "enters": "come comes came coming enter enters entered arrive arrives arrived appear appears",
    "leaves": "go goes went leave leaves left exit exits disappear disappears",
    "rolls in": "come comes came coming enter enters arrive arrives appear appears roll rolls"
    " rolling move moves moving",
    "rolls away": "go goes went leave leaves left disappear disappears roll rolls rolling move"
    " moves moving",
    "takes": "take takes taken took remove removes removed steal steals stolen grab grabs",
    "picks up": "take takes taken took remove removes removed pick picks picked lift lifts lifted",
    "puts down": "put puts place places placed set sets bring brings brought return returned",
    "opens": "open opens opened",
    "closes": "close closes closed shut shuts",
}
_SWITCHED = re.compile(r"\b(?:switch|turn)\w* (?:the \w+ )?(?:on or )?(on|off)\b")
_ABSENT = (
    "fall falls fallen fell fire smoke water burn burns burning spill spills spilt spilled leak"
    " leaks knocked dangerous hurt injured vehicle vehicles car cars animal animals dog dogs cat"
    " cats"
)
"""What a user can ask for and this world never shows."""


def _reverse(table: dict[str, str]) -> dict[str, set[str]]:
    meant: dict[str, set[str]] = {}
    for name, words in table.items():
        for word in words.split():
            meant.setdefault(word, set()).add(name)
    return meant


_NOUN_OF, _ACTION_OF = _reverse(_NOUNS), _reverse(_ACTIONS)


@lru_cache(maxsize=256)
def kinds_of_events(instruction: str) -> frozenset[EventPattern]:
    """The kinds of events that `instruction` asks for; none if the world has no such event.

    Nouns and verbs are read, each with its synonyms, in each part between semicolons on its own.
    Verbs without a noun mean any thing, nouns without a verb everything that can happen to them. A
    colour restricts things that have one, "hand" or "a person" restricts who takes or puts down.
    """
    return frozenset[EventPattern]().union(*map(_kinds_of_clause, instruction.split(";")))


def _kinds_of_clause(clause: str) -> frozenset[EventPattern]:
    words = re.findall(r"[a-z]+", clause.lower())
    nouns = set[str]().union(*(_NOUN_OF.get(word, set()) for word in words))
    actions = set[str]().union(*(_ACTION_OF.get(word, set()) for word in words))
    for switched in _SWITCHED.finditer(clause.lower()):
        actions |= {f"turns {switched[1]}"} | ({"turns on"} if " on or " in switched[0] else set())
    colours = set(words) & set(COLOURS)
    if set(words) & set(_GENERAL.split()):
        nouns |= {*PORTABLE_KINDS, "door", "lamp"}
    if not actions and (set(words) & set(_ABSENT.split()) or not nouns):
        return frozenset()
    actors = set(words) & {"hand", "person"} if nouns - {"person"} else set()
    return frozenset(
        pattern
        for pattern in all_patterns()
        if (not actions or pattern.action in actions)
        and (not nouns or pattern.kind in nouns)
        and (pattern.colour in colours if colours and _has_colour(pattern) else not pattern.colour)
        and (not pattern.actor or len(actors) != 1 or pattern.actor in actors)
    )


def _has_colour(pattern: EventPattern) -> bool:
    return pattern.kind not in ("door", "lamp")


def asks_for(instruction: str, event: Event) -> bool:
    """Whether `instruction` asks for `event`."""
    return any(kind.matches(event) for kind in kinds_of_events(instruction))


def caption_in(text: str) -> str:
    """The first caption of the simulated world in `text`, or an empty text.

    Case, punctuation and what stands around the caption do not matter.
    """
    words = re.findall(r"[a-z]+", text.lower())
    for start in range(len(words)):
        for end in range(min(len(words), start + LONGEST_CAPTION), start + 1, -1):
            if parse_label(" ".join(words[start:end])):
                return " ".join(words[start:end])
    return ""
