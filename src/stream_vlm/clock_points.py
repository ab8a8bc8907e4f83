"""One point in time in English words as wall-clock times: "3 pm", "last Tuesday", "noon"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

UNIT_OF = {
    **dict.fromkeys(("seconds", "second", "secs", "sec", "s"), "second"),
    **dict.fromkeys(("minutes", "minute", "mins", "min", "m"), "minute"),
    **dict.fromkeys(("hours", "hour", "hrs", "hr", "h"), "hour"),
    **dict.fromkeys(("days", "day", "d"), "day"),
    **dict.fromkeys(("weeks", "week", "w"), "week"),
    **dict.fromkeys(("months", "month"), "month"),
    **dict.fromkeys(("years", "year", "y"), "year"),
}
_ELAPSED = {"second": 1, "minute": 60, "hour": 3600}
_CALENDAR_DAYS = {"day": 1, "week": 7}

_COUNTED = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {
    **{name: float(number) for number, name in enumerate((*_COUNTED, "eleven", "twelve"), 1)},
    **{"a": 1.0, "an": 1.0, "half": 0.5, "half a": 0.5, "half an": 0.5, "a couple of": 2.0},
}
_NUMBERS |= {"couple of": 2.0, "a quarter of": 0.25, "a quarter": 0.25, "quarter": 0.25}

PARTS = {
    "morning": (5, 12),
    "noon": (12, 12),
    "midday": (12, 12),
    "midnight": (0, 0),
    "lunch": (12, 13),
    "lunchtime": (12, 13),
    "afternoon": (12, 18),
    "evening": (18, 24),
    "night": (18, 30),
}
"""Parts of a day, in hours of its wall clock; 30 is 6 h of the next day."""

_WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_MONTHS = ["january", "february", "march", "april", "may", "june", "july", "august"]
_MONTHS += ["september", "october", "november", "december"]
_MONTH = "|".join(f"{name}|{name[:3]}" for name in _MONTHS)
_AMOUNT = rf"(?:\d+(?:\.\d+)?|{'|'.join(sorted(_NUMBERS, key=len, reverse=True))})"

AGO = rf"(?:{_AMOUNT}\s*(?:{'|'.join(UNIT_OF)})\s+ago)"
_AM = r"(?:\s*(?:a\.m\.?|p\.m\.?|am|pm)(?![a-z]))"
_PAST = r"(?:half\s+past|quarter\s+past|quarter\s+to)\s+\d{1,2}"
CLOCK = (
    rf"(?:\d{{1,2}}(?:[:.h]\d{{2}})?(?::\d{{2}})?{_AM}|\d{{1,2}}:\d{{2}}(?::\d{{2}})?(?![:\d])"
    rf"|{_PAST}{_AM}?|\d{{1,2}}\s*o'?clock|(?:noon|midday|midnight)\b)"
)
"""A time of day wherever it stands."""

LOOSE_CLOCK = r"(?:\d{1,2}[.h]\d{2}(?![.\d])|\d{1,2}(?![.:\d\w]))"
"""A time of day only after a word such as "at"."""

DAY = (
    r"(?:(?:the\s+)?day\s+before\s+yesterday|yesterday|today"
    rf"|(?:last\s+|this\s+)?(?:{'|'.join(_WEEKDAYS)})"
    r"|\d{4}-\d{2}-\d{2}"
    rf"|\d{{1,2}}(?:st|nd|rd|th)?\s+(?:of\s+)?(?:{_MONTH})\b\.?(?:,?\s+\d{{4}})?"
    rf"|(?:{_MONTH})\.?\s+\d{{1,2}}(?:st|nd|rd|th)?(?![\d:])(?:,?\s+\d{{4}}\b)?"
    # "It may 5 times" is no date.
    r"(?=\s*(?:$|[?!.,;]|\d{1,2}\s*(?:[:.h]\d|[ap]\.?m)"
    r"|(?:at|in|from|between|after|before|around|and|to|until)\b))"
    r"|(?:this|last)\s+(?:week|month|year))"
)
PART = (
    r"(?:last\s+night|tonight|(?:this\s+|the\s+)?(?:morning|afternoon|evening)"
    r"|(?:the\s+)?night|(?:lunch(?:time)?|noon|midday|midnight)\b)"
)


@dataclass(frozen=True)
class Point:
    """A moment or a span of the wall clock.

    Attributes:
        start: its beginning, without a zone.
        end: its end, or None for a moment.
        stamp_ns: of elapsed time ("3 hours ago"), ns since 1970; else None.
        slack: how much before and after a moment a question means as well.
        within_a_day: whether it is shorter than a day.
    """

    start: datetime
    end: datetime | None = None
    stamp_ns: int | None = None
    slack: timedelta = timedelta(0)
    within_a_day: bool = True


@dataclass(frozen=True)
class Now:
    """The present.

    Attributes:
        moment: with a zone.
        wall: the same on the wall clock, without a zone.
        in_past: whether a time of day without a date is the last one before now, as in questions.
    """

    moment: datetime
    wall: datetime
    in_past: bool

    @property
    def today(self) -> datetime:
        """The beginning of today on the wall clock."""
        return self.wall.replace(hour=0, minute=0, second=0, microsecond=0)

    def ago(self, number: float, unit: str) -> Point | None:
        """Return the point that is `number` units before now, None if there is no such date."""
        try:
            if unit in _ELAPSED or number != int(number):
                seconds = {**_ELAPSED, "day": 86400, "week": 7 * 86400}.get(unit)
                if seconds is None:
                    return None
                lasted = timedelta(seconds=number * seconds)
                stamp_ns = round((self.moment.timestamp() - lasted.total_seconds()) * 1e6) * 1000
                slack = max(timedelta(minutes=1), 0.15 * lasted)
                return Point(self.wall - lasted, None, max(stamp_ns, -(2**62)), slack)
            if unit in _CALENDAR_DAYS:
                return Point(self.wall - timedelta(days=number * _CALENDAR_DAYS[unit]))
            months = int(number) * (12 if unit == "year" else 1)
            year, month = divmod(self.wall.year * 12 + self.wall.month - 1 - months, 12)
            for day in range(self.wall.day, 27, -1):
                try:
                    return Point(self.wall.replace(year=year, month=month + 1, day=day))
                except ValueError:  # that month is shorter
                    continue
            return Point(self.wall.replace(year=year, month=month + 1))
        except (ValueError, OverflowError):
            return None


def amount_of(words: str) -> float | None:
    """Return the number that `words` name ("3", "half an", "a couple of"), or None."""
    words = " ".join(words.split())
    if words in _NUMBERS:
        return _NUMBERS[words]
    return float(words) if re.fullmatch(r"\d+(?:\.\d+)?", words) else None


def read_point(words: str, now: Now, beside: Point | None = None) -> Point | None:
    """Return the point that `words` name, or None if there is no such time.

    Args:
        words: in lower case, as one of the expressions above matches them.
        now: the present.
        beside: the first point of "between ... and ..."; this one is on the same day unless it
            names another.
    """
    text = re.sub(r"\b(?:at|on|around|about|during|of|from|in)\b", " ", f" {words} ")
    text = " ".join(text.replace(",", " ").split())
    if ago := re.fullmatch(rf"({_AMOUNT})\s*({'|'.join(UNIT_OF)})\s+ago", text):
        number = amount_of(ago[1])
        point = None if number is None else now.ago(number, UNIT_OF[ago[2]])
        if point is not None and point.stamp_ns is None and now.in_past:
            return _whole_day(point.start)
        return point
    try:
        return _read_date_and_clock(text, now, beside)
    except (ValueError, OverflowError):
        return None


def _whole_day(day: datetime, days: int = 1) -> Point:
    start = day.replace(hour=0, minute=0, second=0, microsecond=0)
    return Point(start, start + timedelta(days=days), within_a_day=False)


def _read_date_and_clock(text: str, now: Now, beside: Point | None) -> Point | None:
    day: Point | None = None
    if found := re.search(rf"(?<![\w.:]){DAY}(?!\w)", text):
        day = _day(re.sub(r"^the\s+", "", found[0]), now)
        text = f"{text[: found.start()]} {text[found.end() :]}".strip()
    part = ""
    if found := re.search(rf"\b{PART}(?!\w)", text):
        words = found[0]
        part = words.split()[-1]
        if words == "last night":
            day = Point(now.today - timedelta(days=1))
        elif words == "tonight":
            day, part = Point(now.today), "night"
        elif words.startswith("this "):
            day = Point(now.today)
        text = f"{text[: found.start()]} {text[found.end() :]}".strip()
    start = None if day is None else day.start
    if text in ("", "the"):
        if not part:
            return day
        return _part(part, start, now, beside)
    clock = _clock(text, part)
    if clock is None:
        return None
    return _at_clock(clock, start, part, now, beside)


def _part(part: str, day: datetime | None, now: Now, beside: Point | None) -> Point:
    first, last = PARTS[part]
    date = day or (beside.start if beside else now.today)
    date = date.replace(hour=0, minute=0, second=0, microsecond=0)
    if day is None and now.in_past and date + timedelta(hours=first) > now.wall:
        date -= timedelta(days=1)
    start = date + timedelta(hours=first)
    if first == last:
        return Point(start, slack=timedelta(minutes=15))
    return Point(start, date + timedelta(hours=last))


def _at_clock(
    clock: tuple[timedelta, bool, bool],
    day: datetime | None,
    part: str,
    now: Now,
    beside: Point | None,
) -> Point:
    offset, is_bare, has_minutes = clock
    slack = timedelta(minutes=5 if has_minutes else 15)
    date = day or (beside.start if beside else now.today)
    date = date.replace(hour=0, minute=0, second=0, microsecond=0)
    twelve = timedelta(hours=12)
    if is_bare and offset < timedelta(hours=13):
        offset %= twelve
        if beside and not day:
            # "Between 11 and 1": the first one after it.
            while date + offset < beside.start:
                offset += twelve
            return Point(date + offset, slack=slack)
        if day:
            offset += twelve if offset < timedelta(hours=7) else timedelta(0)
        else:
            latest = [
                date + hours + offset
                for hours in (twelve, timedelta(0), -twelve)
                if date + hours + offset <= now.wall
            ]
            return Point(latest[0], slack=slack)
    start = date + offset
    if day is None and beside is None and now.in_past and start > now.wall:
        start -= timedelta(days=1)
    return Point(start, slack=slack)


def _clock(text: str, part: str) -> tuple[timedelta, bool, bool] | None:
    """Return the time since midnight, whether morning or afternoon is open, and if it has minutes.

    Raises:
        ValueError: there is no such time of day.
    """
    minutes_off = 0
    if found := re.match(r"(half|quarter)\s+(past|to)\s+", text):
        minutes_off = {"half past": 30, "quarter past": 15, "quarter to": -15}[
            f"{found[1]} {found[2]}"
        ]
        text = text[found.end() :]
    shape = re.fullmatch(
        r"(\d{1,2})(?:[:.h](\d{2}))?(?::(\d{2}))?(?:h|\s*o'?clock)?"
        r"(?:\s*(a\.m\.?|p\.m\.?|am|pm))?",
        text,
    )
    if shape is None:
        return None
    hour, minute, second = (int(number or 0) for number in shape.group(1, 2, 3))
    half = (shape[4] or "")[:1]
    if not half and part in ("afternoon", "evening", "night", "lunch") and 1 <= hour < 12:
        half = "p" if part != "night" or hour >= 6 else "a"
    if not half and part == "morning" and hour <= 12:
        half = "a"
    if half:
        if not 1 <= hour <= 12 and not (hour > 12 and half == "p"):
            raise ValueError(text)
        hour = hour if hour > 12 else hour % 12 + (12 if half == "p" else 0)
    if hour > 24 or minute > 59 or second > 59 or (hour == 24 and minute + second):
        raise ValueError(text)
    has_minutes = shape[2] is not None or minutes_off != 0
    is_bare = not half and shape[2] is None and hour <= 12
    at = timedelta(hours=hour, minutes=minute + minutes_off, seconds=second)
    return at, is_bare, has_minutes


def _day(words: str, now: Now) -> Point:
    """Return the day that `words` name.

    Raises:
        ValueError: there is no such day.
    """
    today = now.today
    if words == "today":
        return _whole_day(today)
    if words == "yesterday":
        return _whole_day(today - timedelta(days=1))
    if words == "day before yesterday":
        return _whole_day(today - timedelta(days=2))
    if named := re.fullmatch(rf"(last\s+|this\s+)?({'|'.join(_WEEKDAYS)})", words):
        back = (today.weekday() - _WEEKDAYS.index(named[2])) % 7
        if not back and (named[1] or "").startswith("last"):
            back = 7
        return _whole_day(today - timedelta(days=back))
    if named := re.fullmatch(r"(this|last)\s+(week|month|year)", words):
        return _period(named[1] == "last", named[2], today)
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", words):
        return _whole_day(datetime.fromisoformat(words))
    number = re.search(r"(?<!\d)\d{1,2}(?!\d)", words)
    year = re.search(r"\d{4}", words)
    month = re.search(rf"\b({'|'.join(name[:3] for name in _MONTHS)})", words)
    if number is None or month is None:
        raise ValueError(words)
    at = [name[:3] for name in _MONTHS].index(month[1]) + 1
    day = datetime(int(year[0]) if year else today.year, at, int(number[0]))
    return _whole_day(day if year or day <= today else day.replace(year=day.year - 1))


def _period(is_last: bool, unit: str, today: datetime) -> Point:
    if unit == "week":
        start = today - timedelta(days=today.weekday())
        start, end = (start - timedelta(days=7), start) if is_last else (start, None)
    elif unit == "month":
        start = today.replace(day=1)
        before = (start - timedelta(days=1)).replace(day=1)
        start, end = (before, start) if is_last else (start, None)
    else:
        start = today.replace(month=1, day=1)
        start, end = (start.replace(year=start.year - 1), start) if is_last else (start, None)
    return Point(start, end or today + timedelta(days=1), within_a_day=False)
