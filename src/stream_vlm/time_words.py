"""Write stamps, spans and ages as text: "12:03:10-12:03:14", "2 min ago"."""

from __future__ import annotations

from stream_vlm.local_time import offset_if_ambiguous, shown_zone, wall_time
from stream_vlm.types import NANOSECONDS, RecalledLine

CLOCK_EPOCH_NS = 10 * 365 * 86400 * NANOSECONDS
"""Smaller stamps (under ten years) count from the start of a recording, not from 1970."""


def moment(stamp_ns: int) -> str:
    """Return a stamp (int64 ns) as local time of day, "12:03:10".

    In the hour that a change of daylight saving repeats, the offset follows: "02:30:00+02:00".
    A stamp below `CLOCK_EPOCH_NS` is written as the time since the start of the recording.
    """
    if stamp_ns < CLOCK_EPOCH_NS:
        minutes, seconds = divmod(stamp_ns // NANOSECONDS, 60)
        return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}"
    zone = shown_zone()
    return f"{wall_time(stamp_ns, zone):%H:%M:%S}{offset_if_ambiguous(stamp_ns, zone)}"


def span(start_ns: int, end_ns: int) -> str:
    """Return a span (ns) as "12:03:10-12:03:14", or one time if both fall in the same second."""
    start, end = moment(start_ns), moment(end_ns)
    return end if start == end else f"{start}-{end}"


def age(stamp_ns: int, now_ns: int) -> str:
    """Return how long before `now_ns` a stamp was (both ns), for example "2 min ago".

    Empty if the stamp is later than `now_ns`: then it comes from another clock.
    """
    seconds = (now_ns - stamp_ns) // NANOSECONDS
    if seconds < 0:
        return ""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"


def line(one: RecalledLine, now_ns: int | None = None) -> str:
    """Return a recalled line as text: span, age at `now_ns` (ns) if given, and words."""
    old = age(one.end_ns, now_ns) if now_ns is not None else ""
    text = " ".join(one.text.split())
    return f"{span(one.start_ns, one.end_ns)}{f' ({old})' if old else ''} {text}"
