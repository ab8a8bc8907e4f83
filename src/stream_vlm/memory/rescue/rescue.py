"""Rename a damaged memory file, and copy its readable rows into a new file.

Nothing of the damaged file is overwritten.
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
from stream_vlm.memory.storage.connections import transaction
from stream_vlm.memory.storage.encryption import Key, connect
from stream_vlm.memory.storage.errors import error_classes, translate_errors
from stream_vlm.memory.storage.file import free_name
from stream_vlm.memory.storage.schema import (
    APPLICATION_ID,
    MIGRATIONS,
    fill_indexed_text,
    migrate,
    ordinary_tables,
)

RESCUED_TABLES = ("session", "picture", "record")
"""The tables that cannot be made again; indices and full text follow from them."""

_SEQUENCE_TABLE, _NUMBERED_TABLES = "sqlite_sequence", ("record",)
"""SQLite's table of the highest numbers, and the tables whose number is rescued."""

BATCH = 500
"""Rows per transaction of a rescue; with a picture each they make some 10 MB."""

_SQLITE_TYPES: dict[str, tuple[type, ...]] = {
    "INTEGER": (int,),
    "TEXT": (str,),
    "BLOB": (bytes,),
    "REAL": (float, int),
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rescue:
    """The result of a rescue.

    Attributes:
        aside: where the damaged file is now, unchanged.
        records: how many were copied into the new file.
        pictures: how many were copied into the new file.
    """

    aside: Path
    records: int
    pictures: int


@dataclass(frozen=True)
class TableShape:
    """What a row of a table looks like, to tell tables apart without the file's schema.

    Attributes:
        table: its name.
        columns: the names of its columns.
        types: the Python types that each column may have.
        key: index of the column that is the rowid, or None.
        fewest: number of columns in the first version.
    """

    table: str
    columns: tuple[str, ...]
    types: tuple[tuple[type, ...], ...]
    key: int | None
    fewest: int

    def fits(self, values: tuple[Value, ...]) -> bool:
        """Return whether `values` can be a row of the table.

        A row of an older version has fewer columns.
        """
        return self.fewest <= len(values) <= len(self.columns) and all(
            isinstance(value, kinds) for value, kinds in zip(values, self.types, strict=False)
        )

    def row(self, raw: RawRow) -> dict[str, Value]:
        """Return the values by column name, with the rowid if it is a column."""
        row = dict(zip(self.columns, raw.values, strict=False))
        return row if self.key is None else row | {self.columns[self.key]: raw.rowid}


def is_ours(path: Path, key: Key | None = None) -> bool:
    """Return whether the file's header marks it as a memory.

    The rest of the first page may be damaged, unless the file is encrypted.
    """
    if key is not None:
        return sqlcipher_rows.is_ours(path, key)
    with translate_errors(path), path.open("rb") as file:
        header = file.read(72)
    return header[68:72] == APPLICATION_ID.to_bytes(4, "big")


def rescue(path: Path, reason: str, key: Key | None = None) -> Rescue:
    """Rename the damaged memory at `path`, and put a new file with its readable rows in its place.

    The caller holds the writer lock, and no other program has the file open. The new file is
    completed first and then renamed in one step, so that after a power cut there is either the
    damaged file or the complete new one.

    Args:
        path: the damaged file.
        reason: what is wrong with it, for the log.
        key: of an encrypted file, else None; the new file has the same key.

    Raises:
        MemoryFileError: the new file could not be made; the damaged one was not changed.
    """
    fresh = free_name(path, "rescue")
    with translate_errors(path):
        os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            records, pictures = _fill(fresh, path, key)
            aside = free_name(path, f"damaged-{datetime.now():%Y%m%d-%H%M%S}")
            _move_aside(path, aside)
            os.replace(fresh, path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    _log.warning(
        "%s: is damaged (%s); it was renamed to %s, and %d records and %d pictures were copied into"
        " a new file",
        path,
        reason,
        aside,
        records,
        pictures,
    )
    return Rescue(aside, records, pictures)


def shapes() -> list[TableShape]:
    """Return the shapes of the tables that cannot be made again."""
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
    """Make `fresh` a memory with the readable rows of `damaged`.

    Returns:
        How many records and pictures it has.
    """
    with closing(connect(fresh, key)) as db:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        # Rows come in the order of their pages, so that a record may come before its picture and
        # its session. Links are repaired at the end.
        db.execute("PRAGMA foreign_keys = OFF")
        migrate(db)
        waiting = _from_pages(damaged) if key is None else _from_tables(damaged, key)
        while batch := list(islice(waiting, BATCH)):
            with transaction(db, "IMMEDIATE"):
                _insert(db, batch)
        with transaction(db, "IMMEDIATE"):
            _repair_links(db)
            _copy_the_rest(db, damaged, key)
        records, pictures = (
            int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
            for table in ("record", "picture")
        )
        return records, pictures


def _from_pages(damaged: Path) -> Iterator[tuple[str, dict[str, Value]]]:
    """Yield the rows of a plain file, with their tables."""
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
    """Yield the rows of an encrypted file, with their tables."""
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
            # The numbers of lost records are not used again.
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


def _repair_links(db: Database) -> None:
    fill_indexed_text(db)  # the rows of an older version lack it
    db.execute(
        "UPDATE record SET picture_id = NULL WHERE picture_id NOT IN (SELECT id FROM picture)"
    )
    db.execute("""
        INSERT INTO session (session_id, model_id, reason, started_ns, wall_started_ns)
        SELECT session_id, min(model_id), 'rescued without its beginning', min(start_ns), 0 FROM (
            SELECT session_id, model_id, start_ns FROM record
            UNION ALL SELECT session_id, 'unknown', stamp_ns FROM picture
        ) WHERE session_id NOT IN (SELECT session_id FROM session) GROUP BY session_id""")


def _copy_the_rest(db: Database, damaged: Path, key: Key | None) -> None:
    """Copy vectors, summaries and other rows, as far as SQLite can read them.

    Each table is read from its start, and after damage from its end. These rows are not read from
    raw pages, because there they could not be told from others; they can be made again.
    """
    for name in ordinary_tables(db):
        if name in RESCUED_TABLES:
            continue
        # From its end only if it could not be read to the end.
        if not _copy_until_damage(db, damaged, key, name, "ASC"):
            _copy_until_damage(db, damaged, key, name, "DESC")
    while broken := db.execute("PRAGMA foreign_key_check").fetchall():
        for table, rowid, *_ in broken:
            if rowid is None:  # a table without rowids, which has only links
                db.execute(f"DELETE FROM {table}")
            else:
                db.execute(f"DELETE FROM {table} WHERE rowid = ?", [rowid])


def _copy_until_damage(
    db: Database, damaged: Path, key: Key | None, table: str, order: str
) -> bool:
    """Copy the rows of `table` in `order` up to the first damage.

    Returns:
        Whether all rows were copied.
    """
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


def _move_aside(path: Path, aside: Path) -> None:
    """Rename the damaged file and its WAL to `aside`.

    The file also keeps its old name until the new file replaces it.
    """
    log = path.with_name(path.name + "-wal")
    try:
        os.link(path, aside)
    except OSError:
        os.rename(path, aside)  # a file system without links
    if log.exists() and not log.stat().st_size:
        log.unlink()  # left by a reader
    elif log.exists():
        os.rename(log, aside.with_name(aside.name + "-wal"))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
