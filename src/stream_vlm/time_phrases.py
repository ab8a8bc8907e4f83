"""Find a time in English words: "3 pm", "yesterday at 15.30", "this morning", "2 weeks ago".

The words are tables and regular expressions below; `clock_points` turns one point in time into
wall-clock times. A number is a time only where the words around it say so: "at 3", never "room 3".

- morning 5 to 12 h, lunch 12 to 13 h, afternoon 12 to 18 h, evening 18 to 24 h, night 18 to 6 h.
- Seconds, minutes and hours ago are elapsed time. Days, weeks, months and years ago are dates: a
  day with a change of daylight saving has 23 or 25 hours.
- A time of day that exists twice means both in a question; the first begins a span and the second
  ends it. A time of day that was left out is the moment of the change.
- In a question, "at 3 pm" means a quarter of an hour before and after it, "at 15:30" five minutes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from stream_vlm.clock_points import (
    AGO,
    CLOCK,
    DAY,
    LOOSE_CLOCK,
    PART,
    UNIT_OF,
    Now,
    Point,
    amount_of,
    read_point,
)
from stream_vlm.local_time import stamps_of, wall_time
from stream_vlm.types import NANOSECONDS

_ON = r"(?:(?:at|on|in|around|about|during|of|the|from)\s+)*"
_POINT = (
    rf"(?:{AGO}|(?:{DAY}|{PART})(?:,?\s+{_ON}(?:{PART}|{CLOCK}|{LOOSE_CLOCK}))?"
    rf"|{CLOCK}(?:,?\s+{_ON}(?:{DAY}|{PART}))?)"
)
_LOOSE_POINT = (
    rf"(?:{_POINT}|{LOOSE_CLOCK}(?:,?\s+{_ON}(?:{DAY}|{PART})|(?=\s*(?:$|[?!,;]|\.(?!\d)"
    r"|(?:and|or|to|until|till|today|yesterday)\b))))"
)
_LAST = (
    r"(?:(?:in|within|during|over|for)\s+)?the\s+(?:last|past)\s+"
    rf"(?:(?P<number>[\w.]+(?:\s+an?|\s+of)?)\s+)?(?P<unit>{'|'.join(UNIT_OF)})\b"
)
_DATE = rf"(?:(?:on\s+|in\s+)?(?P<date>{DAY}|{PART}),?\s+)?"
_PHRASES = (
    ("last", re.compile(rf"\b{_LAST}")),
    (
        "range",
        re.compile(rf"\b{_DATE}between\s+(?P<a>{_LOOSE_POINT})\s+and\s+(?P<b>{_LOOSE_POINT})"),
    ),
    (
        "range",
        re.compile(
            rf"\b{_DATE}from\s+(?P<a>{_LOOSE_POINT})\s*(?:to|until|till|-|–)"
            rf"\s*(?P<b>{_LOOSE_POINT})"
        ),
    ),
    ("since", re.compile(rf"\b{_DATE}(?:ever\s+)?since\s+{_ON}(?P<a>{_LOOSE_POINT})")),
    ("after", re.compile(rf"\b{_DATE}after\s+{_ON}(?P<a>{_LOOSE_POINT})")),
    ("before", re.compile(rf"\b{_DATE}(?:before|until|till|by)\s+{_ON}(?P<a>{_LOOSE_POINT})")),
    ("at", re.compile(rf"\b(?:at|around|about)\s+(?:exactly\s+)?(?P<a>{_LOOSE_POINT})")),
    ("at", re.compile(rf"(?<![\w.:])(?:(?:on|in|during)\s+)?(?P<a>{_POINT})(?![\w:])")),
)
"""How points are joined. The first in a text counts, and of several there the longest."""


@dataclass(frozen=True)
class TimePhrase:
    """A time that words name.

    Attributes:
        start_ns: its beginning, ns since 1970, or None where it is open.
        end_ns: its end, likewise.
        rest: the words without it.
        is_point: whether it is a moment, such as "15:30", and not a span, such as "yesterday".
        ambiguous: of a moment that the clock shows twice, all its times (ns); else empty.
    """

    start_ns: int | None
    end_ns: int | None
    rest: str = ""
    is_point: bool = False
    ambiguous: tuple[int, ...] = ()


def find_time(text: str, now: datetime, zone: tzinfo | None) -> TimePhrase | None:
    """Return the first time in `text`, which is about the past of `now`, or None.

    Args:
        text: a question.
        now: when it is asked, with a zone.
        zone: in which its times are meant; None is the system's own.
    """
    lower = text.lower()
    clock = Now(now, wall_time(round(now.timestamp() * 1e6) * 1000, zone), in_past=True)
    spans = [
        (found.start(), -found.end(), span)
        for how, pattern in _PHRASES
        for found in pattern.finditer(lower)
        if (span := _span_of(how, found, clock, zone)) is not None
    ]
    if not spans:
        return None
    start, end, span = min(spans, key=lambda one: one[:2])
    rest = f"{text[:start]} {text[-end:]}"
    return TimePhrase(*span, rest=re.sub(r"\s+([?.!,])", r"\1", " ".join(rest.split())))


def read_time(words: str, now: datetime, zone: tzinfo | None) -> TimePhrase | None:
    """Return the time that `words` as a whole name, or None.

    Args:
        words: such as "3 pm", "yesterday 9:05", "last Tuesday", "after lunch".
        now: the present, with a zone.
        zone: in which the words are meant; None is the system's own.
    """
    text = " ".join(words.lower().split())
    clock = Now(now, wall_time(round(now.timestamp() * 1e6) * 1000, zone), in_past=False)
    point = None
    if bare := re.fullmatch(
        r"(?:(?:at|on|in|around|about)\s+)?"
        rf"({_POINT}|(?:{LOOSE_CLOCK})(?:\s+{_ON}(?:{DAY}|{PART}))?)",
        text,
    ):
        point = read_point(bare[1], clock)
        if re.fullmatch(r"\d+", bare[1]):
            return None
    if point is not None:
        return _whole(point, zone)
    for how, pattern in _PHRASES:
        found = pattern.fullmatch(text)
        span = None if found is None else _span_of(how, found, clock, zone)
        if span is not None:
            return TimePhrase(*span)
    return None


def _whole(point: Point, zone: tzinfo | None) -> TimePhrase:
    if point.stamp_ns is not None:
        return TimePhrase(point.stamp_ns, point.stamp_ns, is_point=True)
    if point.end is None:
        stamps = stamps_of(point.start, zone)
        return TimePhrase(
            stamps[0], stamps[-1], is_point=True, ambiguous=stamps if len(stamps) > 1 else ()
        )
    return TimePhrase(stamps_of(point.start, zone)[0], _last_of(point.end, zone))


def _last_of(end: datetime, zone: tzinfo | None) -> int:
    """Return the last nanosecond before `end`, where a span ends."""
    return stamps_of(end, zone)[-1] - 1


def _span_of(
    how: str, found: re.Match[str], clock: Now, zone: tzinfo | None
) -> tuple[int | None, int | None] | None:
    if how == "last":
        return _last_span(found, clock, zone)
    words = found.groupdict()
    date, a, b = (words.get(name) or "" for name in ("date", "a", "b"))
    if not date and how == "range" and (named := re.search(DAY, b)) and not re.search(DAY, a):
        date = named[0]  # "between 1 and 4 yesterday"
    first = read_point(f"{date} {a}", clock)
    if first is None:
        return None
    if how == "range":
        return _range(first, read_point(b, clock, beside=first), zone)
    whole = _whole(first, zone)
    if how == "since":
        return whole.start_ns, None
    if how == "at":
        slack = first.slack
        assert whole.start_ns is not None
        assert whole.end_ns is not None
        width = round(slack.total_seconds()) * NANOSECONDS
        return whole.start_ns - width, whole.end_ns + width
    day = (wall_time(whole.start_ns or 0, zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    if how == "after":
        # After a time of day is the rest of that day; after a day is everything since.
        end = _last_of(day + timedelta(days=1), zone) if first.within_a_day else None
        assert whole.end_ns is not None
        return whole.end_ns + (not whole.is_point), end
    return (stamps_of(day, zone)[0] if first.within_a_day else None), whole.start_ns


def _range(
    first: Point, last: Point | None, zone: tzinfo | None
) -> tuple[int | None, int | None] | None:
    if last is None:
        return None
    start, end = _whole(first, zone).start_ns, _whole(last, zone).end_ns
    if start is None or end is None:
        return None
    if start > end and last.end is None:
        # "Between 11 pm and 1 am" ends on the next day.
        end = _whole(Point(last.start + timedelta(days=1)), zone).end_ns or end
    return (start, end) if start <= end else None


def _last_span(
    found: re.Match[str], clock: Now, zone: tzinfo | None
) -> tuple[int | None, int | None] | None:
    number = amount_of(found["number"] or "one")
    if number is None:
        return None
    point = clock.ago(number, UNIT_OF[found["unit"]])
    now_ns = round(clock.moment.timestamp() * 1e6) * 1000
    if point is None:
        return None
    start = point.stamp_ns if point.stamp_ns is not None else stamps_of(point.start, zone)[0]
    return start, now_ns
