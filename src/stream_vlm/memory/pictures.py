"""The pictures that records rest on."""

from __future__ import annotations

from dataclasses import dataclass

from sqlite_utils import Database

from stream_vlm.memory.errors import RecallError


@dataclass(frozen=True)
class StoredFrame:
    """The picture a record rests on: a JPEG, the evidence's own stamp (ns), camera and optical frame."""

    jpeg: bytes
    stamp_ns: int
    camera: str
    frame_id: str


def frame_of(db: Database, record_id: int) -> StoredFrame:
    """The picture that record `record_id` rests on.

    Raises:
        RecallError: there is no such record, or no picture of it is stored; the message says which.
    """
    row = None
    if -(2**63) <= record_id < 2**63:
        row = db.execute(
            "SELECT jpeg, stamp_ns, picture.camera, picture.frame_id FROM record LEFT JOIN picture ON picture.id = picture_id WHERE record.id = ?",
            [record_id],
        ).fetchone()
    if row is None:
        raise RecallError(f"record {record_id}: no such record; ask for the record_id of a recalled record")
    if row[0] is None:
        raise RecallError(f"record {record_id}: no picture of it is stored; see memory.thumbnail_period_s")
    return StoredFrame(*row)
