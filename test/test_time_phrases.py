"""Times in questions and on the command line, also across changes of daylight saving."""

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from stream_vlm.cli.options.times import TimeError, parse_time, show_span, show_time
from stream_vlm.time_phrases import find_time
from stream_vlm.types import NANOSECONDS

BERLIN = ZoneInfo("Europe/Berlin")
WEDNESDAY = datetime(2026, 6, 17, 16, 20, tzinfo=BERLIN)


def shown(stamp_ns: int | None, zone: ZoneInfo = BERLIN) -> str | None:
    if stamp_ns is None:
        return None
    return datetime.fromtimestamp(stamp_ns // NANOSECONDS, zone).strftime("%m-%d %H:%M")


@pytest.mark.parametrize(
    ("text", "start", "end", "rest"),
    [
        ("did it ring at 3 pm?", "06-17 14:45", "06-17 15:15", "did it ring?"),
        ("did it ring at 3pm?", "06-17 14:45", "06-17 15:15", "did it ring?"),
        ("did it ring at 3 p.m. today?", "06-17 14:45", "06-17 15:15", "did it ring?"),
        ("did it ring yesterday at 3 pm?", "06-16 14:45", "06-16 15:15", "did it ring?"),
        ("did it ring at 15.30?", "06-17 15:25", "06-17 15:35", "did it ring?"),
        ("did it ring at 15h30?", "06-17 15:25", "06-17 15:35", "did it ring?"),
        ("did it ring at 5 pm?", "06-16 16:45", "06-16 17:15", "did it ring?"),
        ("did it ring at half past 2?", "06-17 14:25", "06-17 14:35", "did it ring?"),
        ("did it ring between 1 and 4?", "06-17 13:00", "06-17 16:00", "did it ring?"),
        ("did it ring yesterday between 1 and 4?", "06-16 13:00", "06-16 16:00", "did it ring?"),
        ("did it ring from 10 to 2?", "06-17 10:00", "06-17 14:00", "did it ring?"),
        ("did it ring between 11 pm and 1 am?", "06-16 23:00", "06-17 01:00", "did it ring?"),
        ("did it ring this morning?", "06-17 05:00", "06-17 11:59", "did it ring?"),
        ("did it ring yesterday evening?", "06-16 18:00", "06-16 23:59", "did it ring?"),
        ("did it ring last night?", "06-16 18:00", "06-17 05:59", "did it ring?"),
        ("did it ring tonight?", "06-17 18:00", "06-18 05:59", "did it ring?"),
        ("did it ring at noon?", "06-17 11:45", "06-17 12:15", "did it ring?"),
        ("did it ring before lunch?", "06-17 00:00", "06-17 12:00", "did it ring?"),
        ("did it ring after lunch?", "06-17 13:00", "06-17 23:59", "did it ring?"),
        ("has it rung since yesterday?", "06-16 00:00", None, "has it rung?"),
        ("did it ring on Sunday?", "06-14 00:00", "06-14 23:59", "did it ring?"),
        ("did it ring last Wednesday?", "06-10 00:00", "06-10 23:59", "did it ring?"),
        ("did it ring on 29 March?", "03-29 00:00", "03-29 23:59", "did it ring?"),
        ("did it ring on March 29th at 4pm?", "03-29 15:45", "03-29 16:15", "did it ring?"),
        ("did it ring on 2026-03-29?", "03-29 00:00", "03-29 23:59", "did it ring?"),
        ("did it ring two days ago?", "06-15 00:00", "06-15 23:59", "did it ring?"),
        ("did it ring 1 week ago?", "06-10 00:00", "06-10 23:59", "did it ring?"),
        ("did it ring half an hour ago?", "06-17 15:45", "06-17 15:54", "did it ring?"),
        ("did it ring in the last two hours?", "06-17 14:20", "06-17 16:20", "did it ring?"),
    ],
)
def test_a_time_in_a_question_is_found_and_taken_out(
    text: str, start: str, end: str | None, rest: str
) -> None:
    found = find_time(text, WEDNESDAY, BERLIN)
    assert found is not None
    assert (shown(found.start_ns), shown(found.end_ns), found.rest) == (start, end, rest)


@pytest.mark.parametrize(
    "text",
    [
        "did anyone enter room 3?",
        "is it version 15.30?",
        "did 2 people enter?",
        "how many people sat at 3 tables?",
        "what stands between the cups?",
        "what happened before the door opened?",
        "may 5 people come in?",
        "do they march on?",
        "when did you last see the ball?",
        "was it there at 25:00?",
        "is the second ball red?",
    ],
)
def test_a_number_or_a_word_that_is_no_time_is_left_in_the_question(text: str) -> None:
    assert find_time(text, WEDNESDAY, BERLIN) is None


SUMMER = datetime(2026, 3, 30, 10, 0, tzinfo=BERLIN)
WINTER = datetime(2026, 10, 26, 10, 0, tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("words", "now", "instant"),
    [
        ("yesterday 15:00", SUMMER, (2026, 3, 29, 13)),
        ("2026-03-28 15:00", SUMMER, (2026, 3, 28, 14)),
        ("last Saturday at 3 pm", SUMMER, (2026, 3, 28, 14)),
        ("yesterday", SUMMER, (2026, 3, 28, 23)),
        ("1 week ago", SUMMER, (2026, 3, 23, 9)),
        ("7 days ago", SUMMER, (2026, 3, 23, 9)),
        ("48 hours ago", SUMMER, (2026, 3, 28, 8)),
        ("yesterday 2:30", SUMMER, (2026, 3, 29, 1)),
        ("yesterday 15.30", WINTER, (2026, 10, 25, 14, 30)),
        ("2026-10-24 15:00", WINTER, (2026, 10, 24, 13)),
        ("24 hours ago", WINTER, (2026, 10, 25, 9)),
        ("1 day ago", WINTER, (2026, 10, 25, 9)),
        ("2026-10-25 02:30+01:00", WINTER, (2026, 10, 25, 1, 30)),
    ],
)
def test_the_rules_of_the_date_count_and_not_those_of_today(
    words: str, now: datetime, instant: tuple[int, ...]
) -> None:
    wanted = datetime(*instant, tzinfo=timezone.utc)  # type: ignore[arg-type,misc]
    assert parse_time(words, now) == int(wanted.timestamp()) * NANOSECONDS


def test_a_span_begins_or_ends_the_range() -> None:
    def at(words: str, *, as_end: bool) -> str | None:
        return shown(parse_time(words, WINTER, as_end=as_end))

    assert at("2026-10-25", as_end=False) == "10-25 00:00"
    assert at("2026-10-25", as_end=True) == "10-25 23:59"
    day = parse_time("2026-10-25", WINTER, as_end=True) - parse_time("2026-10-25", WINTER)
    assert day == 25 * 3600 * NANOSECONDS - 1
    assert at("this morning", as_end=False) == "10-26 05:00"
    assert at("this morning", as_end=True) == "10-26 11:59"
    assert at("after lunch", as_end=False) == "10-26 13:00"


def test_a_time_shown_twice_covers_both_or_is_refused_with_both_ways_to_write_it() -> None:
    first = parse_time("yesterday 2:30", WINTER)
    last = parse_time("yesterday 2:30", WINTER, as_end=True)
    assert last - first == 3600 * NANOSECONDS
    with pytest.raises(TimeError) as refused:
        parse_time("yesterday 2:30", WINTER, refuse_ambiguous=True)
    both = [show_time(stamp_ns, BERLIN) for stamp_ns in (first, last)]
    assert both == ["2026-10-25 02:30:00+02:00", "2026-10-25 02:30:00+01:00"]
    assert all(f"'{one}'" in str(refused.value) for one in both)
    assert [parse_time(one, WINTER, refuse_ambiguous=True) for one in both] == [first, last]


def test_hours_and_minutes_with_a_dot_are_a_time_of_day_and_other_numbers_are_seconds() -> None:
    assert shown(parse_time("15.30", WEDNESDAY)) == "06-17 15:30"
    assert parse_time("15.30 s", WEDNESDAY) == 15_300_000_000
    assert parse_time("12.5", WEDNESDAY) == 12_500_000_000
    assert parse_time("90.30", WEDNESDAY) == 90_300_000_000


def test_a_fixed_offset_of_another_place_is_kept() -> None:
    now = datetime(2026, 6, 17, 16, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    wanted = datetime(2026, 6, 17, 15, tzinfo=now.tzinfo)
    assert parse_time("3 pm", now) == int(wanted.timestamp()) * NANOSECONDS


@pytest.mark.parametrize("words", ["3", "lunch room", "25 pm", "after", "31 June", "since", "0 am"])
def test_words_that_name_no_time_are_refused(words: str) -> None:
    if words == "3":
        assert parse_time(words, WEDNESDAY) == 3 * NANOSECONDS
        return
    with pytest.raises(TimeError, match="is not a time"):
        parse_time(words, WEDNESDAY)


def test_a_span_shows_the_date_once() -> None:
    stamp = parse_time("2026-01-31 14:05:30", WEDNESDAY)
    assert show_span(stamp, stamp + NANOSECONDS)[-8:].count(":") == 2
