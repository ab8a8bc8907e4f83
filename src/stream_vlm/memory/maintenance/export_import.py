"""Export a whole memory as JSON lines and import it, for other programs, machines and versions.

The first line names the format. The last line has the number of rows and the SHA-256 of all lines
before it. Each line between is one row, `{"table": "record", "row": {...}}`, with bytes as
`{"base64": "..."}`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from sqlite_utils import Database

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

NOT_IMPORTED = ("dropped",)
"""Tables with counts of their own file, which do not apply to another file."""


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


def import_file(db: Database, path: Path, source: Path, key: Key | None = None) -> dict[str, int]:
    """Add all of the export `source` to the memory in `db`, in one transaction.

    Records and pictures get new numbers. The export is first read into a temporary file next to the
    memory, where it is checked and migrated. Nothing of a foreign or damaged export gets into the
    memory.

    Args:
        db: the connection that writes.
        path: the memory file.
        source: the export.
        key: of an encrypted memory, else None.

    Returns:
        How many rows were added, by table.

    Raises:
        MemoryFileError: the file is not an export, is damaged, has a newer version, or has a
            session that the memory already has.
    """
    staged = path.with_name(f"{path.name}.import-{os.getpid()}")
    with translate_errors(path):
        os.close(os.open(staged, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        _stage(source, staged, key)
        attach(db, staged, "incoming", key)
        try:
            with transaction(db, "IMMEDIATE"):
                return _add(db, path, source)
        finally:
            db.execute("DETACH DATABASE incoming")
    finally:
        for ending in ("", "-journal"):
            staged.with_name(staged.name + ending).unlink(missing_ok=True)


def _stage(source: Path, staged: Path, key: Key | None) -> None:
    db = connect(staged, key)
    try:
        # The file is deleted if anything fails, so it need not be synced to disk.
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA foreign_keys = OFF")
        try:
            with source.open("rb") as file, transaction(db, "IMMEDIATE"):
                _read(db, file, source)
        except error_classes(sqlite3.Error, OSError) as error:
            raise MemoryFileError(
                f"{source}: cannot be imported: {error}; nothing was imported"
            ) from error
        migrate(db)
        fill_indexed_text(db)  # what is found follows from the texts alone
        if db.execute("PRAGMA foreign_key_check").fetchone():
            raise MemoryFileError(
                f"{source}: is damaged (a row refers to a row that is missing); nothing was"
                " imported"
            )
    finally:
        db.close()


def _read(db: Database, file: BinaryIO, source: Path) -> None:
    digest, counted = hashlib.sha256(), Counter[str]()
    columns: dict[str, list[str]] = {}
    for number, line in enumerate(file, 1):
        content = _parsed(line, number, source)
        if number == 1:
            version = content.get("version")
            if content.get("format") != FORMAT or not isinstance(version, int) or version < 1:
                raise MemoryFileError(
                    f"{source}: is not an export of a memory; give a file that 'stream-vlm memory"
                    " export' wrote"
                )
            if version > SCHEMA_VERSION:
                raise MemoryFileError(
                    f"{source}: has version {version}, newer than this program's"
                    f" {SCHEMA_VERSION}; upgrade stream_vlm_ros"
                )
            for step in MIGRATIONS[:version]:
                step(db)
            db.execute(f"PRAGMA user_version = {version}")
            columns = {
                table: [column[1] for column in db.execute(f"PRAGMA table_info({table})")]
                for table in ordinary_tables(db)
            }
        elif "sha256" in content:
            if (
                content["sha256"] != digest.hexdigest()
                or content.get("rows") != dict(counted)
                or file.read(1)
            ):
                raise MemoryFileError(
                    f"{source}: is damaged (its contents do not match its last line); nothing was"
                    " imported"
                )
            return
        else:
            table, row = content.get("table"), content.get("row")
            if (
                table not in columns
                or not isinstance(row, dict)
                or sorted(row) != sorted(columns[table])
            ):
                raise MemoryFileError(
                    f"{source}: line {number} is not a row of a memory; nothing was imported"
                )
            values = [
                base64.b64decode(value["base64"]) if isinstance(value, dict) else value
                for value in row.values()
            ]
            db.execute(
                f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
                values,
            )
            counted[table] += 1
        digest.update(line)
    raise MemoryFileError(f"{source}: is damaged (its end is missing); nothing was imported")


def _parsed(line: bytes, number: int, source: Path) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except ValueError as error:
        what = (
            "is not an export of a memory; give a file that 'stream-vlm memory export' wrote"
            if number == 1
            else f"is damaged (line {number})"
        )
        raise MemoryFileError(f"{source}: {what}; nothing was imported") from error
    if not isinstance(content, dict):
        raise MemoryFileError(
            f"{source}: line {number} is not a row of a memory; nothing was imported"
        )
    return content


def _add(db: Database, path: Path, source: Path) -> dict[str, int]:
    both = db.execute(
        "SELECT session_id FROM incoming.session INTERSECT SELECT session_id FROM main.session"
        " LIMIT 1"
    ).fetchone()
    if both:
        raise MemoryFileError(
            f"{source}: session '{both[0]}' is already in {path}; nothing was imported"
        )
    added = {}
    # Models with the same name and size are the same model in every file.
    db.execute(
        "INSERT OR IGNORE INTO main.vector_model (name, size) SELECT name, size FROM"
        " incoming.vector_model"
    )
    tables = [
        table for table in ordinary_tables(db) if table not in (*NOT_IMPORTED, "vector_model")
    ]
    offsets = {table: _highest(db, table) for table in tables}
    refers = {
        table: {
            column: (target, to)
            for _, _, target, column, to, *_ in db.execute(f"PRAGMA foreign_key_list({table})")
        }
        for table in tables
    }
    db.execute("PRAGMA defer_foreign_keys = ON")
    for table in tables:
        chosen = []
        names = []
        for _, name, kind, *_ in db.execute(f"PRAGMA table_info({table})"):
            names.append(name)
            target, column = table, name
            while column in refers.get(target, {}):
                target, column = refers[target][column]
            if target == "vector_model":
                same = (
                    "SELECT ours.id FROM main.vector_model ours JOIN incoming.vector_model theirs"
                    " USING (name, size)"
                )
                chosen.append(f"({same} WHERE theirs.id = rows.{name})")
            elif kind == "INTEGER" and column == "id":
                chosen.append(f"rows.{name} + {offsets[target]}")
            else:
                chosen.append(f"rows.{name}")
        added[table] = db.execute(
            f"INSERT INTO main.{table} ({', '.join(names)}) SELECT {', '.join(chosen)} FROM"
            f" incoming.{table} rows"
        ).rowcount
    return added


def _highest(db: Database, table: str) -> int:
    """Return the highest number that `table` has given, 0 if its rows have no numbers."""
    if not any(name == "id" for _, name, *_ in db.execute(f"PRAGMA table_info({table})")):
        return 0
    given = db.execute("SELECT seq FROM main.sqlite_sequence WHERE name = ?", [table]).fetchone()
    (stored,) = db.execute(f"SELECT ifnull(max(id), 0) FROM main.{table}").fetchone()
    return max(int(stored), int(given[0]) if given else 0)


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
