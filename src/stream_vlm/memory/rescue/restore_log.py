"""Store the rows of a write-ahead log again whose file was truncated or overwritten."""

from __future__ import annotations

import logging
from contextlib import closing, suppress
from pathlib import Path

from sqlite_utils import Database

from stream_vlm.memory.rescue.rescue import shapes
from stream_vlm.memory.rescue.sqlite_pages import RawFile, Value, rows
from stream_vlm.memory.storage.connections import transaction

SAME_RECORD = ("session_id", "kind", "camera", "start_ns", "end_ns", "text", "query_id", "event_id")
"""Columns by which a record is recognised, whatever its number."""

_log = logging.getLogger(__name__)


def restore_log(db: Database, aside: Path, *, encrypted: bool) -> int:
    """Store those records of a log that the memory does not have, and delete the log.

    Args:
        db: the connection that writes.
        aside: a name without a file; the log is `aside` with `-wal` added.
        encrypted: whether the log is encrypted. Then it cannot be read without its file, and is
            left.

    Returns:
        How many records were stored.
    """
    log = aside.with_name(aside.name + "-wal")
    if encrypted:
        _log.warning("%s: is encrypted and cannot be read without its file; it is left", log)
        return 0
    found: dict[str, list[dict[str, Value]]] = {"session": [], "picture": [], "record": []}
    known = shapes()
    with closing(RawFile(aside)) as file:
        for raw in rows(file):
            shape = next((shape for shape in known if shape.fits(raw.values)), None)
            if shape is not None:
                found[shape.table].append(shape.row(raw))
    with transaction(db, "IMMEDIATE"):
        for row in found["session"]:
            _insert(db, "session", row)
        pictures = {row["id"]: _picture(db, row) for row in found["picture"]}
        stored = sum(_record(db, row, pictures) for row in found["record"])
    with suppress(OSError):
        log.unlink()
    return stored


def _picture(db: Database, row: dict[str, Value]) -> int | None:
    """Store a picture unless it is there, and return its number."""
    if not _has_session(db, row):
        return None
    _insert(db, "picture", {name: value for name, value in row.items() if name != "id"})
    there = db.execute(
        "SELECT id FROM picture WHERE session_id = :session_id AND camera = :camera AND stamp_ns ="
        " :stamp_ns",
        row,
    ).fetchone()
    return int(there[0]) if there else None


def _record(db: Database, row: dict[str, Value], pictures: dict[Value, int | None]) -> bool:
    """Store a record unless it is there; return whether it was stored."""
    same = " AND ".join(f"{name} = :{name}" for name in SAME_RECORD)
    if db.execute(f"SELECT 1 FROM record WHERE {same} LIMIT 1", row).fetchone():
        return False
    if not _has_session(db, row):
        _insert(
            db,
            "session",
            {
                "session_id": row["session_id"],
                "model_id": row["model_id"],
                "reason": "restored without its beginning",
                "started_ns": row["start_ns"],
                "wall_started_ns": 0,
            },
        )
    stored = {name: value for name, value in row.items() if name != "id"}
    _insert(db, "record", stored | {"picture_id": pictures.get(row["picture_id"])})
    return True


def _has_session(db: Database, row: dict[str, Value]) -> bool:
    return bool(
        db.execute("SELECT 1 FROM session WHERE session_id = ?", [row["session_id"]]).fetchone()
    )


def _insert(db: Database, table: str, row: dict[str, Value]) -> None:
    names = ", ".join(row)
    db.execute(
        f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({', '.join(f':{name}' for name in row)})",
        row,
    )
