"""Export a whole memory as JSON lines and import it, for other programs, machines and versions.

The first line names the format. The last line has the number of rows and the SHA-256 of all lines
before it. Each line between is one row, `{"table": "record", "row": {...}}`, with bytes as
`{"base64": "..."}`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sqlite_utils import Database

from stream_vlm.memory.maintenance.import_rows import (
    BYTE_ORDER_MARK,
    Column,
    RowProblem,
    columns_of,
    lines,
    parsed,
    values_of,
)
from stream_vlm.memory.maintenance.merge_rows import merge
from stream_vlm.memory.storage.connections import transaction
from stream_vlm.memory.storage.encryption import Key, attach, connect
from stream_vlm.memory.storage.errors import MemoryFileError, error_classes, translate_errors
from stream_vlm.memory.storage.schema import (
    MIGRATIONS,
    SCHEMA_VERSION,
    fill_indexed_text,
    migrate,
    ordinary_tables,
    version_of,
)

FORMAT = "stream_vlm memory"
"""The name of the format, in the first line."""

NOT_AN_EXPORT = "is not an export of a memory; give a file that 'stream-vlm memory export' wrote"

_log = logging.getLogger(__name__)


def export_lines(db: Database) -> Iterator[bytes]:
    """Yield the lines of the memory in `db`, with newlines.

    Run it inside one transaction, so that all lines are of the same state of the file.
    """
    digest, counted = hashlib.sha256(), Counter[str]()
    for line in _body(db, counted):
        digest.update(line)
        yield line
    yield _line({"rows": dict(counted), "sha256": digest.hexdigest()})


def _body(db: Database, counted: Counter[str]) -> Iterator[bytes]:
    yield _line({"format": FORMAT, "version": version_of(db)})
    for table in ordinary_tables(db):
        if table == "known_copy":
            continue  # names of files of this computer
        rows = db.execute(f"SELECT * FROM {table}")
        names = [column[0] for column in rows.description]
        for values in rows:
            counted[table] += 1
            yield _line(
                {
                    "table": table,
                    "row": {
                        name: _json_value(value) for name, value in zip(names, values, strict=True)
                    },
                }
            )


def _json_value(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
        added: how many rows were added, by table.
        already_there: how many records the memory had already.
        refused: how many lines and rows were refused.
    """

    added: dict[str, int]
    already_there: int
    refused: int


class _Refusals:
    """Counts what is refused, and says why."""

    def __init__(self, source: Path, say: Callable[[str], None]) -> None:
        self.number = 0
        self._source = source
        self._say = say

    def add(self, what: str, number: int = 1) -> None:
        self.number += number
        self._say(f"{self._source}: {what}")


