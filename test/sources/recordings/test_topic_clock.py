"""A topic's clock is chosen by all its messages; what is off it is few, and is known."""

from __future__ import annotations

import numpy as np
import pytest

from stream_vlm.sources.recordings.topic_clock import (
    TopicTimes,
    choose_clock,
    clocks_apart_s,
    in_words,
    share_one_clock,
)
from stream_vlm.types import NANOSECONDS

WALL = 1_700_000_000.0
STEADY = [index / 2 for index in range(40)]


def times(header: list[float], recorded: list[float] | None = None) -> TopicTimes:
    recorded = [WALL + index / 2 for index in range(len(header))] if recorded is None else recorded
    return TopicTimes(
        np.array([round(time * NANOSECONDS) for time in recorded], np.int64),
        np.array([round(time * NANOSECONDS) for time in header], np.int64),
        np.ones(len(header), np.bool_),
    )


def with_glitches(changes: dict[int, float], base: float = WALL) -> list[float]:
    return [base + changes.get(index, 0.0) + time for index, time in enumerate(STEADY)]


SOUND = {
    "wall time": with_glitches({}),
    "simulation from 0": STEADY,
    "simulation from 0 at half speed": [time / 2 for time in STEADY],
    "simulation at ten times the speed": [time * 10 for time in STEADY],
    "time since boot": [5000 + time for time in STEADY],
    "from before 0 to after 0": [time - 10 for time in STEADY],
    "all before 0": [time - 1000 for time in STEADY],
    "some a little late": [time - 0.7 * (index % 7 == 3) for index, time in enumerate(STEADY)],
    "each stamp twice": [time // 1 for time in STEADY],
    "a simulation that paused": STEADY,
}
PAUSED = [WALL + time + 600 * (index > 20) for index, time in enumerate(STEADY)]


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_header_clock_is_kept_whole(name: str) -> None:
    clock = choose_clock(times(SOUND[name], PAUSED if "paused" in name else None))
    assert clock.by_header
    assert clock.kept.all()
    assert clock.stamps.tolist() == times(SOUND[name]).header.tolist()
    assert clock.remark == ""


HOUR, DAY = 3600.0, 86400.0


# A first or last stamp that is only a little apart is a pause, no glitch.
GLITCHES = [
    (jump, places)
    for jump in (HOUR, -HOUR, DAY, -DAY, 8.0, -8.0, 50 * 365 * DAY)
    for places in ([0], [1], [20], [38], [39], [5, 25], [7, 8, 9])
    if (jump, places) not in ((8.0, [39]), (-8.0, [0]))
]


@pytest.mark.parametrize("base", [WALL, 0.0])
@pytest.mark.parametrize(("jump", "places"), GLITCHES)
def test_a_glitch_is_left_out_and_nothing_else(base: float, jump: float, places: list[int]) -> None:
    clock = choose_clock(times(with_glitches(dict.fromkeys(places, jump), base)))
    assert clock.by_header
    assert np.flatnonzero(~clock.kept).tolist() == places


@pytest.mark.parametrize("places", [[0], [20], [39], [3, 4]])
def test_a_message_without_a_stamp_among_others_is_left_out(places: list[int]) -> None:
    header = with_glitches({})
    for place in places:
        header[place] = 0.0
    clock = choose_clock(times(header))
    assert np.flatnonzero(~clock.kept).tolist() == places


UNSOUND = {
    "no stamps": [0.0] * 40,
    "one and the same stamp": [5.0] * 40,
    "a simulation that starts again": STEADY[:20] * 2,
    "a simulation that starts again thrice": STEADY[:10] * 4,
    "a clock that was set after a while": [
        time + WALL * (index > 15) for index, time in enumerate(STEADY)
    ],
    "a clock that was set back": [
        WALL + time - HOUR * (index > 25) for index, time in enumerate(STEADY)
    ],
    "half of them without a stamp": [
        WALL + time if index % 2 else 0.0 for index, time in enumerate(STEADY)
    ],
    "the first half without a stamp": [
        WALL + time if index > 19 else 0.0 for index, time in enumerate(STEADY)
    ],
    "backwards": STEADY[::-1],
    "at random": np.random.default_rng(3).uniform(0, 1e9, 40).tolist(),
    "two clocks in turn": [time + WALL * (index % 2) for index, time in enumerate(STEADY)],
}


@pytest.mark.parametrize("name", UNSOUND)
def test_a_header_clock_that_jumps_gives_way_to_the_time_of_recording(name: str) -> None:
    given = times(UNSOUND[name])
    clock = choose_clock(given)
    assert not clock.by_header
    assert clock.kept.all()
    assert clock.stamps.tolist() == given.recorded.tolist()
    assert (clock.remark == "") == (name == "no stamps")


@pytest.mark.parametrize("early", [3, 12, 25])
def test_where_every_clock_was_set_the_longer_part_is_kept(early: int) -> None:
    header = [time + WALL * (index >= early) for index, time in enumerate(STEADY)]
    clock = choose_clock(times(header, [time + 0.001 for time in header]))
    kept = np.flatnonzero(clock.kept)
    longer = range(early, 40) if early < 20 else range(early)
    assert kept.tolist() == list(longer)


def test_a_recorder_without_a_clock_leaves_the_header_clock() -> None:
    clock = choose_clock(times(with_glitches({}), [0.0] * 40))
    assert clock.by_header
    assert clock.kept.all()


def test_a_message_without_a_header_is_not_on_the_clock() -> None:
    given = times(with_glitches({}))
    given.readable[[4, 9]] = False
    given.header[[4, 9]] = 0
    assert np.flatnonzero(~choose_clock(given).kept).tolist() == [4, 9]


@pytest.mark.parametrize("header", [[], [0.0], [7.0]])
def test_a_topic_of_one_message_or_none_has_a_clock(header: list[float]) -> None:
    assert choose_clock(times(header)).kept.tolist() == [True] * len(header)


def test_cameras_with_different_clocks_share_the_time_of_recording() -> None:
    given = {"/a": times([5000 + time for time in STEADY]), "/b": times(with_glitches({3: HOUR}))}
    clocks = {name: choose_clock(entry) for name, entry in given.items()}
    sentence = share_one_clock(clocks, given)
    assert "/a and /b differ by 53.9 years" in sentence
    for name, clock in clocks.items():
        assert clock.stamps.tolist() == given[name].recorded.tolist()
        assert clock.kept.all()


@pytest.mark.parametrize(
    "second",
    [
        times([time + 0.4 for time in STEADY]),
        times([0.5 * time for time in STEADY][10:], [WALL + time for time in STEADY][10:]),
    ],
)
def test_cameras_on_one_clock_keep_it(second: TopicTimes) -> None:
    speed = 1.0 if second.header.size == 40 else 0.5
    given = {"/a": times([time * speed for time in STEADY]), "/b": second}
    clocks = {name: choose_clock(entry) for name, entry in given.items()}
    assert share_one_clock(clocks, given) == ""
    assert all(clock.by_header for clock in clocks.values())


def test_clocks_are_compared_where_one_camera_starts_after_the_other() -> None:
    first, later = times(STEADY[:10]), times(STEADY[20:], [WALL + time for time in STEADY[20:]])
    apart_s = clocks_apart_s(choose_clock(first), first, choose_clock(later), later)
    assert apart_s == pytest.approx(0.0)


def test_a_span_is_written_in_its_largest_unit() -> None:
    assert [in_words(s) for s in (3.25, 7200.0, 172800.0, 1.7e9)] == [
        "3.2 s",
        "2.0 hours",
        "2.0 days",
        "53.9 years",
    ]
