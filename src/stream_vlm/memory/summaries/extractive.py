"""Summaries that need no model: the weightiest of what was recorded, in its own words, with times
and counts. Knows no database.

`0:12 a ball rolls in; 0:40–2:05 3× the door opens; +2`: minutes and seconds since the summary's
start, how often, and how many different items found no room. Every word stands in a record.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stream_vlm.memory.search.query_words import STOP_WORDS
from stream_vlm.types import NANOSECONDS

BETWEEN = "; "
"""Stands between two items."""

_WORD = re.compile(r"[^\W_]+")

_STEM = 4
"""Words that begin with the same so many letters are taken as forms of one: rolls, rolling."""


@dataclass(frozen=True)
class SummaryItem:
    """What one record, or an answer with its question, says.

    Attributes:
        start_ns, end_ns: int64 ns on the evidence's clock.
        text: in the record's words.
        confidence: in [0, 1].
    """

    start_ns: int
    end_ns: int
    text: str
    confidence: float


@dataclass(frozen=True)
class Material:
    """What is to be summarised.

    Attributes:
        since_ns: where times are counted from, ns.
        items: in the order of their ends.
        states: how many frames were judged so, by state; told where nothing happened.
    """

    since_ns: int
    items: tuple[SummaryItem, ...]
    states: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class _Group:
    """Happenings of the same words."""

    text: str
    members: tuple[SummaryItem, ...]

    @property
    def weight(self) -> float:
        """What was seen surely, or often."""
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
    """A summary of at most `max_chars` characters; the same for the same material.

    What happened last is always in it, for that is how things stand; then what weighs most:
    confidences, added up where something came again. It is told in the order of time. Where nothing
    happened, how often each state was.
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
    """Why `text`, which a model wrote, is no summary of `material`; empty where it is one.

    It must name something of what it covers: at least half of the telling words of some item,
    in whatever form.
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
    return "it names nothing of what it should cover"


def offset(stamp_ns: int, since_ns: int) -> str:
    """Minutes and seconds from `since_ns` to `stamp_ns`, such as 2:05; negative where it began
    before.
    """
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
    """`text`, or as many whole words of it as there is room for, and an ellipsis."""
    if len(text) <= max_chars:
        return text
    kept = text[: max_chars - 1]
    whole = kept.rsplit(" ", 1)[0] if text[max_chars - 1] != " " and " " in kept else kept
    return whole.rstrip() + "…"
