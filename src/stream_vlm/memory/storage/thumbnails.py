"""Read the thumbnails of records, and decode picture files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlite_utils import Database

from stream_vlm.memory.storage.errors import RecallError

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"


@dataclass(frozen=True)
class StoredFrame:
    """The thumbnail of a record's frame.

    Attributes:
        jpeg: the JPEG file.
        stamp_ns: stamp of the frame, ns.
        camera: name of the camera.
        frame_id: the camera's optical frame.
    """

    jpeg: bytes
    stamp_ns: int
    camera: str
    frame_id: str


def frame_of(db: Database, record_id: int) -> StoredFrame:
    """Return the thumbnail of record `record_id`.

    Raises:
        RecallError: there is no such record, or it has no stored picture; the message says which.
    """
    row = None
    if -(2**63) <= record_id < 2**63:
        row = db.execute(
            "SELECT jpeg, stamp_ns, picture.camera, picture.frame_id FROM record LEFT JOIN picture"
            " ON picture.id = picture_id WHERE record.id = ?",
            [record_id],
        ).fetchone()
    if row is None:
        raise RecallError(
            f"record {record_id}: no such record; use the record_id of a recalled record"
        )
    if row[0] is None:
        raise RecallError(
            f"record {record_id}: has no stored picture; see memory.thumbnail_period_s"
        )
    return StoredFrame(*row)


def decoded(file: bytes, name: str) -> NDArray[np.uint8]:
    """Decode a picture file to uint8 RGB (H, W, 3).

    Raises:
        RecallError: it is not a picture; the message calls it `name`.
    """
    # Imported here: a word search never decodes a picture and must not wait for OpenCV to load.
    import cv2

    if file.startswith(JPEG_START) and file.rfind(JPEG_END) < len(file) // 2:
        # Decoders fill the missing part with grey and report no error.
        raise RecallError(f"{name}: a truncated JPEG of {len(file)} bytes; give the whole file")
    try:
        pixels = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR) if file else None
    except cv2.error as error:
        raise RecallError(
            f"{name}: cannot be decoded ({error.err}); give an ordinary JPEG or PNG"
        ) from error
    if pixels is None:
        raise RecallError(f"{name}: {len(file)} bytes that are not a picture; give a JPEG or PNG")
    return np.ascontiguousarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)
