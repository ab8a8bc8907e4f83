"""Make a filter of the time that a question names: "did the door open yesterday at 3 pm?"."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone, tzinfo

from stream_vlm.local_time import local_zone, zone_of
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.time_phrases import find_time
from stream_vlm.time_words import CLOCK_EPOCH_NS
from stream_vlm.types import NANOSECONDS


def with_time(query: RecallQuery, now: datetime) -> RecallQuery:
    """Return `query` with the time in its words as a filter instead.

    A time range that the query has already is narrowed, never widened.

    Args:
        query: a question.
        now: when it is asked, with a zone.

    Raises:
        ZoneError: the time zone of this computer has no rules.
    """
    return _with_time(query, now, zone_of(now))


def with_time_at(query: RecallQuery, now_ns: int) -> RecallQuery:
    """Return the same as `with_time` for a question asked at `now_ns`, on the clock of the frames.

    A recording that counts from 0 has no times of day, so its questions stay as they are.

    Raises:
        ZoneError: the time zone of this computer has no rules.
    """
    if now_ns < CLOCK_EPOCH_NS:
        return query
    zone = local_zone()
    now = datetime.fromtimestamp(now_ns / NANOSECONDS, timezone.utc)
    return _with_time(query, now.astimezone(zone), zone)


def _with_time(query: RecallQuery, now: datetime, zone: tzinfo | None) -> RecallQuery:
    found = find_time(query.text, now, zone)
    if found is None:
        return query
    starts = [one for one in (query.start_ns, found.start_ns) if one is not None]
    ends = [one for one in (query.end_ns, found.end_ns) if one is not None]
    start, end = max(starts, default=None), min(ends, default=None)
    if start is not None and end is not None and start > end:
        return query  # the filter excludes the time that the words name
    return replace(query, text=found.rest, start_ns=start, end_ns=end)
