"""What the robot is told to forget: every trace of it in the file goes, and its space is given
back.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from stream_vlm.memory.search.query import Place, RecallError, RecallQuery
from stream_vlm.memory.storage.connections import Connections
from stream_vlm.memory.storage.errors import error_classes

VACUUM_PAGES = 500
"""Pages given back in one transaction (2 MB); a step that waits to be stored gets in between two."""

COPIES = ("damaged-*", "version-*", "backup-*")
"""Endings of the copies that may lie beside a memory: they are not forgotten in."""


@dataclass(frozen=True)
class Forget:
    """What is to be forgotten: all that every given filter holds for.

    Attributes:
        start_ns, end_ns: what touches this time, ends included (int64 ns on the evidence's clock),
            or None.
        place: what was seen from within this disc, or None. A record without a pose is near
            nowhere.
        cameras: only what these cameras saw; empty means all.

    Raises:
        RecallError: no filter is given, or one cannot be meant.
    """

    start_ns: int | None = None
    end_ns: int | None = None
    place: Place | None = None
    cameras: tuple[str, ...] = ()

    @classmethod
    def everything(cls) -> Forget:
        """All there is, of whatever time."""
        return cls(start_ns=-(2**63))

    def __post_init__(self) -> None:
        object.__setattr__(self, "cameras", tuple(self.cameras))
        if (
            self.start_ns is None
            and self.end_ns is None
            and self.place is None
            and not self.cameras
        ):
            raise RecallError(
                "forget: nothing is named; give a time, a place or a camera, or say that everything"
                " is meant"
            )
        RecallQuery(
            start_ns=self.start_ns, end_ns=self.end_ns, place=self.place, cameras=self.cameras
        )


@dataclass(frozen=True)
class Forgotten:
    """What was forgotten, or would be.

    Attributes:
        records: how many records, those among them that are linked with what was named.
        pictures: how many thumbnails.
        picture_bytes: how large those were.
        freed_bytes: by how much the file became smaller.
        erased: nothing of it is left in the file or its log. False where a reader kept the log
            busy: its next checkpoint takes the rest.
        copies: copies of the memory beside it, which still hold what they held.
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
                "; what was copied before is still in"
                f" {', '.join(str(copy) for copy in self.copies)}"
            )
        return said


def count_forgotten(connections: Connections, what: Forget) -> Forgotten:
    """What forgetting `what` would delete; nothing is deleted."""
    with connections.snapshot() as db:
        marked = _mark(db, what)
    return replace(marked, copies=copies_beside(connections.path))


def erase(connections: Connections, what: Forget) -> tuple[Forgotten, int]:
    """Delete `what` in one transaction.

    Returns:
        What was deleted, and how many pages the file had before.
    """
    with connections.writing() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        marked = _mark(db, what)
        _delete(db)
    return marked, pages


def give_back(connections: Connections, forgotten: Forgotten, pages_before: int) -> Forgotten:
    """Make the file smaller and empty its log, after `erase`.

    Returns:
        `forgotten` with how many bytes were freed, and whether all of it is erased.
    """
    more = True
    while more:
        # Steps that wait to be stored get in here.
        time.sleep(0.001)
        with connections.writer() as db:
            more = _give_back_pages(db)
    with connections.writer() as db:
        erased = _empty_log(db)
        page_size, pages = (
            int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_size", "page_count")
        )
    return replace(
        forgotten,
        freed_bytes=(pages_before - pages) * page_size,
        erased=erased,
        copies=copies_beside(connections.path),
    )


def _mark(db: Database, what: Forget) -> Forgotten:
    """Collect the numbers of what is meant in temporary tables, within the caller's transaction,
    and count it.

    A record goes with those it is linked with: the utterance that reports a forgotten event, the
    question of a forgotten answer, every summary that was made from it. Better one record too many
    than a sentence that tells what should be forgotten.
    """
    make_marks(db)
    filters, values = _filters(what, "start_ns", "end_ns")
    if what.place is not None:
        filters += " AND (x - :x) * (x - :x) + (y - :y) * (y - :y) <= :radius * :radius"
        values |= {"x": what.place.x, "y": what.place.y, "radius": what.place.radius}
    db.execute(f"INSERT INTO forgotten SELECT id FROM record WHERE {filters}", values)
    for link in ("event_id", "query_id"):
        db.execute(
            f"INSERT OR IGNORE INTO forgotten SELECT id FROM record WHERE {link} <> '' AND {link}"
            f" IN (SELECT {link} FROM record JOIN forgotten USING (id) WHERE {link} <> '')"
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
    """Make the temporary tables `forgotten` and `forgotten_picture`, which hold the numbers of what
    `delete_marked` deletes.
    """
    for table in ("forgotten", "forgotten_picture"):
        db.execute(f"DROP TABLE IF EXISTS temp.{table}")
        db.execute(f"CREATE TEMP TABLE {table} (id INTEGER PRIMARY KEY)")


def _delete(db: Database) -> None:
    """Delete what `_mark` collected, with all that refers to it, within the same transaction, so
    that no byte of it is left in any page.
    """
    delete_marked(db)
    # Full text keeps deleted words until it merges its parts, and the R*Tree keeps what a node held
    # behind what it holds.
    db.execute("INSERT INTO record_text (record_text) VALUES ('optimize')")
    for number, node in db.execute("SELECT nodeno, data FROM record_place_node").fetchall():
        if node != (clean := _without_leftovers(node)):
            db.execute("UPDATE record_place_node SET data = ? WHERE nodeno = ?", [clean, number])


def delete_marked(db: Database) -> None:
    """Delete the rows whose numbers stand in the temporary tables of `_mark`, and all that refers to
    them.
    """
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
    """A node of the R*Tree with zeros behind its cells: 4 bytes of header, the number of cells in
    the last two, 24 bytes a cell.
    """
    used = 4 + 24 * int.from_bytes(node[2:4], "big")
    return node[:used] + bytes(len(node) - used)


def _give_back_pages(db: Database) -> bool:
    """Give up to `VACUUM_PAGES` free pages back to the file system; whether there are more."""
    db.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
    return bool(db.execute("PRAGMA freelist_count").fetchone()[0])


def _empty_log(db: Database) -> bool:
    """Bring all of the log into the file and cut the log to nothing; False where a reader that
    still looks at an older state prevents it.
    """
    try:
        return not db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except error_classes(sqlite3.OperationalError) as error:
        if "locked" not in str(error):
            raise
        return False


def copies_beside(path: Path) -> tuple[Path, ...]:
    """The copies of the memory at `path` that lie beside it."""
    return tuple(
        sorted(found for ending in COPIES for found in path.parent.glob(f"{path.name}.{ending}"))
    )


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
    return " AND ".join(clauses), values


def _references(db: Database, table: str) -> Iterator[tuple[str, str, bool]]:
    """Every column that refers to `table`: its table, its name, and whether its row means nothing
    without it.
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
