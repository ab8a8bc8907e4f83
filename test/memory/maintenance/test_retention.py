"""Retention by age and size: oldest first, counted, in small pieces."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_fixtures import SESSION, seconds, settings, step

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.maintenance import retention
from stream_vlm.memory.maintenance.check_and_backup import stats, verify
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.recording.background_writer import MemoryWriter
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.memory.storage.session_timeline import SessionClock, merge_sessions
from stream_vlm.types import NANOSECONDS

HOUR = 3600
HOUR_NS = HOUR * NANOSECONDS
NOW_NS = 1_800_000_000 * NANOSECONDS
KEEP_ALL = {f"keep_{what}_{unit}": 0.0 for what in retention.KEPT for unit in ("h", "mb")}


def keeping(path: Path, **limits: object) -> MemorySettings:
    """Return settings in which only `limits` drop anything."""
    return MemorySettings.model_validate(
        {**settings(path).model_dump(), **KEEP_ALL, "summarizer": "off", **limits}
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.db"


@pytest.fixture(autouse=True)
def _looked_at_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PERIOD_S", 0.0)


def begin_at(
    memory: Memory, session: str, wall_ns: int, started_ns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begin a session when the computer's clock shows `wall_ns`."""
    with monkeypatch.context() as then:
        then.setattr("stream_vlm.memory.insert_rows.time.time_ns", lambda: wall_ns)
        memory.begin_session(session, "model", "test", started_ns)


def run_idle_work(memory: Memory) -> None:
    while memory.run_maintenance():
        pass


def left(memory: Memory, kind: str = "observation") -> list[float]:
    """Return the times of what is left, seconds of stream, in the order of storing."""
    records = memory.recall(RecallQuery(kinds=(kind,), limit=1000)).records
    return [
        (record.end_ns - seconds(0)) / NANOSECONDS
        for record in sorted(records, key=lambda record: record.record_id)
    ]


def dropped(memory: Memory) -> dict[str, int]:
    return {what: number for what, (number, _) in stats(memory.path, 0.0).dropped.items()}


