"""The page of a day: the whole day, each happening once, and nothing of it is taken for HTML."""

import base64
from pathlib import Path

import pytest
from memory_fixtures import SESSION, begin, looking_into, settings, step

from stream_vlm.cli.memory import html_report
from stream_vlm.cli.memory.html_report import MAX_PICTURES, Day, Entry, page, read_day
from stream_vlm.memory.memory import Memory
from stream_vlm.types import NANOSECONDS

HOUR_NS = 3600 * NANOSECONDS


def day_of(number: int) -> Day:
    """A day with `number` events from the first to the last second, all of the same confidence."""
    length = 24 * HOUR_NS
    entries = [
        Entry(
            "event",
            "front",
            at := length * place // number,
            at,
            f"happening {place}.",
            0.5,
            b"picture %d." % place,
        )
        for place in range(number)
    ]
    return Day("a recording", 0, length, entries, 0)


def test_every_happening_of_a_long_day_is_told_and_pictures_are_spread_over_it() -> None:
    html = page(day_of(5000))
    assert all(f"happening {place}." in html for place in range(5000))
    assert html.count("data:image/jpeg;base64,") == MAX_PICTURES
    for hour in range(24):
        shown = sum(
            base64.b64encode(b"picture %d." % place).decode() in html
            for place in range(hour * 5000 // 24, (hour + 1) * 5000 // 24)
        )
        assert 15 <= shown <= 27
    assert f"Pictures are shown of {MAX_PICTURES} of them, spread over the day." in html


def test_an_event_and_what_was_said_of_it_are_one_happening(tmp_path: Path) -> None:
    file = tmp_path / "memory.db"
    with Memory.open(settings(file)) as memory:
        begin(memory)
        memory.write(step(1, said="the red ball rolls in"))
        memory.write(step(5, said="it was the ball", asked="what was that?"))
    with looking_into(file) as db:
        db.execute("UPDATE record SET text = 'a ball, look' WHERE kind = 'utterance'")
    found = read_day(file, None, 0.0)
    assert [(entry.kind, entry.text, entry.told) for entry in found.entries] == [
        ("event", "the red ball rolls in", ("a ball, look",)),
        ("query", "what was that?", ("it was the ball",)),
    ]
    assert all(entry.jpeg for entry in found.entries)
    html = page(found)
    assert html.count("<li") == 2
    assert html.count("it was the ball") == 1


def test_a_summary_is_shown_only_when_its_records_are_gone(tmp_path: Path) -> None:
    file = tmp_path / "memory.db"
    with Memory.open(settings(file)) as memory:
        begin(memory)
        memory.write(step(1, said="the red ball rolls in"))
        memory.end_session()
    assert [entry.kind for entry in read_day(file, None, 0.0).entries] == ["event"]
    with looking_into(file) as db:
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("DELETE FROM record WHERE kind <> 'summary'")
    (entry,) = read_day(file, None, 0.0).entries
    assert entry.kind == "summary"
    assert "the red ball rolls in" in entry.text


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&lt;"


def test_no_stored_text_is_taken_for_html(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "memory.db"
    with Memory.open(settings(file)) as memory:
        memory.begin_session(SESSION, HOSTILE, HOSTILE, 0)
        memory.write(step(1, said=HOSTILE, camera=HOSTILE))
        memory.write(step(2, said=HOSTILE, asked=HOSTILE, camera=HOSTILE))
    html = page(read_day(file, None, 0.0))
    assert "<script" not in html
    assert "<img src=x" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "&amp;lt;" in html
    assert "onerror=alert(2)>" not in html
    monkeypatch.setattr(html_report, "COLOURS", {})
    assert "<script" not in page(read_day(file, None, 0.0))
