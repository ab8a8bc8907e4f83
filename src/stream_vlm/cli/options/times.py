"""Parse times as people write them, and print stamps (int64 ns) the same way."""

from __future__ import annotations

import contextlib
import re
from datetime import datetime, tzinfo

from stream_vlm.local_time import offset_if_ambiguous, shown_zone, wall_time, zone_of
from stream_vlm.time_phrases import read_time
from stream_vlm.time_words import CLOCK_EPOCH_NS
from stream_vlm.types import NANOSECONDS, StreamError

EXAMPLES = (
    "'14:05', '3 pm', '2026-01-31 14:05:30', 'yesterday 9:00', 'last Tuesday', 'this morning',"
    " '10 min ago', '1 week ago', 'now', or seconds of a recording that starts at 0 such as 12.5"
)


class TimeError(StreamError):
    """Words that are not a time; the message shows how times are written."""


def parse_time(
    words: str, now: datetime, *, as_end: bool = False, refuse_ambiguous: bool = False
) -> int:
    """Return the time that `words` name, as int64 nanoseconds.

    A time without an offset is in the zone of `now`, by the zone's rules for that date.

    Args:
        words: the time.
        now: the present, with a zone. The offset of this computer's zone means that zone.
        as_end: whether it ends a range. Then a span such as "yesterday" means its end, and a time
            that the clock shows twice means the second one; else it is the beginning, the first.
        refuse_ambiguous: refuse a time that the clock shows twice.

    Raises:
        TimeError: the words are not a time, or an ambiguous one is refused.
        ZoneError: the time zone of this computer has no rules.
    """
    text = " ".join(words.lower().split())
    dotted = re.fullmatch(r"(\d{1,2})\.(\d{2})", text)
    is_clock = dotted is not None and int(dotted[1]) < 24 and int(dotted[2]) < 60
    if not is_clock and re.fullmatch(r"\d+(\.\d+)?( ?s)?", text):
        return round(float(text.rstrip(" s")) * NANOSECONDS)
    if text == "now":
        return _nanoseconds(now)
    with contextlib.suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(text.upper())
        if moment.tzinfo is not None:
            return _nanoseconds(moment)
    zone = zone_of(now)
    found = read_time(_without_t(text), now, zone)
    if found is None:
        raise TimeError(f"'{words}' is not a time; write {EXAMPLES}")
    if refuse_ambiguous and found.ambiguous:
        both = " or ".join(f"'{show_time(stamp_ns, zone)}'" for stamp_ns in found.ambiguous)
        raise TimeError(f"'{words}' is on the clock twice; write {both}")
    stamp_ns = found.end_ns if as_end else found.start_ns
    if stamp_ns is None:
        raise TimeError(f"'{words}' has no {'end' if as_end else 'beginning'}; write {EXAMPLES}")
    return stamp_ns


def _without_t(text: str) -> str:
    return re.sub(r"^(\d{4}-\d{2}-\d{2})t(?=\d)", r"\1 ", text)


def show_time(stamp_ns: int, zone: tzinfo | None = None) -> str:
    """Return a stamp as local date and time, or as seconds from the start of a recording.

    A time that the clock shows twice has its offset: "2026-10-25 02:30:00+02:00".
    """
    if stamp_ns < CLOCK_EPOCH_NS:
        return f"{stamp_ns / NANOSECONDS:.1f} s"
    zone = zone or shown_zone()
    offset = offset_if_ambiguous(stamp_ns, zone)
    return f"{wall_time(stamp_ns, zone):%Y-%m-%d %H:%M:%S}{offset}"


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