def test_records_older_than_the_limit_are_dropped_and_counted(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Memory.open(keeping(path, keep_records_h=2.0)) as memory:
        memory.begin_session(SESSION, "model", "test", seconds(0))
        for number in range(0, 5 * HOUR + 1, 600):
            memory.write(step(number, said="a ball"))
        run_idle_work(memory)
        assert left(memory) == [float(number) for number in range(3 * HOUR, 5 * HOUR + 1, 600)]
        assert left(memory, "event") == left(memory, "utterance") == left(memory)
        # A picture without records is dropped too.
        assert dropped(memory) == {"records": 3 * 18, "pictures": 18}
        assert memory.count() == 3 * 13
        found = stats(path, 0.0)
        assert found.pictures == 13
        assert verify(path, 0.0) == []
        run_idle_work(memory)
        assert dropped(memory) == {"records": 3 * 18, "pictures": 18}
        assert memory.idle_health.dropped["records"][0] == 54
    assert caplog.text.count("dropped the oldest 54 records, 18 pictures") == 1


def test_pictures_are_dropped_sooner_than_their_records(path: Path) -> None:
    with Memory.open(keeping(path, keep_pictures_h=1.0)) as memory:
        memory.begin_session(SESSION, "model", "test", seconds(0))
        for number in range(0, 2 * HOUR + 1, 600):
            for camera in ("front", "rear"):
                memory.write(step(number, said="a ball", camera=camera))
        run_idle_work(memory)
        events = memory.recall(
            RecallQuery("ball", kinds=("event",), order="oldest", limit=100)
        ).records
        assert len(events) == 26
        assert [event.has_frame for event in events] == [False] * 12 + [True] * 14
        assert dropped(memory) == {"pictures": 12}
        assert memory.idle_health.dropped["pictures"][0] == 12
    with Memory.open(keeping(path)) as memory:
        run_idle_work(memory)
        assert memory.idle_health.dropped["pictures"][0] == 12


def test_a_summary_outlives_its_records_and_counts_the_dropped_ones(path: Path) -> None:
    with Memory.open(
        keeping(path, keep_records_h=1.0, summarizer="extractive", chunk_s=3600.0)
    ) as memory:
        memory.begin_session(SESSION, "model", "test", seconds(0))
        for number in range(0, 3 * HOUR, 600):
            memory.write(step(number, said="a ball" if number == 1200 else ""))
            run_idle_work(memory)
        memory.end_session()
        first, second, third, *_ = memory.recall(
            RecallQuery(kinds=("summary",), order="oldest")
        ).records
        assert first.text == "19:59–20:00 a ball"
        assert left(memory)[0] == 3 * HOUR - 600 - HOUR
        assert (first.missing_records, second.missing_records, third.missing_records) == (8, 5, 0)
        assert stats(path, 0.0).missing_records == 13
        assert "summaries" not in dropped(memory)


def test_old_summaries_are_dropped_and_not_made_again_from_remaining_records(path: Path) -> None:
    limits = keeping(
        path, keep_summaries_h=1.0, summarizer="extractive", chunk_s=600.0, chunk_summaries=2
    )
    with Memory.open(limits) as memory:
        memory.begin_session(SESSION, "model", "test", seconds(0))
        for number in range(0, 3 * HOUR, 300):
            memory.write(step(number))
            run_idle_work(memory)
        kept = left(memory, "summary")
        assert len(left(memory)) == 36
        assert min(kept) >= 3 * HOUR - 300 - HOUR
        assert dropped(memory)["summaries"] >= 11
    with Memory.open(limits) as memory:
        memory.begin_session("next", "model", "test", seconds(3 * HOUR))
        run_idle_work(memory)
        assert len(left(memory)) == 36
        again = dropped(memory)["summaries"]
    with Memory.open(limits) as memory:
        run_idle_work(memory)
        assert dropped(memory)["summaries"] == again


def test_a_size_limit_drops_only_as_many_of_the_oldest_as_needed(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    with Memory.open(keeping(path, keep_pictures_mb=1.0)) as memory:
        memory.begin_session(SESSION, "model", "test", seconds(0))
        for number in range(60):
            memory.write(step(number, image=noise))
        run_idle_work(memory)
        found = stats(path, 0.0)
        assert 0.9e6 < found.picture_bytes <= 1e6
        assert [
            record.has_frame
            for record in memory.recall(
                RecallQuery(kinds=("observation",), order="oldest", limit=1000)
            ).records
        ] == ([False] * (60 - found.pictures) + [True] * found.pictures)
        assert found.dropped["pictures"][0] == 60 - found.pictures


def test_the_size_of_records_includes_their_vectors_and_words(path: Path) -> None:
    with Memory.open(keeping(path, keep_records_mb=0.1)) as memory:
        memory.begin_session(SESSION, "model", "test", seconds(0))
        for number in range(300):
            memory.write(step(number, said="a ball rolls in from the left"))
        run_idle_work(memory)
        assert 80 < len(left(memory)) < 100
        assert left(memory) == [float(number) for number in range(300 - len(left(memory)), 300)]


def test_without_limits_nothing_is_dropped(path: Path) -> None:
    with Memory.open(keeping(path)) as memory:
        memory.begin_session(SESSION, "model", "test", seconds(0))
        for days in range(0, 1000, 100):
            memory.write(step(days * 24 * HOUR))
        run_idle_work(memory)
        assert len(left(memory)) == 10
        assert dropped(memory) == {}


def test_the_age_of_a_simulation_that_begins_at_0_is_that_of_the_computers_clock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Memory.open(keeping(path, keep_records_h=10.0)) as memory:
        begin_at(memory, "robot", NOW_NS, NOW_NS, monkeypatch)
        memory.write(step((NOW_NS - seconds(0)) / NANOSECONDS + 60, session="robot"))
        begin_at(memory, "simulation", NOW_NS + 2 * HOUR_NS, 0, monkeypatch)
        memory.write(step(-seconds(0) / NANOSECONDS + 5, session="simulation"))
        run_idle_work(memory)
        assert memory.count() == 2
        begin_at(memory, "later", NOW_NS + 11 * HOUR_NS, NOW_NS + 11 * HOUR_NS, monkeypatch)
        run_idle_work(memory)
        assert [
            record.session_id
            for record in memory.recall(RecallQuery(kinds=("observation",))).records
        ] == ["simulation"]


def test_a_step_waits_for_one_small_piece_at_most(path: Path) -> None:
    """Every piece is a separate transaction of limited size.

    None deletes more rows than the time of the last ones allows.
    """
    with Memory.open(keeping(path)) as memory:
        memory.begin_session(SESSION, "model", "test", seconds(0))
        for number in range(700):
            memory.write(step(number))
    with Memory.open(keeping(path, keep_records_h=0.01)) as memory:
        before, most = memory.count(), 0
        while memory.run_maintenance():
            most = max(most, before - memory.count())
            before = memory.count()
        assert len(left(memory)) == 37
        assert 0 < most <= retention.MAX_BATCH


def test_retention_runs_between_steps_and_loses_none(path: Path) -> None:
    with Memory.open(keeping(path, keep_records_h=0.01)) as memory:
        stored: list[int] = []
        writer = MemoryWriter(
            memory,
            lambda result: stored.append(result.tick.stamp_ns),
            lambda result, error: stored.append(0),
        )
        writer.begin_session(SESSION, "model", "test", seconds(0))
        for number in range(200):
            writer.submit(step(number))
        assert writer.wait_idle(30.0)
        writer.close()
        assert stored == [seconds(number) for number in range(200)]
        assert left(memory) == [float(number) for number in range(163, 200)]
        assert writer.health.idle.dropped["records"][0] == 163


sessions = st.lists(
    st.builds(
        lambda started, lasted, wall: (started, started + lasted, wall),
        st.sampled_from([0, 10**15, NOW_NS]) | st.integers(0, 2 * NOW_NS),
        st.integers(0, 1000 * HOUR_NS),
        st.sampled_from([0, 5 * NANOSECONDS, NOW_NS, 3 * NOW_NS]) | st.integers(0, 2 * NOW_NS),
    ),
    min_size=1,
    max_size=8,
)


@given(sessions)
def test_sessions_are_on_one_timeline_without_overlap_and_the_running_one_is_last(
    times: list[tuple[int, int, int]],
) -> None:
    line = merge_sessions(
        SessionClock(str(number), started, newest, wall)
        for number, (started, newest, wall) in enumerate(times)
    )
    assert sorted(stretch.session_id for stretch in line) == sorted(
        str(number) for number in range(len(times))
    )
    for before, after in pairwise(line):
        assert after.at_ns >= before.end_ns
    # The session stored last is the running one: its records are the newest, whatever the clocks
    # showed.
    assert line[-1].session_id == str(len(times) - 1)


@given(sessions, st.integers(1, 2000))
def test_the_newest_record_of_the_last_session_is_never_too_old(
    times: list[tuple[int, int, int]], hours: int
) -> None:
    line = merge_sessions(
        SessionClock(str(number), started, newest, wall)
        for number, (started, newest, wall) in enumerate(times)
    )
    for cut in retention.retention_limits(line, hours * HOUR_NS, too_large=False):
        assert cut.before_ns <= cut.segment.until_ns + 1
        assert cut.segment is not line[-1] or cut.before_ns == line[-1].until_ns - hours * HOUR_NS


def test_the_time_between_two_sessions_counts_unless_a_clock_was_not_set() -> None:
    gap = merge_sessions(
        [SessionClock("a", 0, HOUR_NS, NOW_NS), SessionClock("b", 0, HOUR_NS, NOW_NS + 5 * HOUR_NS)]
    )
    assert gap[1].at_ns - gap[0].at_ns == 5 * HOUR_NS
    unset = merge_sessions(
        [
            SessionClock("a", 0, HOUR_NS, 20 * NANOSECONDS),
            SessionClock("b", 0, HOUR_NS, 30 * NANOSECONDS),
        ]
    )
    assert unset[1].at_ns - unset[0].at_ns == HOUR_NS
    set_back = merge_sessions(
        [SessionClock("ahead", 0, HOUR_NS, 2 * NOW_NS), SessionClock("now", 0, HOUR_NS, NOW_NS)]
    )
    assert [stretch.session_id for stretch in set_back] == ["ahead", "now"]


def test_a_clock_set_within_a_session_does_not_make_earlier_records_old(path: Path) -> None:
    line = merge_sessions(
        [
            SessionClock(
                "boot",
                20 * NANOSECONDS,
                NOW_NS + HOUR_NS,
                20 * NANOSECONDS,
                clock_set=(80 * NANOSECONDS, NOW_NS),
            )
        ]
    )
    assert [(stretch.from_ns, stretch.until_ns) for stretch in line] == [
        (20 * NANOSECONDS, 80 * NANOSECONDS),
        (NOW_NS, NOW_NS + HOUR_NS),
    ]
    assert line[1].at_ns == line[0].end_ns
    with Memory.open(keeping(path, keep_records_h=2.0)) as memory:
        memory.begin_session("boot", "model", "test", 20 * NANOSECONDS)
        for stamp_ns in (20 * NANOSECONDS, 80 * NANOSECONDS, NOW_NS, NOW_NS + HOUR_NS):
            memory.write(step((stamp_ns - seconds(0)) / NANOSECONDS, session="boot"))
        run_idle_work(memory)
        assert memory.count() == 4


@pytest.fixture
def kept(path: Path) -> Iterator[Memory]:
    with Memory.open(keeping(path, keep_records_h=1.0)) as memory:
        yield memory


def test_dropped_records_leave_no_words_and_no_links_behind(kept: Memory) -> None:
    kept.begin_session(SESSION, "model", "test", seconds(0))
    for number in range(0, 3 * HOUR, 600):
        kept.write(step(number, said=f"thing {number}"))
    run_idle_work(kept)
    with sqlite3.connect(kept.path) as connection:
        assert connection.execute("SELECT count(*) FROM record_text_docsize").fetchone() == (2 * 7,)
        assert (
            connection.execute(
                "INSERT INTO record_text (record_text) VALUES ('integrity-check')"
            ).fetchall()
            == []
        )
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
