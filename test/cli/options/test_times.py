"""Times as arguments of real commands, on days of a time change."""

import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from memory_fixtures import SESSION, START_NS, settings, step

from stream_vlm.cli import main
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.types import NANOSECONDS


@pytest.mark.parametrize(
    ("zone", "day"), [("Europe/Berlin", "2026-03-29"), ("America/New_York", "2026-11-01")]
)
def test_forget_deletes_the_hour_of_the_wall_clock_on_a_day_of_a_time_change(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    zone: str,
    day: str,
) -> None:
    path = tmp_path / "memory.db"
    with Memory.open(settings(path)) as memory:
        memory.begin_session(SESSION, "model", "start", START_NS)
        for hour in (14, 15, 16):
            at = datetime.fromisoformat(f"{day} {hour}:30").replace(tzinfo=ZoneInfo(zone))
            memory.write(step(at.timestamp() - START_NS / NANOSECONDS, said=f"bell {hour}"))
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        between = ("--from", f"{day} 3 pm", "--to", f"{day} 15:59")
        assert main(["memory", "forget", *between, "--memory", str(path)]) == 0
    finally:
        monkeypatch.undo()
        time.tzset()
    with Memory.open(settings(path), read_only=True) as memory:
        left = {record.text for record in memory.recall(RecallQuery("bell")).records}
    assert left == {"bell 14", "bell 16"}


@pytest.mark.parametrize("option", ["--from", "--to"])
def test_forget_refuses_a_time_that_the_clock_shows_twice_and_deletes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: str,
) -> None:
    path = tmp_path / "memory.db"
    with Memory.open(settings(path)) as memory:
        memory.begin_session(SESSION, "model", "start", START_NS)
        memory.write(step(0, said="bell"))
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert main(["memory", "forget", option, "2026-10-25 02:30", "--memory", str(path)]) == 1
    finally:
        monkeypatch.undo()
        time.tzset()
    said = capsys.readouterr().err
    assert "'2026-10-25 02:30:00+02:00' or '2026-10-25 02:30:00+01:00'" in said
    with Memory.open(settings(path), read_only=True) as memory:
        assert memory.count() == 3
