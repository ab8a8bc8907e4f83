"""Write one day of a memory as an HTML page: a timeline, and records with their pictures."""

from __future__ import annotations

import base64
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from html import escape
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

from stream_vlm.cli.options.times import show_span
from stream_vlm.memory.storage.encryption import Key
from stream_vlm.memory.storage.errors import RecallError, translate_errors
from stream_vlm.memory.storage.file import check_for_reading, open_for_reading
from stream_vlm.time_words import CLOCK_EPOCH_NS
from stream_vlm.types import NANOSECONDS

MAX_PICTURES = 500
"""Pictures on a page; the words of every happening are shown, whatever their number."""

PARTS_OF_A_DAY = 96
"""A page with more happenings shares its pictures among so many equal parts of the day."""

COLOURS = {
    "event": "#2a7",
    "utterance": "#27c",
    "query": "#c72",
    "answer": "#a3c",
    "caption": "#6ab",
    "summary": "#888",
}

STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 1200px; padding: 0 1em }
body { color: #222; overflow-wrap: anywhere }
.timeline { background: #f6f6f4; border-radius: 6px; padding: .5em }
.lane { display: flex; align-items: center; margin: .3em 0 }
.name { width: 7em; flex: none; font-size: 12px; padding-right: .5em }
.bar { position: relative; flex: 1; height: 22px; background: #ebebe7; overflow: hidden }
.bar i { position: absolute; top: 2px; height: 14px; min-width: 2px; opacity: .7 }
.bar i.summary { top: 18px; height: 3px }
.hours { height: 1.4em; background: none; overflow: visible; font-size: 12px; color: #555 }
.hours span { position: absolute; transform: translateX(-50%); white-space: nowrap }
.hours span:first-child { transform: none } .hours span:last-child { transform: translateX(-100%) }
ol { list-style: none; padding: 0 }
li { display: flex; gap: 1em; padding: .5em 0; border-top: 1px solid #e4e4e0 }
li img { width: 160px; flex: none; border-radius: 4px; align-self: flex-start }
li div { min-width: 0 }
.when { color: #777 } .kind { font-weight: 600 }
@media (max-width: 600px) {
  body { margin: 1em auto } h1 { font-size: 1.4em }
  .lane { display: block } .name { width: auto } .hours span:nth-child(even) { display: none }
  li { display: block } li img { width: 100%; max-width: 320px; margin-bottom: .4em }
}
@media (prefers-color-scheme: dark) {
  body { background: #1b1b1b; color: #ddd } .timeline { background: #262626 }
  .bar { background: #333 } .hours { background: none; color: #aaa } li { border-color: #333 }
}
"""


@dataclass(frozen=True)
class Entry:
    """One happening: a record with text, and the records that tell of the same.

    `object_id` is 0 where the record is not linked to an object. `links` name the event or the
    question that it belongs to. `told` is what the robot said about it.
    """

    kind: str
    camera: str
    start_ns: int
    end_ns: int
    text: str
    confidence: float
    jpeg: bytes | None
    object_id: int = 0
    object_confidence: float = 0.0
    links: tuple[str, str, str] = ("", "", "")
    told: tuple[str, ...] = ()


@dataclass(frozen=True)
class Day:
    """What a page shows: a time span, its entries, and how many observations it has."""

    title: str
    start_ns: int
    end_ns: int
    entries: list[Entry]
    observations: int


def read_day(path: Path, day: str | None, busy_timeout_s: float, key: Key | None = None) -> Day:
    """Read all records of one day from the memory at `path`.

    Args:
        path: the memory file.
        day: such as 2026-01-31, in this computer's time zone; None takes the newest day. A
            recording whose time starts at 0 is one day.
        busy_timeout_s: how long to wait for another program's lock, seconds.
        key: of an encrypted memory, else None.

    Raises:
        RecallError: the day is not a date, or nothing was stored on it.
        MemoryFileError: the memory cannot be read.
    """
    check_for_reading(path, busy_timeout_s, key)
    with closing(open_for_reading(path, busy_timeout_s, key)) as db, translate_errors(path):
        oldest, newest = db.execute("SELECT min(start_ns), max(end_ns) FROM record").fetchone()
        if newest is None:
            raise RecallError(f"{path}: has no records yet; let the node run first")
        title, start_ns, end_ns = _span(day, oldest, newest)
        within = "end_ns >= ? AND start_ns <= ?"
        rows = db.execute(
            "SELECT kind, record.camera, start_ns, end_ns, text, record.confidence, jpeg,"
            " ifnull(thing_id, 0), ifnull(sighting.confidence, 0.0), record.session_id, event_id,"
            " query_id FROM record LEFT JOIN picture ON picture.id = picture_id LEFT JOIN sighting"
            " ON sighting.record_id = record.id WHERE kind <> 'observation' AND"
            f" {within} AND NOT ({_RETOLD}) ORDER BY start_ns, record.id",
            [start_ns, end_ns],
        ).fetchall()
        seen = db.execute(
            f"SELECT count(*) FROM record WHERE kind = 'observation' AND {within}",
            [start_ns, end_ns],
        ).fetchone()[0]
    if not rows and not seen:
        raise RecallError(
            f"{path}: has no records of {title}; choose a day within {show_span(oldest, newest)}"
        )
    return Day(title, max(start_ns, oldest), min(end_ns, newest), _happenings(rows), seen)


def page(day: Day) -> str:
    """Return the page as HTML, with its pictures inside."""
    pictured = _pictured(day)
    left_out = (
        f" Pictures are shown of {len(pictured)} of them, spread over the day."
        if len(pictured) < sum(entry.jpeg is not None for entry in day.entries)
        else ""
    )
    counted = ", ".join(
        f"{sum(entry.kind == kind for entry in day.entries)} {kind}"
        for kind in COLOURS
        if any(e.kind == kind for e in day.entries)
    )
    return "\n".join(
        [
            (
                '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport"'
                ' content="width=device-width, initial-scale=1"><title>Memory of'
                f" {escape(day.title)}</title><style>{STYLE}</style>"
            ),
            f"<h1>{escape(day.title)}</h1>",
            (
                f"<p>{escape(show_span(day.start_ns, day.end_ns))}: {counted or 'no entries'},"
                f" {day.observations} observations.{left_out}</p>"
            ),
            _timeline(day),
            "<ol>",
            *_items(day.entries, pictured),
            "</ol></html>",
            "",
        ]
    )


def _span(day: str | None, oldest: int, newest: int) -> tuple[str, int, int]:
    if newest < CLOCK_EPOCH_NS:
        return "a recording", oldest, newest
    try:
        begins = (
            datetime.fromisoformat(day) if day else datetime.fromtimestamp(newest / NANOSECONDS)
        )
    except ValueError as error:
        raise RecallError(f"day: '{day}' is not a date; write it as 2026-01-31") from error
    begins = begins.replace(hour=0, minute=0, second=0, microsecond=0)
    ends = begins + timedelta(days=1)
    return (
        f"{begins:%A, %Y-%m-%d}",
        int(begins.timestamp()) * NANOSECONDS,
        int(ends.timestamp()) * NANOSECONDS - 1,
    )


_RETOLD = (
    "kind = 'summary' AND EXISTS (SELECT 1 FROM summary WHERE summary.record_id = record.id AND"
    " covered <= (SELECT count(*) FROM summary_covers WHERE summary_id = record.id))"
)
"""Summaries that tell only of records that are still there, which the page shows themselves."""


def _happenings(rows: list[Any]) -> list[Entry]:
    """Return one entry for each happening.

    An utterance that reports an event belongs to the event, an answer to its question. Words that
    differ from those of the event are kept.
    """
    entries: list[Entry] = []
    places: dict[tuple[str, ...], int] = {}
    for *values, session_id, event_id, query_id in rows:
        entry = replace(Entry(*values), links=(session_id, event_id, query_id))
        entries.append(entry)
        if entry.kind == "event" and event_id:
            places[session_id, event_id] = len(entries) - 1
        if entry.kind == "query" and query_id:
            places[session_id, "", query_id] = len(entries) - 1
    shown: list[Entry | None] = list(entries)
    for number, entry in enumerate(entries):
        session_id, event_id, query_id = entry.links
        if entry.kind not in ("utterance", "answer"):
            continue
        place = places.get((session_id, event_id), places.get((session_id, "", query_id)))
        first = None if place is None else shown[place]
        if place is None or first is None:
            continue
        told = first.told if entry.text == first.text else (*first.told, entry.text)
        shown[place] = replace(
            first, told=tuple(dict.fromkeys(told)), jpeg=first.jpeg or entry.jpeg
        )
        shown[number] = None
    return [entry for entry in shown if entry is not None]


def _pictured(day: Day) -> frozenset[int]:
    """Return the places of the entries whose picture is shown: the surest of each part of the day.

    The parts take turns, so that a busy morning leaves pictures for the evening.
    """
    length = max(day.end_ns - day.start_ns, 1)
    parts: dict[int, list[int]] = {}
    for place, entry in enumerate(day.entries):
        if entry.jpeg is not None:
            part = (entry.start_ns - day.start_ns) * PARTS_OF_A_DAY // length
            parts.setdefault(part, []).append(place)
    for places in parts.values():
        places.sort(key=lambda place: (-day.entries[place].confidence, place))
    turns = chain.from_iterable(zip_longest(*parts.values()))
    return frozenset(islice((place for place in turns if place is not None), MAX_PICTURES))


def _timeline(day: Day) -> str:
    length = max(day.end_ns - day.start_ns, 1)

    def percent(stamp_ns: int) -> float:
        return 100 * min(max((stamp_ns - day.start_ns) / length, 0.0), 1.0)

    drawn = ['<div class="timeline" role="img" aria-label="timeline">']
    for camera in sorted({entry.camera for entry in day.entries}):
        drawn.append(
            f'<div class="lane"><span class="name">{escape(camera or "every camera")}</span>'
            '<div class="bar">'
        )
        for entry in (entry for entry in day.entries if entry.camera == camera):
            left, right = percent(entry.start_ns), percent(entry.end_ns)
            # A summary is drawn as a thin line under the records that it covers.
            thin = ' class="summary"' if entry.kind == "summary" else ""
            drawn.append(
                f'<i{thin} style="left:{min(left, 99.8):.2f}%;width:{right - left:.2f}%;'
                f'background:{COLOURS.get(entry.kind, "#888")}"'
                f' title="{escape(entry.kind)}: {escape(entry.text)}"></i>'
            )
        drawn.append("</div></div>")
    drawn.append('<div class="lane"><span class="name"></span><div class="bar hours">')
    for tick in range(7):
        stamp_ns = day.start_ns + length * tick // 6
        shown = (
            f"{stamp_ns / NANOSECONDS:.0f} s"
            if stamp_ns < CLOCK_EPOCH_NS
            else f"{datetime.fromtimestamp(stamp_ns / NANOSECONDS):%H:%M}"
        )
        drawn.append(f'<span style="left:{100 * tick / 6:.2f}%">{shown}</span>')
    return "".join([*drawn, "</div></div></div>"])


def _items(entries: list[Entry], pictured: frozenset[int]) -> list[str]:
    """Return one list item per entry; entries of one object link to the entry before."""
    times = dict.fromkeys((entry.object_id for entry in entries), 0)
    items = []
    for place, entry in enumerate(entries):
        times[entry.object_id] += 1
        items.append(_item(entry, times[entry.object_id], with_picture=place in pictured))
    return items


def _item(entry: Entry, time: int, *, with_picture: bool) -> str:
    """Return the list item of `entry`, which is the `time`-th entry of its object."""
    picture = ""
    if with_picture and entry.jpeg is not None:
        picture = (
            '<img loading="lazy" alt=""'
            f' src="data:image/jpeg;base64,{base64.b64encode(entry.jpeg).decode()}">'
        )
    said = (
        '<span class="kind"'
        f' style="color:{COLOURS.get(entry.kind, "#888")}">{escape(entry.kind)}</span>'
        f" {escape(entry.text)}" + "".join(f"<br><q>{escape(text)}</q>" for text in entry.told)
    )
    about = (
        f"{escape(show_span(entry.start_ns, entry.end_ns))} ·"
        f" {escape(entry.camera or 'every camera')} · confidence {entry.confidence:.2f}"
    )
    anchor = ""
    if entry.object_id:
        anchor = f' id="object-{entry.object_id}-{time}"'
        before = (
            f', <a href="#object-{entry.object_id}-{time - 1}">seen before</a>' if time > 1 else ""
        )
        about += f" · object {entry.object_id} ({entry.object_confidence:.2f}){before}"
    return f'<li{anchor}>{picture}<div>{said}<br><span class="when">{about}</span></div></li>'