def import_file(
    db: Database,
    path: Path,
    source: Path,
    key: Key | None = None,
    say: Callable[[str], None] = _log.warning,
) -> Imported:
    """Add the sound rows of the export `source` to the memory in `db`, in one transaction.

    Rows get new numbers. A row that the memory has already is not added again, so the same export
    can be imported twice. A row that is damaged is refused, and `say` gets the reason; the others
    are imported. The export is first read into a temporary file next to the memory, where it is
    checked and migrated.

    Args:
        db: the connection that writes.
        path: the memory file.
        source: the export.
        key: of an encrypted memory, else None.
        say: called with one sentence for each row that is refused.

    Raises:
        MemoryFileError: the file is not an export, has a newer version, or cannot be read; nothing
            was added.
    """
    staged = path.with_name(f"{path.name}.import-{os.getpid()}")
    refusals = _Refusals(source, say)
    sessions = {
        row[0]: row
        for row in db.execute(
            "SELECT session_id, model_id, reason, started_ns, wall_started_ns FROM session"
        ).fetchall()
    }
    with translate_errors(path):
        staged.unlink(missing_ok=True)  # left by a process of the same number that was killed
        os.close(os.open(staged, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        _stage(source, staged, key, refusals, sessions, path)
        attach(db, staged, "incoming", key)
        try:
            with transaction(db, "IMMEDIATE"):
                added, already_there = merge(db)
        finally:
            db.execute("DETACH DATABASE incoming")
    finally:
        for ending in ("", "-journal"):
            staged.with_name(staged.name + ending).unlink(missing_ok=True)
    return Imported(added, already_there, refusals.number)


def _stage(
    source: Path,
    staged: Path,
    key: Key | None,
    refusals: _Refusals,
    sessions: dict[str, tuple[Any, ...]],
    path: Path,
) -> None:
    db = connect(staged, key)
    try:
        # The file is deleted if anything fails, so it need not be synced to disk.
        db.execute("PRAGMA journal_mode = MEMORY")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA foreign_keys = OFF")
        try:
            with source.open("rb") as file, transaction(db, "IMMEDIATE"):
                numbers = _read(db, file, source, refusals)
            migrate(db)
            with transaction(db, "IMMEDIATE"):
                fill_indexed_text(db)  # what is found follows from the texts alone
                _refuse_other_sessions(db, sessions, path, refusals)
                _refuse_broken_links(db, numbers, refusals)
        except error_classes(sqlite3.Error, OSError) as error:
            raise MemoryFileError(
                f"{source}: cannot be imported: {error}; nothing was imported"
            ) from error
    finally:
        db.close()


def _read(
    db: Database, file: BinaryIO, source: Path, refusals: _Refusals
) -> dict[tuple[str, int], int]:
    """Store every sound line; return the number of the line of each table and row number."""
    digest, counted = hashlib.sha256(), Counter[str]()
    numbers: dict[tuple[str, int], int] = {}
    tables: dict[str, list[Column]] = {}
    ended = False
    for number, line in enumerate(lines(file), 1):
        if number == 1:
            line = line.removeprefix(BYTE_ORDER_MARK)
            tables = _make_tables(db, line, source)
        elif ended:
            refusals.add(f"line {number} is behind the end of the export")
            break
        else:
            try:
                content = parsed(line)
                if "sha256" in content:
                    ended = True
                    if content["sha256"] != digest.hexdigest() or content.get("rows") != dict(
                        counted
                    ):
                        refusals.add(
                            "its contents do not match its last line, so rows may be missing or"
                            " changed"
                        )
                    continue
                if str(content.get("table")) in tables:
                    counted[str(content["table"])] += 1
                table, values = values_of(content, tables)
                numbers[table, _insert(db, table, tables[table], values)] = number
            except RowProblem as problem:
                refusals.add(f"line {number} {problem}; it was not imported")
        digest.update(line)
    if not tables:
        raise MemoryFileError(f"{source}: {NOT_AN_EXPORT}; nothing was imported")
    if not ended:
        refusals.add("its end is missing, so rows may be missing")
    return numbers


def _make_tables(db: Database, line: bytes, source: Path) -> dict[str, list[Column]]:
    """Make the tables of the export's version, which its first line names."""
    try:
        content = parsed(line)
    except RowProblem as problem:
        raise MemoryFileError(f"{source}: {NOT_AN_EXPORT}; nothing was imported") from problem
    version = content.get("version")
    if content.get("format") != FORMAT or type(version) is not int or version < 1:
        raise MemoryFileError(f"{source}: {NOT_AN_EXPORT}; nothing was imported")
    if version > SCHEMA_VERSION:
        raise MemoryFileError(
            f"{source}: has version {version}, newer than this program's {SCHEMA_VERSION};"
            " upgrade stream_vlm_ros"
        )
    for step in MIGRATIONS[:version]:
        step(db)
    db.execute(f"PRAGMA user_version = {version}")
    return columns_of(db)


def _insert(db: Database, table: str, columns: list[Column], values: list[Any]) -> int:
    """Store a row, and return its row number."""
    names = ", ".join(column.name for column in columns)
    try:
        inserted = db.execute(
            f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(values))})", values
        )
    except error_classes(sqlite3.IntegrityError, OverflowError, UnicodeEncodeError) as error:
        said = str(error)
        if "UNIQUE" in said:
            raise RowProblem(f"is in the export twice ({said.partition(': ')[2]})") from error
        raise RowProblem(f"breaks a rule of the tables ({said})") from error
    return int(inserted.lastrowid or 0)


