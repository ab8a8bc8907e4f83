"""Wall-clock times around changes of daylight saving, in several zones."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from stream_vlm.local_time import (
    ZoneError,
    local_zone,
    offset_if_ambiguous,
    stamps_of,
    start_of_day,
    wall_time,
    zone_of,
)
from stream_vlm.time_words import moment
from stream_vlm.types import NANOSECONDS

UseZone = Callable[[str], None]


@pytest.fixture
def use_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[UseZone]:
    """Set the time zone of this process; it is set back at the end."""

    def use(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield use
    monkeypatch.undo()
    time.tzset()


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    at = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    return int(at.timestamp()) * NANOSECONDS


@pytest.mark.parametrize(
    ("zone", "wall", "stamps"),
    [
        ("Europe/Berlin", (2026, 3, 28, 15), [(2026, 3, 28, 14)]),
        ("Europe/Berlin", (2026, 3, 29, 15), [(2026, 3, 29, 13)]),
        ("Europe/Berlin", (2026, 3, 29, 2, 30), [(2026, 3, 29, 1)]),
        ("Europe/Berlin", (2026, 10, 25, 2, 30), [(2026, 10, 25, 0, 30), (2026, 10, 25, 1, 30)]),
        ("America/New_York", (2026, 3, 8, 2, 1), [(2026, 3, 8, 7)]),
        ("America/New_York", (2026, 11, 1, 1, 30), [(2026, 11, 1, 5, 30), (2026, 11, 1, 6, 30)]),
        ("Australia/Lord_Howe", (2026, 10, 4, 2, 15), [(2026, 10, 3, 15, 30)]),
        ("Australia/Lord_Howe", (2026, 4, 5, 1, 45), [(2026, 4, 4, 14, 45), (2026, 4, 4, 15, 15)]),
        ("Asia/Kolkata", (2026, 3, 29, 2, 30), [(2026, 3, 28, 21)]),
        ("Pacific/Apia", (2011, 12, 30, 12), [(2011, 12, 30, 10)]),
    ],
)
def test_a_time_of_day_is_once_twice_or_the_moment_of_the_change(
    use_zone: UseZone,
    zone: str,
    wall: tuple[int, ...],
    stamps: list[tuple[int, ...]],
) -> None:
    wanted = tuple(utc(*one) for one in stamps)
    at = datetime(*wall)  # type: ignore[arg-type]
    assert stamps_of(at, ZoneInfo(zone)) == wanted
    use_zone(zone)
    assert stamps_of(at, None) == wanted
    assert stamps_of(at, local_zone()) == wanted


@pytest.mark.parametrize(
    ("day", "hours"), [((2026, 3, 29), 23), ((2026, 10, 25), 25), ((2026, 6, 1), 24)]
)
def test_a_day_lasts_until_the_next_midnight(day: tuple[int, int, int], hours: int) -> None:
    zone, first = ZoneInfo("Europe/Berlin"), datetime(*day)
    lasted = start_of_day(first + timedelta(days=1), zone) - start_of_day(first, zone)
    assert lasted == hours * 3600 * NANOSECONDS


def test_a_time_that_is_shown_twice_is_printed_with_its_offset(use_zone: UseZone) -> None:
    use_zone("Europe/Berlin")
    assert moment(utc(2026, 10, 25, 0, 30)) == "02:30:00+02:00"
    assert moment(utc(2026, 10, 25, 1, 30)) == "02:30:00+01:00"
    assert moment(utc(2026, 10, 25, 2, 30)) == "03:30:00"
    assert offset_if_ambiguous(utc(2026, 3, 29, 1), None) == ""


def test_the_offset_of_today_stands_for_the_local_zone_only_where_it_is_its_own(
    use_zone: UseZone,
) -> None:
    use_zone("Europe/Berlin")
    assert zone_of(datetime(2026, 7, 1, 12).astimezone()) == ZoneInfo("Europe/Berlin")
    five = timezone(timedelta(hours=5))
    assert zone_of(datetime(2026, 7, 1, 12, tzinfo=five)) == five


def test_a_rule_in_the_variable_tz_is_followed(use_zone: UseZone) -> None:
    use_zone("CET-1CEST,M3.5.0,M10.5.0/3")
    assert local_zone() is None
    assert stamps_of(datetime(2026, 3, 29, 15), None) == (utc(2026, 3, 29, 13),)


def test_a_zone_without_rules_is_refused_with_the_remedy_and_printed_in_utc(
    use_zone: UseZone,
) -> None:
    use_zone("Europe/Atlantis")
    with pytest.raises(ZoneError, match=r"'Europe/Atlantis'; install tzdata"):
        local_zone()
    assert moment(utc(2026, 7, 1, 12)) == "12:00:00+00:00"


def test_the_wall_shows_microseconds() -> None:
    assert wall_time(utc(2026, 7, 1) + 1_500_000, timezone.utc) == datetime(
        2026, 7, 1, 0, 0, 0, 1500
    )
