"""Parse times as people write them, and print stamps (int64 ns) the same way."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from stream_vlm.time_words import CLOCK_EPOCH_NS
from stream_vlm.types import NANOSECONDS, StreamError

UNITS = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "m": 60,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86400,
    "day": 86400,
}
EXAMPLES = (
    "'14:05', '2026-01-31 14:05:30', 'yesterday 9:00', '10 min ago', 'now', or seconds of a"
    " recording that starts at 0 such as 12.5"
)


class TimeError(StreamError):
    """Words that are not a time; the message shows how times are written."""


def parse_time(words: str, now: datetime) -> int:
    """Return the time that `words` name, as int64 nanoseconds.

    A date without a time zone is in this computer's time zone.

    Raises:
        TimeError: the words are not a time.
    """
    text = " ".join(words.lower().split())
    if re.fullmatch(r"\d+(\.\d+)?( ?s)?", text):
        return round(float(text.rstrip(" s")) * NANOSECONDS)
    if text == "now":
        return _nanoseconds(now)
    ago = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]+?)s? ago", text)
    day = re.fullmatch(r"(?:(today|yesterday) ?)?(?:(\d{1,2}):(\d{2})(?::(\d{2}))?)?", text)
    try:
        if ago and ago[2] in UNITS:
            return _nanoseconds(now - timedelta(seconds=float(ago[1]) * UNITS[ago[2]]))
        if day and text:
            start = now.replace(
                hour=int(day[2] or 0),
                minute=int(day[3] or 0),
                second=int(day[4] or 0),
                microsecond=0,
            )
            return _nanoseconds(start - timedelta(days=day[1] == "yesterday"))
        moment = datetime.fromisoformat(text.upper())
        return _nanoseconds(moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo))
    except (ValueError, OverflowError) as error:
        raise TimeError(f"'{words}' is not a time; write {EXAMPLES}") from error


def show_time(stamp_ns: int) -> str:
    """Return a stamp as local date and time, or as seconds from the start of a recording."""
    if stamp_ns < CLOCK_EPOCH_NS:
        return f"{stamp_ns / NANOSECONDS:.1f} s"
    return datetime.fromtimestamp(stamp_ns / NANOSECONDS).strftime("%Y-%m-%d %H:%M:%S")


def show_span(start_ns: int, end_ns: int) -> str:
    """Return a span as text; a date that start and end share is written once."""
    start, end = show_time(start_ns), show_time(end_ns)
    if start == end:
        return end
    if start_ns < CLOCK_EPOCH_NS:
        return f"{start.removesuffix(' s')} - {end}"
    return f"{start} - {end[11:] if start[:10] == end[:10] else end}"


def _nanoseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6) * 1000
