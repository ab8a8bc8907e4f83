"""A damaged memory file is set aside, and what can still be read of it goes into a fresh one.

Nothing of it is overwritten.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

from sqlite_utils import Database

from stream_vlm.memory.rescue import sqlcipher_rows
from stream_vlm.memory.rescue.sqlite_pages import RawFile, RawRow, Value, rows
from stream_vlm.memory.storage.encryption import Key, connect
from stream_vlm.memory.storage.errors import error_classes, translate_errors
from stream_vlm.memory.storage.file import free_name
from stream_vlm.memory.storage.schema import (
    APPLICATION_ID,
    MIGRATIONS,
    migrate,
    ordinary_tables,
    transaction,
)

RESCUED_TABLES = ("session", "picture", "record")
"""What cannot be made again; indices and full text follow from these."""

_SEQUENCE_TABLE, _NUMBERED_TABLES = "sqlite_sequence", ("record",)
"""SQLite's own table of how far numbers have gone, and the only text in a two-column row of its
that counts.
"""

BATCH = 500
"""Rows a transaction while rescuing; a picture each makes some 10 MB."""

_SQLITE_TYPES: dict[str, tuple[type, ...]] = {
    "INTEGER": (int,),
    "TEXT": (str,),
    "BLOB": (bytes,),
    "REAL": (float, int),
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rescue:
    """What became of a damaged file.

    Attributes:
        aside: where the damaged file lies now, byte for byte as it was.
        records, pictures: how many were read out of it into the fresh file.
    """

    aside: Path
    records: int
    pictures: int


@dataclass(frozen=True)
class TableShape:
    """What a row of a table looks like from outside: enough to tell the tables apart without the
    file's own directory.
    """

    table: str
    columns: tuple[str, ...]
    types: tuple[tuple[type, ...], ...]
    key: int | None
    fewest: int

    def fits(self, values: tuple[Value, ...]) -> bool:
        """Whether `values` can be a row of the table, perhaps of an older version, which had fewer
        columns.
        """
        return self.fewest <= len(values) <= len(self.columns) and all(
            isinstance(value, kinds) for value, kinds in zip(values, self.types, strict=False)
        )

    def row(self, raw: RawRow) -> dict[str, Value]:
        """By column name; the rowid where it is a column."""
        row = dict(zip(self.columns, raw.values, strict=False))
        return row if self.key is None else row | {self.columns[self.key]: raw.rowid}


def is_ours(path: Path, key: Key | None = None) -> bool:
    """Whether the file's header still says that it is a memory (its first page may be damaged
    behind that, unless it is encrypted).
    """
    if key is not None:
        return sqlcipher_rows.is_ours(path, key)
    with translate_errors(path), path.open("rb") as file:
        header = file.read(72)
    return header[68:72] == APPLICATION_ID.to_bytes(4, "big")


def rescue(path: Path, reason: str, key: Key | None = None) -> Rescue:
    """Set the damaged memory at `path` aside and put a fresh one with its readable rows in its
    place.

    The caller holds the writer's lock, and nobody has the file open. The fresh file is made beside
    and takes the place in one step, so that a power cut leaves either the damaged file or the
    finished one.

    Args:
        reason: what is wrong with it, for the log.
        key: of an encrypted file; the fresh one is under it too.

    Raises:
        MemoryFileError: the fresh file could not be made; the damaged one is where it was.
    """
    fresh = free_name(path, "rescue")
    with translate_errors(path):
        os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            records, pictures = _fill(fresh, path, key)
            aside = free_name(path, f"damaged-{datetime.now():%Y%m%d-%H%M%S}")
            _keep(path, aside)
            os.replace(fresh, path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    _log.warning(
        "%s: is damaged (%s); it is set aside as %s, and %d records and %d pictures of it are rescued into a fresh file",
        path, reason, aside, records, pictures,
    )  # fmt: skip
    return Rescue(aside, records, pictures)


def shapes() -> list[TableShape]:
    """The shapes of the tables that hold what cannot be made again."""
    today, first = (Database(memory=True) for _ in range(2))
    try:
        migrate(today)
        MIGRATIONS[0](first)
        found = []
        for table in RESCUED_TABLES:
            columns = today.execute(f"PRAGMA table_info({table})").fetchall()
            key = next(
                (
                    index
                    for index, (_, _, kind, _, _, pk) in enumerate(columns)
                    if pk and kind == "INTEGER"
                ),
                None,
            )
            types = []
            for index, (_, _, kind, required, _, _) in enumerate(columns):
                types.append(
                    (type(None),)
                    if index == key
                    else _SQLITE_TYPES[kind] + (() if required else (type(None),))
                )
            fewest = len(first.execute(f"PRAGMA table_info({table})").fetchall())
            found.append(
                TableShape(table, tuple(column[1] for column in columns), tuple(types), key, fewest)
            )
        return found
    finally:
        today.close()
        first.close()


def _fill(fresh: Path, damaged: Path, key: Key | None) -> tuple[int, int]:
    """Make `fresh` a memory with the readable rows of `damaged`; how many records and pictures
    those are.
    """
    with closing(connect(fresh, key)) as db:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        # Rows come in the order of their pages, hence a record before its picture and its session:
        # links are mended at the end.
        db.execute("PRAGMA foreign_keys = OFF")
        migrate(db)
        waiting = _from_pages(damaged) if key is None else _from_tables(damaged, key)
        while batch := list(islice(waiting, BATCH)):
            with transaction(db, "IMMEDIATE"):
                _insert(db, batch)
        with transaction(db, "IMMEDIATE"):
            _mend_links(db)
            _copy_the_rest(db, damaged, key)
        records, pictures = (
            int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
            for table in ("record", "picture")
        )
        return records, pictures


def _from_pages(damaged: Path) -> Iterator[tuple[str, dict[str, Value]]]:
    """The rows of a plain file, with the tables that they are of."""
    known = shapes()
    with closing(RawFile(damaged)) as file:
        for raw in rows(file):
            if (
                len(raw.values) == 2
                and raw.values[:1] == _NUMBERED_TABLES
                and isinstance(raw.values[1], int)
            ):
                yield _SEQUENCE_TABLE, {"name": raw.values[0], "seq": raw.values[1]}
            elif shape := next((shape for shape in known if shape.fits(raw.values)), None):
                yield shape.table, shape.row(raw)


def _from_tables(damaged: Path, key: Key) -> Iterator[tuple[str, dict[str, Value]]]:
    """The rows of an encrypted file, with the tables that they are of."""
    for table in RESCUED_TABLES:
        yield from ((table, row) for row in sqlcipher_rows.rows(damaged, key, table))
    yield from (
        (_SEQUENCE_TABLE, row)
        for row in sqlcipher_rows.rows(damaged, key, _SEQUENCE_TABLE)
        if row["name"] in _NUMBERED_TABLES
    )


def _insert(db: Database, batch: Iterable[tuple[str, dict[str, Value]]]) -> None:
    for table, row in batch:
        if table == _SEQUENCE_TABLE:
            # Numbers of records that are lost are not given to others.
            db.execute(
                "INSERT INTO sqlite_sequence (name, seq) SELECT 'record', 0 WHERE NOT EXISTS"
                " (SELECT 1 FROM sqlite_sequence)"
            )
            db.execute(
                "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'record'", [row["seq"]]
            )
            continue
        try:
            db.execute(
                f"INSERT OR IGNORE INTO {table} ({', '.join(row)}) VALUES"
                f" ({', '.join('?' * len(row))})",
                list(row.values()),
            )
        except error_classes(sqlite3.IntegrityError) as error:
            _log.warning("a row of %s is not rescued: %s", table, error)


def _mend_links(db: Database) -> None:
    db.execute(
        "UPDATE record SET picture_id = NULL WHERE picture_id NOT IN (SELECT id FROM picture)"
    )
    db.execute("""
        INSERT INTO session (session_id, model_id, reason, started_ns, wall_started_ns)
        SELECT session_id, min(model_id), 'rescued without its beginning', min(start_ns), 0 FROM (
            SELECT session_id, model_id, start_ns FROM record UNION ALL SELECT session_id, 'unknown', stamp_ns FROM picture
        ) WHERE session_id NOT IN (SELECT session_id FROM session) GROUP BY session_id""")


def _copy_the_rest(db: Database, damaged: Path, key: Key | None) -> None:
    """Vectors, summaries and what else refers to the rescued rows, as far as SQLite still reads it
    from either end of each table.

    From their bytes alone these rows could not be told from others of their size, and they can be
    made again.
    """
    for name in ordinary_tables(db):
        if name in RESCUED_TABLES:
            continue
        # From its end only where it breaks off from its beginning.
        if not _copy_until_damage(db, damaged, key, name, "ASC"):
            _copy_until_damage(db, damaged, key, name, "DESC")
    while broken := db.execute("PRAGMA foreign_key_check").fetchall():
        for table, rowid, *_ in broken:
            if rowid is None:  # a table without rowids, which holds links and nothing else
                db.execute(f"DELETE FROM {table}")
            else:
                db.execute(f"DELETE FROM {table} WHERE rowid = ?", [rowid])


def _copy_until_damage(
    db: Database, damaged: Path, key: Key | None, table: str, order: str
) -> bool:
    """Whether the whole table could be read."""
    columns = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
    by = ", ".join(
        f"{name} {order}"
        for _, name, *_, place in db.execute(f"PRAGMA table_info({table})")
        if place
    )
    source = sqlcipher_rows.open_damaged(damaged, key)
    try:
        for row in source.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {by}"):
            db.execute(f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        return True
    except error_classes(sqlite3.DatabaseError) as error:
        _log.warning("%s: rows of %s are lost (%s)", damaged, table, error)
        return False
    finally:
        source.close()


def _keep(path: Path, aside: Path) -> None:
    """Give the damaged file and its log the name `aside`; the file keeps its old name too until the
    fresh one takes that.
    """
    log = path.with_name(path.name + "-wal")
    try:
        os.link(path, aside)
    except OSError:
        os.rename(path, aside)  # a file system without links
    if log.exists() and not log.stat().st_size:
        log.unlink()  # left by one that only read
    elif log.exists():
        os.rename(log, aside.with_name(aside.name + "-wal"))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
