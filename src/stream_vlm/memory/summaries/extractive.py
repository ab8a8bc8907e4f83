"""Summarise without a model: the most important records in their own words, with times and counts.

`0:12 a ball rolls in; 0:40–2:05 3× the door opens; +2`: minutes and seconds since the start of the
summary, how often, the words of a record, and how many more items did not fit. This module knows no
database.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stream_vlm.memory.search.query_words import STOP_WORDS
from stream_vlm.types import NANOSECONDS

BETWEEN = "; "
"""Separates two items."""

_WORD = re.compile(r"[^\W_]+")

_STEM = 4
"""Words with the same first letters count as forms of one word: rolls, rolling."""


@dataclass(frozen=True)
class SummaryItem:
    """What one record, or an answer with its question, says.

    Attributes:
        start_ns: int64 ns on the clock of the frames.
        end_ns: int64 ns on the clock of the frames.
        text: the record's words.
        confidence: in [0, 1].
    """

    start_ns: int
    end_ns: int
    text: str
    confidence: float


@dataclass(frozen=True)
class Material:
    """What a summary is made from.

    Attributes:
        since_ns: times are counted from here, ns.
        items: in the order of their ends.
        states: how many frames had each state; used if there are no items.
    """

    since_ns: int
    items: tuple[SummaryItem, ...]
    states: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class _Group:
    """Items with the same words."""

    text: str
    members: tuple[SummaryItem, ...]

    @property
    def weight(self) -> float:
        """The sum of confidences: high for certain or frequent items."""
        return math.fsum(member.confidence for member in self.members)

    @property
    def start_ns(self) -> int:
        return min(member.start_ns for member in self.members)

    @property
    def end_ns(self) -> int:
        return max(member.end_ns for member in self.members)

    def describe(self, since_ns: int) -> str:
        first, last = offset(self.start_ns, since_ns), offset(self.end_ns, since_ns)
        when = first if first == last else f"{first}–{last}"
        often = f"{len(self.members)}× " if len(self.members) > 1 else ""
        return f"{when} {often}{self.text}"


def extract(material: Material, max_chars: int) -> str:
    """Return a summary of at most `max_chars` characters; deterministic.

    The last item is always included, because it describes the current situation. Then items are
    added by weight, the sum of confidences of items with the same words. The summary is in order of
    time. Without items it counts the states.
    """
    if not material.items:
        return _cut(
            "; ".join(
                f"{number}× {state}"
                for state, number in sorted(material.states, key=lambda one: (-one[1], one[0]))
            ),
            max_chars,
        )
    groups = _grouped(material.items)
    last = max(groups, key=lambda group: (group.end_ns, group.start_ns, group.text))
    others = sorted(
        (group for group in groups if group is not last),
        key=lambda group: (-group.weight, group.start_ns, group.text),
    )
    chosen: list[_Group] = []
    room = max_chars
    for group in [last, *others]:
        length = len(group.describe(material.since_ns)) + (len(BETWEEN) if chosen else 0)
        rest = len(groups) - len(chosen) - 1
        if length + (len(f"{BETWEEN}+{rest}") if rest else 0) <= room or not chosen:
            chosen.append(group)
            room -= length
    chosen.sort(key=lambda group: (group.start_ns, group.end_ns, group.text))
    parts = [group.describe(material.since_ns) for group in chosen]
    if len(chosen) < len(groups):
        parts.append(f"+{len(groups) - len(chosen)}")
    return _cut(BETWEEN.join(parts), max_chars)


def rejection(text: str, material: Material, max_chars: int) -> str:
    """Return why `text`, written by a model, is not a summary of `material`, or an empty string.

    It must contain at least half of the content words of some item, in any form.
    """
    if not text.strip():
        return "it is empty"
    if len(text) > max_chars:
        return f"it has {len(text)} characters, more than {max_chars} (memory.summary_chars)"
    said = _stems(text)
    for item in material.items:
        words = _stems(item.text)
        if words and 2 * len(words & said) >= len(words):
            return ""
    return "it mentions nothing of what it should summarise"


def offset(stamp_ns: int, since_ns: int) -> str:
    """Return minutes and seconds from `since_ns` to `stamp_ns`, such as 2:05; may be negative."""
    seconds = (stamp_ns - since_ns) // NANOSECONDS
    return f"{'-' if seconds < 0 else ''}{abs(seconds) // 60}:{abs(seconds) % 60:02d}"


def _grouped(items: Sequence[SummaryItem]) -> list[_Group]:
    members: dict[str, list[SummaryItem]] = {}
    for item in items:
        members.setdefault(" ".join(item.text.split()).casefold(), []).append(item)
    return [_Group(" ".join(same[0].text.split()), tuple(same)) for same in members.values()]


def _stems(text: str) -> set[str]:
    words: Iterable[str] = _WORD.findall(text.casefold())
    return {word[:_STEM] for word in words if word not in STOP_WORDS}


def _cut(text: str, max_chars: int) -> str:
    """Return `text`, or as many whole words of it as fit, and an ellipsis."""
    if len(text) <= max_chars:
        return text
    kept = text[: max_chars - 1]
    whole = kept.rsplit(" ", 1)[0] if text[max_chars - 1] != " " and " " in kept else kept
    return whole.rstrip() + "…"
