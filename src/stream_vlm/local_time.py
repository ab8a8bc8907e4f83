"""Wall-clock times of this computer's time zone, by the rules of the zone for each date.

Around a change of daylight saving an offset of today is wrong for another date, one hour exists
twice, and one does not exist.
"""

from __future__ import annotations

import os
import re
import zoneinfo
from datetime import datetime, timedelta, timezone, tzinfo

from stream_vlm.types import NANOSECONDS, StreamError

_POSIX_RULE = re.compile(r"<?[A-Za-z+\-0-9]{3,}>?[+-]?\d")
"""A rule in the variable TZ instead of a name: "CET-1CEST,M3.5.0,M10.5.0/3"."""


class ZoneError(StreamError):
    """The time zone has no rules on this computer; the message says what to install."""


def local_zone() -> tzinfo | None:
    """Return the zone that the variable TZ names, or None for the system's own zone.

    Raises:
        ZoneError: TZ names a zone that this computer has no rules for. The system would count in
            UTC without saying so.
    """
    name = os.environ.get("TZ", "").removeprefix(":")
    if not name or name.startswith("/"):
        return None
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        if _POSIX_RULE.match(name):
            return None
        raise ZoneError(
            f"TZ: no rules for the time zone '{name}'; install tzdata ('apt install tzdata' or"
            " 'pip install tzdata'), or correct the name"
        ) from error


def shown_zone() -> tzinfo | None:
    """Return the zone in which times are printed: the local one, or UTC where it has no rules."""
    try:
        return local_zone()
    except ZoneError:
        return timezone.utc


def zone_of(now: datetime) -> tzinfo | None:
    """Return the zone in which times beside `now` are meant; None is the system's own.

    `datetime.now().astimezone()` has a fixed offset, which is right for today only. Such a time is
    taken as local if the local zone has this offset at that moment.
    """
    if now.tzinfo is None:
        return local_zone()
    if not isinstance(now.tzinfo, timezone):
        return now.tzinfo
    zone = local_zone()
    return zone if now.astimezone(zone).utcoffset() == now.utcoffset() else now.tzinfo


def wall_time(stamp_ns: int, zone: tzinfo | None) -> datetime:
    """Return what the clock on the wall shows at `stamp_ns` (ns), without a zone."""
    return datetime.fromtimestamp(stamp_ns // NANOSECONDS, timezone.utc).astimezone(zone).replace(
        tzinfo=None
    ) + timedelta(microseconds=stamp_ns % NANOSECONDS // 1000)


def stamps_of(wall: datetime, zone: tzinfo | None) -> tuple[int, ...]:
    """Return when the clock on the wall shows `wall` (naive): ns since 1970, ascending.

    That is once, or twice in the hour that is repeated when the clock is put back. A time that is
    left out when the clock is put forward is the moment of the change.
    """
    wall = wall.replace(fold=0)
    both = sorted({_nanoseconds(_in_zone(wall.replace(fold=fold), zone)) for fold in (0, 1)})
    shown = tuple(one for one in both if wall_time(one, zone) == wall)
    return shown or (_change_between(both[0], both[-1], zone),)


def start_of_day(day: datetime, zone: tzinfo | None) -> int:
    """Return when the day of the naive `day` begins, ns. A day can have 23, 24 or 25 hours."""
    return stamps_of(day.replace(hour=0, minute=0, second=0, microsecond=0), zone)[0]


def offset_if_ambiguous(stamp_ns: int, zone: tzinfo | None) -> str:
    """Return the offset from UTC, "+02:00", if it is needed to read the time, else nothing.

    It is needed in the hour that is repeated, and where the local zone has no rules.
    """
    second = stamp_ns - stamp_ns % NANOSECONDS
    if zone is not timezone.utc and len(stamps_of(wall_time(second, zone), zone)) == 1:
        return ""
    return (
        datetime.fromtimestamp(second // NANOSECONDS, timezone.utc)
        .astimezone(zone)
        .isoformat()[19:]
    )


def _in_zone(wall: datetime, zone: tzinfo | None) -> datetime:
    # Without a zone, Python asks the system for its rules at this date.
    return wall.astimezone() if zone is None else wall.replace(tzinfo=zone)


def _nanoseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6) * 1000


def _change_between(before_ns: int, after_ns: int, zone: tzinfo | None) -> int:
    """Return the first whole second after the clock was changed, ns."""
    low, high = before_ns // NANOSECONDS, after_ns // NANOSECONDS

    def offset(second: int) -> timedelta | None:
        return datetime.fromtimestamp(second, timezone.utc).astimezone(zone).utcoffset()

    first = offset(low)
    while high - low > 1:
        middle = (low + high) // 2
        if offset(middle) == first:
            low = middle
        else:
            high = middle
    return high * NANOSECONDS
