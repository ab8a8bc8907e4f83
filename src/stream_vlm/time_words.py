"""Moments and spans in the words that a model reads and a robot says: "12:03:10-12:03:14", "2 min
ago".
"""

from __future__ import annotations

from datetime import datetime

from stream_vlm.types import NANOSECONDS, RecalledLine

CLOCK_EPOCH_NS = 10 * 365 * 86400 * NANOSECONDS
"""Stamps below this (ten years) are counted from a recording's beginning, not from 1970."""


def moment(stamp_ns: int) -> str:
    """The local time of day of a stamp (int64 ns); where it counts from a recording's beginning,
    the time since then.
    """
    if stamp_ns < CLOCK_EPOCH_NS:
        minutes, seconds = divmod(stamp_ns // NANOSECONDS, 60)
        return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}"
    return datetime.fromtimestamp(stamp_ns // NANOSECONDS).strftime("%H:%M:%S")


def span(start_ns: int, end_ns: int) -> str:
    """From one stamp (ns) to the other; an instant, to the second, is said once."""
    start, end = moment(start_ns), moment(end_ns)
    return end if start == end else f"{start}-{end}"


def age(stamp_ns: int, now_ns: int) -> str:
    """How long before `now_ns` a stamp was (both ns); empty where it was not before: another clock
    stamped it.
    """
    seconds = (now_ns - stamp_ns) // NANOSECONDS
    if seconds < 0:
        return ""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"


def line(one: RecalledLine, now_ns: int | None = None) -> str:
    """`one` in one line, with its age at `now_ns` (ns) where that is given."""
    old = age(one.end_ns, now_ns) if now_ns is not None else ""
    text = " ".join(one.text.split())
    return f"{span(one.start_ns, one.end_ns)}{f' ({old})' if old else ''} {text}"
