"""Delete records on request, with every trace of them in the file, and shrink the file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from stream_vlm.memory.maintenance.known_copies import known_copies, open_copy
from stream_vlm.memory.search.place_frames import comparable
from stream_vlm.memory.search.query import Place, RecallError, RecallQuery
from stream_vlm.memory.search.sql_filters import IN_PLACE, place_values
from stream_vlm.memory.storage.connections import Connections, transaction
from stream_vlm.memory.storage.encryption import Key
from stream_vlm.memory.storage.errors import MemoryFileError, error_classes

VACUUM_PAGES = 500
"""Pages that are freed in one transaction (2 MB); waiting steps are stored between two of them."""


@dataclass(frozen=True)
class Forget:
    """What to delete: the records that pass every given filter.

    Attributes:
        start_ns: records that end at or after this (int64 ns on the clock of the frames), or None.
        end_ns: records that start at or before this, or None.
        place: records whose pose is in this disc, or None. Records without a pose are not in any.
        cameras: records of these cameras; empty means all.
        session_id: records of this session. Empty means all; but with a place in a frame that is no
            map the newest one, see `place_frames.comparable`.

    Raises:
        RecallError: no filter is given, or one is invalid.
    """

    start_ns: int | None = None
    end_ns: int | None = None
    place: Place | None = None
    cameras: tuple[str, ...] = ()
    session_id: str = ""

    @classmethod
    def everything(cls) -> Forget:
        """Return a filter for all records."""
        return cls(start_ns=-(2**63))

    def __post_init__(self) -> None:
        object.__setattr__(self, "cameras", tuple(self.cameras))
        if (
            self.start_ns is None
            and self.end_ns is None
            and self.place is None
            and not self.cameras
            and not self.session_id
        ):
            raise RecallError(
                "forget: no filter is given; give a time, a place or a camera, or a session, or ask"
                " for everything"
            )
        RecallQuery(
            start_ns=self.start_ns, end_ns=self.end_ns, place=self.place, cameras=self.cameras
        )


@dataclass(frozen=True)
class Forgotten:
    """What was deleted, or would be.

    Attributes:
        records: how many records, with those that are linked to the named ones.
        pictures: how many thumbnails.
        picture_bytes: their size.
        freed_bytes: by how much the file became smaller.
        erased: whether nothing of it is left in the file or its WAL. False if a reader blocked the
            checkpoint; then the next checkpoint removes the rest.
        copies: copies of the memory that still have something of it, or may have; they are not
            changed.
        took_ms: time spent, milliseconds.
    """

    records: int
    pictures: int
    picture_bytes: int
    freed_bytes: int = 0
    erased: bool = False
    copies: tuple[Path, ...] = ()
    took_ms: float = 0.0

    def __str__(self) -> str:
        said = (
            f"{self.records} records and {self.pictures} pictures"
            f" ({self.picture_bytes / 1e6:.1f} MB)"
        )
        if self.copies:
            said += (
                "; these copies still have it, or may have it, and are not changed:"
                f" {', '.join(str(copy) for copy in self.copies)}"
            )
        return said


def count_forgotten(
    connections: Connections, what: Forget, map_frames: Sequence[str], present: str = ""
) -> Forgotten:
    """Return what forgetting `what` would delete; nothing is deleted.

    Args:
        connections: to the file.
        what: the filters.
        map_frames: the setting `memory.map_frames`.
        present: the session that is being written, or empty.

    Raises:
        RecallError: the place cannot be compared, see `place_frames.comparable`.
    """
    with connections.snapshot() as db:
        what = _in_one_frame(db, what, map_frames, present)
        marked = _mark(db, what)
        copies = known_copies(db, connections.path)
    return replace(marked, copies=_holding(copies, what, connections.key))


def erase(
    connections: Connections, what: Forget, map_frames: Sequence[str], present: str = ""
) -> tuple[Forgotten, int, Forget]:
    """Delete `what` in one transaction; the arguments are those of `count_forgotten`.

    Returns:
        What was deleted, how many pages the file had before, and `what` with its place in one
        frame.

    Raises:
        RecallError: the place cannot be compared, see `place_frames.comparable`.
    """
    with connections.writing() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        what = _in_one_frame(db, what, map_frames, present)
        marked = _mark(db, what)
        _delete(db)
    return marked, pages, what


def give_back(
    connections: Connections, forgotten: Forgotten, pages_before: int, what: Forget
) -> Forgotten:
    """Shrink the file and truncate its WAL, after `erase`.

    Returns:
        `forgotten` with how many bytes were freed, and whether all of it is erased.
    """
    more = True
    while more:
        # Steps that wait are stored in this pause.
        time.sleep(0.001)
        with connections.writer() as db:
            more = _give_back_pages(db)
    with connections.writer() as db:
        erased = _truncate_wal(db)
        page_size, pages = (
            int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_size", "page_count")
        )
        copies = known_copies(db, connections.path)
    return replace(
        forgotten,
        freed_bytes=(pages_before - pages) * page_size,
        erased=erased,
        copies=_holding(copies, what, connections.key),
    )


def _in_one_frame(db: Database, what: Forget, map_frames: Sequence[str], present: str) -> Forget:
    place, session_id = comparable(db, what.place, what.session_id, map_frames, present)
    return replace(what, place=place, session_id=session_id)


def _holding(copies: tuple[Path, ...], what: Forget, key: Key | None) -> tuple[Path, ...]:
    """Return the copies that have something of `what`, or that cannot be asked."""
    return tuple(copy for copy in copies if _may_hold(copy, what, key))


def _may_hold(copy: Path, what: Forget, key: Key | None) -> bool:
    try:
        with closing(open_copy(copy, key)) as db, transaction(db, "DEFERRED"):
            found = _mark(db, what)
            return bool(found.records or found.pictures)
    except error_classes(sqlite3.Error, OSError, MemoryFileError):
        # An export, a report, a damaged file, one with another key or of an older version.
        return True


def _mark(db: Database, what: Forget) -> Forgotten:
    """Put the numbers of what `what` names into temporary tables, and count them.

    It runs within the caller's transaction. Linked records are included: the utterance that reports
    an event, the question of an answer, and every summary that was made from one of the records. A
    record too many is better than a sentence that still tells what was deleted.
    """
    make_marks(db)
    filters, values = _filters(what, "start_ns", "end_ns")
    if what.place is not None:
        values |= place_values(what.place)
    source = "record" if what.place is None else IN_PLACE
    db.execute(f"INSERT INTO forgotten SELECT record.id FROM {source} WHERE {filters}", values)
    # The query id of an utterance or event is a standing instruction, which says nothing itself.
    for link, kinds in (("event_id", ""), ("query_id", "AND kind IN ('query', 'answer')")):
        db.execute(
            f"INSERT OR IGNORE INTO forgotten SELECT id FROM record WHERE {link} <> '' {kinds} AND"
            f" {link} IN (SELECT {link} FROM record JOIN forgotten USING (id) WHERE {link} <> ''"
            f" {kinds})"
        )
    db.execute("""
        WITH RECURSIVE telling (id) AS (
            SELECT summary_id FROM summary_covers JOIN forgotten ON forgotten.id = record_id
            UNION SELECT summary_id FROM summary_covers JOIN telling ON telling.id = record_id
        ) INSERT OR IGNORE INTO forgotten SELECT id FROM telling""")
    db.execute(
        "INSERT INTO forgotten_picture SELECT DISTINCT picture_id FROM record JOIN forgotten USING"
        " (id) WHERE picture_id IS NOT NULL"
    )
    if what.place is None:
        filters, values = _filters(what, "stamp_ns", "stamp_ns")
        db.execute(
            f"INSERT OR IGNORE INTO forgotten_picture SELECT id FROM picture WHERE {filters}",
            values,
        )
    records = db.execute("SELECT count(*) FROM forgotten").fetchone()[0]
    pictures, size = db.execute(
        "SELECT count(*), ifnull(sum(length(jpeg)), 0) FROM picture JOIN forgotten_picture USING"
        " (id)"
    ).fetchone()
    return Forgotten(records, pictures, size)


def make_marks(db: Database) -> None:
    """Create the temporary tables `forgotten` and `forgotten_picture` for `delete_marked`.

    They have the numbers of the records and pictures to delete.
    """
    for table in ("forgotten", "forgotten_picture"):
        db.execute(f"DROP TABLE IF EXISTS temp.{table}")
        db.execute(f"CREATE TEMP TABLE {table} (id INTEGER PRIMARY KEY)")


def _delete(db: Database) -> None:
    """Delete what `_mark` found, within the same transaction; no byte of it stays in any page."""
    delete_marked(db)
    # The full-text index keeps deleted words until its segments are merged. The R*Tree keeps old
    # cells behind the current ones of a node.
    db.execute("INSERT INTO record_text (record_text) VALUES ('optimize')")
    for number, node in db.execute("SELECT nodeno, data FROM record_place_node").fetchall():
        if node != (clean := _without_leftovers(node)):
            db.execute("UPDATE record_place_node SET data = ? WHERE nodeno = ?", [clean, number])


def delete_marked(db: Database) -> None:
    """Delete the rows whose numbers are in the temporary tables, and all that refers to them."""
    for table, marked in (("record", "forgotten"), ("picture", "forgotten_picture")):
        for other, column, required in _references(db, table):
            here = f"{column} IN (SELECT id FROM {marked})"
            db.execute(
                f"DELETE FROM {other} WHERE {here}"
                if required
                else f"UPDATE {other} SET {column} = NULL WHERE {here}"
            )
        db.execute(f"DELETE FROM {table} WHERE id IN (SELECT id FROM {marked})")
        db.execute(f"DROP TABLE temp.{marked}")


def _without_leftovers(node: bytes) -> bytes:
    """Return a node of the R*Tree with zeros behind its cells.

    A node has a header of 4 bytes, with the number of cells in the last two, and 24 bytes per cell.
    """
    used = 4 + 24 * int.from_bytes(node[2:4], "big")
    return node[:used] + bytes(len(node) - used)


def _give_back_pages(db: Database) -> bool:
    """Free up to `VACUUM_PAGES` pages of the file; return whether there are more."""
    db.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
    return bool(db.execute("PRAGMA freelist_count").fetchone()[0])


def _truncate_wal(db: Database) -> bool:
    """Checkpoint and truncate the WAL; return False if a reader of an older state prevents it."""
    try:
        return not db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except error_classes(sqlite3.OperationalError) as error:
        if "locked" not in str(error):
            raise
        return False


def _filters(what: Forget, first: str, last: str) -> tuple[str, dict[str, Any]]:
    clauses, values = ["TRUE"], dict[str, Any]()
    if what.start_ns is not None:
        clauses.append(f"{last} >= :start_ns")
        values["start_ns"] = what.start_ns
    if what.end_ns is not None:
        clauses.append(f"{first} <= :end_ns")
        values["end_ns"] = what.end_ns
    if what.cameras:
        names = {f"camera{number}": camera for number, camera in enumerate(what.cameras)}
        clauses.append(f"camera IN ({', '.join(f':{name}' for name in names)})")
        values |= names
    if what.session_id:
        clauses.append("session_id = :of_session")
        values["of_session"] = what.session_id
    return " AND ".join(clauses), values


def _references(db: Database, table: str) -> Iterator[tuple[str, str, bool]]:
    """Yield every column that refers to `table`: its table, its name, and whether it is required.

    A row with a required column is deleted together with the row that it refers to.
    """
    for (other,) in db.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
    ).fetchall():
        required = {
            name
            for _, name, _, not_null, _, key in db.execute(f"PRAGMA table_info({other})")
            if not_null or key
        }
        for _, _, target, column, *_ in db.execute(f"PRAGMA foreign_key_list({other})").fetchall():
            if target == table:
                yield other, column, column in required
