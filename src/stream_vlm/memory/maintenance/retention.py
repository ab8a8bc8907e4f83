"""Limit records, pictures and summaries by age and size; the oldest are dropped and counted.

Rows are dropped in pieces of about `PIECE_S`, so that a new step waits for one piece at most; after
a piece that took longer the next one is smaller. Free pages stay in the file and are used again.
Unlike `forget`, which leaves no byte, retention only makes room.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from sqlite_utils import Database

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.maintenance.forget import delete_marked, make_marks
from stream_vlm.memory.storage.connections import Connections
from stream_vlm.memory.storage.session_timeline import ClockSegment, clock_segments
from stream_vlm.types import NANOSECONDS

RECORDS, PICTURES, SUMMARIES = KEPT = ("records", "pictures", "summaries")

PERIOD_S = 10.0
"""How often the limits are checked, seconds."""

LOG_PERIOD_S = 600.0
"""What was dropped is logged at most this often, seconds."""

PIECE_S = 0.005
"""The target duration of a piece, seconds; the size of the next one is halved or doubled."""

MAX_BATCH = 500
"""Most rows dropped in one transaction."""

MEASURE_BATCH = 1000
"""Rows whose sizes are added up in one piece."""

ROW_BYTES = 350
"""About what a record takes in the file besides its text and vectors, with its indices."""

_HOUR_NS = 3600 * NANOSECONDS

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeletionBatch:
    """The rows of one kind to drop in one piece, oldest first.

    Attributes:
        what: one of `KEPT`.
        ids: their numbers.
        until_ns: end of the newest of them, ns on the clock of its frames.
        bytes: their size.
    """

    what: str
    ids: tuple[int, ...]
    until_ns: int
    bytes: int


@dataclass(frozen=True)
class RetentionLimit:
    """A part of a session whose rows before a stamp may be dropped.

    Attributes:
        segment: the part of the session.
        before_ns: on the clock of the segment.
        by_age: whether all of these rows are too old; otherwise only as many are dropped as exceed
            the size limit.
        over: whether the segment has ended.
    """

    segment: ClockSegment
    before_ns: int
    by_age: bool
    over: bool

    @property
    def whole(self) -> bool:
        """Whether nothing of the segment will be left, and nothing will be added."""
        return self.over and self.before_ns > self.segment.until_ns


class Retention:
    """Drops what exceeds the limits; belongs to the thread that writes.

    Attributes:
        dropped: number and bytes of what was dropped since the file was made, by kind; empty until
            it was first read.
    """

    def __init__(self, connections: Connections, settings: MemorySettings) -> None:
        self._connections = connections
        self._settings = settings
        self._batch = 50
        self._logged_s = -LOG_PERIOD_S
        self.dropped: dict[str, tuple[int, int]] = {}
        self._unlogged: Counter[str] = Counter()
        self.rescan()

    def rescan(self) -> None:
        """Measure the file again, because others have changed it."""
        self._measured = {"record": 0, "picture": 0}
        self._bytes: Counter[str] = Counter()
        self._emptied: dict[str, set[ClockSegment]] = {what: set() for what in KEPT}
        self._next_s = 0.0

    def work(self) -> int:
        """Do one piece if it is time: measure some rows, or drop some.

        Returns:
            How many records were dropped, -1 if there is nothing left to do.
        """
        if time.monotonic() < self._next_s:
            return -1
        if self._measure():
            return 0
        over = self._find()
        if over is None:
            self._next_s = time.monotonic() + PERIOD_S
            self._log_dropped()
            return -1
        started = time.perf_counter()
        with self._connections.writing(0.0) as db:
            dropped = drop(db, over)
            counted = dropped_so_far(db)
        self.dropped = counted
        self._batch = (
            max(5, self._batch // 2)
            if time.perf_counter() - started > PIECE_S
            else min(MAX_BATCH, self._batch * 2)
        )
        for what, (number, size) in dropped.items():
            self._bytes[what] -= size
            self._unlogged[what] += number
        return sum(number for what, (number, _) in dropped.items() if what != PICTURES)

    def _measure(self) -> bool:
        """Add up the sizes of new rows; return whether a whole batch was found."""
        with self._connections.reader() as db:
            if not self.dropped:
                self.dropped = dropped_so_far(db)
            last, number = self._measured["record"], 0
            rows = db.execute(
                "SELECT kind = 'summary', count(*), sum(chars), max(id) FROM (SELECT id, kind,"
                " length(CAST(text AS BLOB)) AS chars FROM record WHERE id > ? ORDER BY id LIMIT ?)"
                " GROUP BY 1",
                [last, MEASURE_BATCH],
            ).fetchall()
            for is_summary, count, chars, newest in rows:
                self._bytes[SUMMARIES if is_summary else RECORDS] += ROW_BYTES * count + 2 * chars
                self._measured["record"] = max(self._measured["record"], newest)
                number += count
            if rows:
                self._bytes[RECORDS] += _vector_bytes(
                    db, "record", f"record_id > {last} AND record_id <= {self._measured['record']}"
                )
            count, size, newest = db.execute(
                "SELECT count(*), sum(size), max(id) FROM (SELECT id, length(jpeg) AS size FROM"
                " picture WHERE id > ? ORDER BY id LIMIT ?)",
                [self._measured["picture"], MEASURE_BATCH],
            ).fetchone()
            if count:
                last, self._measured["picture"] = self._measured["picture"], newest
                self._bytes[PICTURES] += size + _vector_bytes(
                    db, "picture", f"picture_id > {last} AND picture_id <= {newest}"
                )
        return bool(max(number, count) >= MEASURE_BATCH)

    def _find(self) -> DeletionBatch | None:
        limits = {
            RECORDS: (self._settings.keep_records_h, self._settings.keep_records_mb),
            PICTURES: (self._settings.keep_pictures_h, self._settings.keep_pictures_mb),
            SUMMARIES: (self._settings.keep_summaries_h, self._settings.keep_summaries_mb),
        }
        with self._connections.snapshot() as db:
            timeline = clock_segments(db)
            for what, (hours, megabytes) in limits.items():
                too_large = bool(megabytes) and self._bytes[what] > megabytes * 1e6
                before = retention_limits(
                    timeline, round(hours * _HOUR_NS) if hours else None, too_large
                )
                over = self._oldest(
                    db, what, before, self._bytes[what] - megabytes * 1e6 if too_large else 0
                )
                if over is not None:
                    return over
        return None

    def _oldest(
        self, db: Database, what: str, before: list[RetentionLimit], excess: float
    ) -> DeletionBatch | None:
        """Return the oldest rows of `what` to drop: those too old, or enough for `excess` bytes."""
        for limit in before:
            if limit.segment in self._emptied[what]:
                continue
            rows = _CANDIDATES[what](db, limit.segment.session_id, limit.before_ns, self._batch)
            if not rows:
                if limit.whole:
                    self._emptied[what].add(limit.segment)
                continue
            if not limit.by_age:
                number, size = 0, 0
                while number < len(rows) and size < excess:
                    size += rows[number][2]
                    number += 1
                rows = rows[:number]
            return DeletionBatch(
                what,
                tuple(row[0] for row in rows),
                max(row[1] for row in rows),
                sum(row[2] for row in rows),
            )
        return None

    def _log_dropped(self) -> None:
        if not self._unlogged or time.monotonic() - self._logged_s < LOG_PERIOD_S:
            return
        said = ", ".join(f"{number} {what}" for what, number in self._unlogged.items())
        _log.warning(
            "%s: dropped the oldest %s, as memory.keep_* says; 'stream-vlm memory stats' has the"
            " totals",
            self._connections.path,
            said,
        )
        self._unlogged.clear()
        self._logged_s = time.monotonic()


def retention_limits(
    timeline: list[ClockSegment], kept_ns: int | None, too_large: bool
) -> list[RetentionLimit]:
    """Return the segments from which rows may be dropped, oldest first.

    Age is counted on the timeline of all sessions, back from the newest stamp.

    Args:
        timeline: the segments of all sessions.
        kept_ns: how long rows are kept, ns; None for no limit.
        too_large: whether a size limit is exceeded, so that rows which are not too old follow.
    """
    found = []
    if timeline and kept_ns is not None:
        kept_from = timeline[-1].end_ns - kept_ns
        found += [
            RetentionLimit(segment, segment.stamp_at(kept_from), True, segment is not timeline[-1])
            for segment in timeline
            if segment.at_ns < kept_from
        ]
    if too_large:
        found += [
            RetentionLimit(segment, segment.until_ns + 1, False, segment is not timeline[-1])
            for segment in timeline
        ]
    return found


def drop(db: Database, over: DeletionBatch) -> dict[str, tuple[int, int]]:
    """Delete and count the batch, with pictures that no record refers to any more.

    It runs within the caller's transaction.

    Returns:
        Number and bytes that were dropped, by kind.
    """
    make_marks(db)
    table = "forgotten_picture" if over.what == PICTURES else "forgotten"
    db.conn.executemany(f"INSERT INTO {table} VALUES (?)", [(number,) for number in over.ids])
    dropped = {over.what: (len(over.ids), over.bytes)}
    if over.what == RECORDS:
        db.execute(
            """
            INSERT INTO forgotten_picture
            SELECT DISTINCT picture_id FROM record JOIN forgotten USING (id)
            WHERE picture_id IS NOT NULL AND NOT EXISTS (
                SELECT 1 FROM record other
                WHERE other.picture_id = record.picture_id
                AND other.id NOT IN (SELECT id FROM forgotten))"""
        )
        number, size = db.execute(
            "SELECT count(*), sum(length(jpeg)) FROM picture JOIN forgotten_picture USING (id)"
        ).fetchone()
        if number:
            dropped[PICTURES] = (number, size)
    delete_marked(db)
    for what, (number, size) in dropped.items():
        db.execute(
            "INSERT INTO dropped (what, number, bytes, until_ns) VALUES (?, ?, ?, ?) ON CONFLICT"
            " (what) DO UPDATE SET number = number + excluded.number, bytes = bytes +"
            " excluded.bytes, until_ns = excluded.until_ns",
            [what, number, size, over.until_ns],
        )
    return dropped


def dropped_so_far(db: Database) -> dict[str, tuple[int, int]]:
    """Return number and bytes of what was dropped since the file was made, by kind."""
    return {
        what: (number, size)
        for what, number, size in db.execute(
            "SELECT what, number, bytes FROM dropped ORDER BY what"
        )
    }


Row = tuple[int, int, int]
"""Number, end and bytes of a row that may be dropped."""


def _records(db: Database, session_id: str, before_ns: int, most: int) -> list[Row]:
    return _sized(db, "kind <> 'summary'", session_id, before_ns, most)


def _summaries(db: Database, session_id: str, before_ns: int, most: int) -> list[Row]:
    return _sized(db, "kind = 'summary'", session_id, before_ns, most)


def _sized(db: Database, kind: str, session_id: str, before_ns: int, most: int) -> list[Row]:
    rows = db.execute(
        f"SELECT id, end_ns, {ROW_BYTES} + 2 * length(CAST(text AS BLOB)) + ifnull((SELECT"
        " sum(length(halves)) FROM record_vector WHERE record_id = record.id), 0) FROM record"
        f" WHERE session_id = ? AND end_ns < ? AND {kind} ORDER BY end_ns, id LIMIT ?",
        [session_id, before_ns, most],
    )
    return [(number, end_ns, size) for number, end_ns, size in rows.fetchall()]


def _pictures(db: Database, session_id: str, before_ns: int, most: int) -> list[Row]:
    rows: list[Row] = []
    for camera in _cameras(db, session_id):
        rows += db.execute(
            "SELECT id, stamp_ns, length(jpeg) + ifnull((SELECT sum(length(halves)) FROM"
            " picture_vector WHERE picture_id = picture.id), 0) FROM picture WHERE session_id = ?"
            " AND camera = ? AND stamp_ns < ? ORDER BY stamp_ns LIMIT ?",
            [session_id, camera, before_ns, most],
        ).fetchall()
    return sorted(rows, key=lambda row: (row[1], row[0]))[:most]


def _cameras(db: Database, session_id: str) -> Iterable[str]:
    """Yield the cameras with pictures in the session, each found by one step in the index."""
    camera: str | None = db.execute(
        "SELECT min(camera) FROM picture WHERE session_id = ?", [session_id]
    ).fetchone()[0]
    while camera is not None:
        yield camera
        camera = db.execute(
            "SELECT min(camera) FROM picture WHERE session_id = ? AND camera > ?",
            [session_id, camera],
        ).fetchone()[0]


_CANDIDATES = {RECORDS: _records, PICTURES: _pictures, SUMMARIES: _summaries}


def _vector_bytes(db: Database, of: str, where: str) -> int:
    return int(
        db.execute(
            f"SELECT ifnull(sum(length(halves)), 0) FROM {of}_vector WHERE {where}"
        ).fetchone()[0]
    )
