"""Write one day of a memory as an HTML page: a timeline, and records with their pictures."""

from __future__ import annotations

import base64
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from pathlib import Path

from stream_vlm.cli.options.times import show_span
from stream_vlm.memory.storage.encryption import Key
from stream_vlm.memory.storage.errors import RecallError, translate_errors
from stream_vlm.memory.storage.file import check_for_reading, open_for_reading
from stream_vlm.time_words import CLOCK_EPOCH_NS
from stream_vlm.types import NANOSECONDS

MAX_ENTRIES = 500
"""Entries on a page; each includes its picture."""

WIDTH, ROW_HEIGHT = 1200, 26
"""Width of the timeline and height of a camera's row, in SVG units."""

COLOURS = {
    "event": "#2a7",
    "utterance": "#27c",
    "query": "#c72",
    "answer": "#a3c",
    "summary": "#888",
}

STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 1200px; padding: 0 1em }
body { color: #222 }
svg { width: 100%; background: #f6f6f4; border-radius: 6px }
svg text { font: 11px system-ui, sans-serif; fill: #555 }
ol { list-style: none; padding: 0 }
li { display: flex; gap: 1em; padding: .5em 0; border-top: 1px solid #e4e4e0 }
li img, li .none { width: 160px; flex: none; border-radius: 4px }
.when { color: #777 } .kind { font-weight: 600 }
@media (prefers-color-scheme: dark) {
  body { background: #1b1b1b; color: #ddd } svg { background: #262626 } li { border-color: #333 }
}
"""


@dataclass(frozen=True)
class Entry:
    """One record with text; `object_id` is 0 where the record is not linked to an object."""

    kind: str
    camera: str
    start_ns: int
    end_ns: int
    text: str
    confidence: float
    jpeg: bytes | None
    object_id: int = 0
    object_confidence: float = 0.0


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
            " ifnull(thing_id, 0), ifnull(sighting.confidence, 0.0) FROM record LEFT JOIN picture"
            " ON picture.id = picture_id LEFT JOIN sighting ON sighting.record_id = record.id"
            f" WHERE kind <> 'observation' AND {within} ORDER BY start_ns, record.id",
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
    return Day(
        title, max(start_ns, oldest), min(end_ns, newest), [Entry(*row) for row in rows], seen
    )


def page(day: Day) -> str:
    """Return the page as HTML, with its pictures inside."""
    # With too many entries, keep those with the highest confidence.
    shown = day.entries
    if len(shown) > MAX_ENTRIES:
        chosen = sorted(range(len(shown)), key=lambda index: (-shown[index].confidence, index))[
            :MAX_ENTRIES
        ]
        shown = [shown[index] for index in sorted(chosen)]
    left_out = (
        f" Only the {len(shown)} with the highest confidence are shown."
        if len(shown) < len(day.entries)
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
                '<!doctype html><html lang="en"><meta charset="utf-8"><title>Memory of'
                f" {escape(day.title)}</title><style>{STYLE}</style>"
            ),
            f"<h1>{escape(day.title)}</h1>",
            (
                f"<p>{escape(show_span(day.start_ns, day.end_ns))}: {counted or 'no entries'},"
                f" {day.observations} observations.{left_out}</p>"
            ),
            _timeline(day),
            "<ol>",
            *_items(shown),
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


def _timeline(day: Day) -> str:
    cameras = sorted({entry.camera for entry in day.entries})
    length = max(day.end_ns - day.start_ns, 1)
    left = 110

    def across(stamp_ns: int) -> float:
        return left + (WIDTH - left - 10) * (stamp_ns - day.start_ns) / length

    height = ROW_HEIGHT * len(cameras) + 30
    drawn = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="timeline">']
    for tick in range(7):
        stamp_ns = day.start_ns + length * tick // 6
        shown = (
            f"{stamp_ns / NANOSECONDS:.0f} s"
            if stamp_ns < CLOCK_EPOCH_NS
            else f"{datetime.fromtimestamp(stamp_ns / NANOSECONDS):%H:%M}"
        )
        drawn.append(
            f'<text x="{across(stamp_ns):.1f}" y="{ROW_HEIGHT * len(cameras) + 22}"'
            f' text-anchor="middle">{shown}</text>'
        )
    for index, camera in enumerate(cameras):
        drawn.append(
            f'<text x="6" y="{ROW_HEIGHT * index + 18}">{escape(camera or "every camera")}</text>'
        )
        for entry in (entry for entry in day.entries if entry.camera == camera):
            x, wide = (
                across(entry.start_ns),
                max(2.0, across(entry.end_ns) - across(entry.start_ns)),
            )
            # A summary is drawn as a thin line under the records that it covers.
            y, high = (
                (ROW_HEIGHT * index + 22, 3)
                if entry.kind == "summary"
                else (ROW_HEIGHT * index + 5, 16)
            )
            drawn.append(
                f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{high}"'
                f' fill="{COLOURS.get(entry.kind, "#888")}"'
                f' opacity=".7"><title>{escape(entry.kind)}: {escape(entry.text)}</title></rect>'
            )
    return "".join([*drawn, "</svg>"])


def _items(entries: list[Entry]) -> list[str]:
    """Return one list item per entry; entries of one object link to the entry before."""
    times = dict.fromkeys((entry.object_id for entry in entries), 0)
    items = []
    for entry in entries:
        times[entry.object_id] += 1
        items.append(_item(entry, times[entry.object_id]))
    return items


def _item(entry: Entry, time: int) -> str:
    """Return the list item of `entry`, which is the `time`-th entry of its object."""
    picture = '<span class="none"></span>'
    if entry.jpeg is not None:
        picture = (
            '<img loading="lazy" alt=""'
            f' src="data:image/jpeg;base64,{base64.b64encode(entry.jpeg).decode()}">'
        )
    said = (
        '<span class="kind"'
        f' style="color:{COLOURS.get(entry.kind, "#888")}">{escape(entry.kind)}</span>'
        f" {escape(entry.text)}"
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
