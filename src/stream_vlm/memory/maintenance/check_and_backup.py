"""Statistics, a full check and a backup of a memory file, also while a node writes it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from stream_vlm.memory.maintenance.known_copies import BACKUP, known_copies, note_copy
from stream_vlm.memory.maintenance.retention import dropped_so_far
from stream_vlm.memory.storage.encryption import Key, connect
from stream_vlm.memory.storage.errors import MemoryFileError, error_classes, translate_errors
from stream_vlm.memory.storage.file import check_for_reading, open_for_reading
from stream_vlm.memory.storage.schema import version_of


@dataclass(frozen=True)
class Stats:
    """Statistics of a memory file.

    Attributes:
        records: how many, by kind.
        cameras: how many records, by camera.
        pictures: how many thumbnails.
        picture_bytes: their size.
        sessions: how many.
        oldest_ns: ns on the clock of the frames, None in an empty memory.
        newest_ns: ns on the clock of the frames, None in an empty memory.
        file_bytes: size of the file and its WAL.
        free_bytes: space in the file that is used again before it grows.
        summaries: how many, by tier.
        missing_records: deleted records that summaries were made from.
        dropped: number and bytes of records, pictures and summaries that retention dropped since
            the file was made.
        version: schema version.
        copies: copies of the memory that are known and still there.
    """

    records: dict[str, int]
    cameras: dict[str, int]
    pictures: int
    picture_bytes: int
    sessions: int
    oldest_ns: int | None
    newest_ns: int | None
    file_bytes: int
    free_bytes: int
    summaries: dict[str, int]
    missing_records: int
    dropped: dict[str, tuple[int, int]]
    version: int
    copies: tuple[Path, ...]


def stats(path: Path, busy_timeout_s: float, key: Key | None = None) -> Stats:
    """Return the statistics of the memory at `path`.

    Raises:
        MemoryFileError: it cannot be read.
    """
    check_for_reading(path, busy_timeout_s, key)
    with closing(open_for_reading(path, busy_timeout_s, key)) as db, translate_errors(path):
        pictures, picture_bytes = db.execute(
            "SELECT count(*), ifnull(sum(length(jpeg)), 0) FROM picture"
        ).fetchone()
        oldest, newest = db.execute("SELECT min(start_ns), max(end_ns) FROM record").fetchone()
        free, page_size = (
            int(db.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("freelist_count", "page_size")
        )
        return Stats(
            records=dict(
                db.execute(
                    "SELECT kind, count(*) FROM record GROUP BY kind ORDER BY kind"
                ).fetchall()
            ),
            cameras=dict(
                db.execute(
                    "SELECT camera, count(*) FROM record WHERE camera <> '' GROUP BY camera ORDER"
                    " BY camera"
                ).fetchall()
            ),
            pictures=pictures,
            picture_bytes=picture_bytes,
            sessions=db.execute("SELECT count(*) FROM session").fetchone()[0],
            oldest_ns=oldest,
            newest_ns=newest,
            file_bytes=sum(
                part.stat().st_size
                for part in (path, path.with_name(path.name + "-wal"))
                if part.exists()
            ),
            free_bytes=free * page_size,
            summaries=dict(
                db.execute(
                    "SELECT tier, count(*) FROM summary GROUP BY tier ORDER BY tier DESC"
                ).fetchall()
            ),
            missing_records=db.execute(
                "SELECT ifnull(sum(covered), 0) - (SELECT count(*) FROM summary_covers) FROM"
                " summary"
            ).fetchone()[0],
            dropped=dropped_so_far(db),
            version=version_of(db),
            copies=known_copies(db, path),
        )


def verify(path: Path, busy_timeout_s: float, key: Key | None = None) -> list[str]:
    """Read every page, row, link and picture of the memory at `path`.

    Returns:
        The faults; empty if the file is sound.

    Raises:
        MemoryFileError: there is no memory file, it is not a memory, or it may not be read.
    """
    with closing(open_for_reading(path, busy_timeout_s, key)) as db:
        try:
            wrong = [
                " ".join(str(found).split())
                for (found,) in db.execute("PRAGMA integrity_check(20)")
                if found != "ok"
            ]
            broken = db.execute("PRAGMA foreign_key_check")
            wrong += [
                f"row {rowid} of {table} refers to a {target} that does not exist"
                for table, rowid, target, _ in broken
            ]
            for number, jpeg in db.execute("SELECT id, jpeg FROM picture"):
                if not (jpeg.startswith(b"\xff\xd8") and jpeg.endswith(b"\xff\xd9")):
                    wrong.append(f"picture {number} is not a complete JPEG")
            return wrong
        except error_classes(sqlite3.DatabaseError) as error:
            if "malformed" in str(error):
                return [str(error)]
            with translate_errors(path):
                raise


def backup(path: Path, copy: Path, busy_timeout_s: float, key: Key | None = None) -> int:
    """Copy one state of the memory at `path` to the new file `copy`, also while a node writes.

    The copy has mode 0600 and is encrypted with the same key. The memory notes where it is, so that
    `forget` can name it.

    Returns:
        Its size in bytes.

    Raises:
        MemoryFileError: `copy` exists, or one of the two files cannot be used; then no copy
            remains.
    """
    check_for_reading(path, busy_timeout_s, key)
    if copy.exists():
        raise MemoryFileError(f"{copy}: already exists and is not overwritten; give another name")
    with translate_errors(copy):
        os.close(os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with (
            translate_errors(copy),
            closing(open_for_reading(path, busy_timeout_s, key)) as db,
            closing(connect(copy, key)) as target,
        ):
            db.conn.backup(target.conn)
            # Without a WAL, so that the copy is a single file.
            target.execute("PRAGMA journal_mode = DELETE")
    except BaseException:
        copy.unlink()
        raise
    note_copy(path, copy, BACKUP, busy_timeout_s, key)
    return copy.stat().st_size