def _refuse_other_sessions(
    db: Database, sessions: dict[str, tuple[Any, ...]], path: Path, refusals: _Refusals
) -> None:
    """Refuse sessions whose name the memory has for another session, with all their rows."""
    for row in db.execute(
        "SELECT session_id, model_id, reason, started_ns, wall_started_ns FROM session"
    ).fetchall():
        if sessions.get(row[0], row) == row:
            continue
        (records,) = db.execute(
            "SELECT count(*) FROM record WHERE session_id = ?", [row[0]]
        ).fetchone()
        refusals.add(
            f"another session '{row[0]}' is already in {path}, so this one and its {records}"
            " records were not imported"
        )
        for table in ("record", "picture", "session"):
            # What refers to them goes with them, without a word for each.
            for other, column in (("record_vector", "record"), ("picture_vector", "picture"),
                                  ("sighting", "record"), ("summary", "record")):  # fmt: skip
                if column == table:
                    db.execute(
                        f"DELETE FROM {other} WHERE {column}_id IN (SELECT id FROM {table} WHERE"
                        " session_id = ?)",
                        [row[0]],
                    )
            db.execute(f"DELETE FROM {table} WHERE session_id = ?", [row[0]])
        db.execute(
            "DELETE FROM summary_covers WHERE summary_id NOT IN (SELECT record_id FROM summary)"
            " OR record_id NOT IN (SELECT id FROM record)"
        )


def _refuse_broken_links(
    db: Database, numbers: dict[tuple[str, int], int], refusals: _Refusals
) -> None:
    """Refuse rows that refer to a row that is missing or was refused."""
    other = (
        "SELECT record.id FROM record JOIN picture ON picture.id = picture_id WHERE picture.camera"
        " <> record.camera OR picture.session_id <> record.session_id"
    )
    for (number,) in db.execute(other).fetchall():
        refusals.add(
            f"line {numbers.get(('record', number), 0)} refers to a picture of another camera or"
            " session; it was imported without"
        )
        db.execute("UPDATE record SET picture_id = NULL WHERE id = ?", [number])
    for of in ("record", "picture"):
        for (number,) in db.execute(
            f"SELECT {of}_vector.id FROM {of}_vector JOIN vector_model ON vector_model.id ="
            " vector_model_id WHERE length(halves) <> 2 * size"
        ).fetchall():
            at = numbers.get((f"{of}_vector", number), 0)
            refusals.add(f"line {at} has a vector of another size than its model's")
            db.execute(f"DELETE FROM {of}_vector WHERE id = ?", [number])
    while broken := db.execute("PRAGMA foreign_key_check").fetchall():
        for table, rowid, target, _ in broken:
            if rowid is None:
                continue
            line = f"line {numbers.get((table, rowid), 0)} refers to a {target} that is missing"
            if (table, target) == ("record", "picture"):
                refusals.add(f"{line}; it was imported without")
                db.execute("UPDATE record SET picture_id = NULL WHERE id = ?", [rowid])
            else:
                refusals.add(f"{line}; it was not imported")
                db.execute(f"DELETE FROM {table} WHERE rowid = ?", [rowid])
        gone = db.execute(
            "DELETE FROM summary_covers WHERE summary_id NOT IN (SELECT record_id FROM summary) OR"
            " record_id NOT IN (SELECT id FROM record)"
        ).rowcount
        if gone:
            refusals.add(f"{gone} links of summaries refer to records that are missing", gone)


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
