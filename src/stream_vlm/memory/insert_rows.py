"""Insert sessions and the rows of a step into the tables, within the caller's transaction."""

from __future__ import annotations

import operator
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from stream_vlm.memory.answers.object_links import link
from stream_vlm.memory.search.vectors import PICTURE, RECORD, insert, normalised
from stream_vlm.memory.storage.errors import SessionError
from stream_vlm.memory.storage.indexed_text import indexed_text
from stream_vlm.memory.storage.picture_texts import UNMEASURED, PictureText
from stream_vlm.memory.storage.step_rows import (
    ANSWER,
    EVENT,
    Picture,
    Row,
    StepRows,
    storable,
    usable_pose,
)
from stream_vlm.types import Pose, State


@dataclass(frozen=True)
class Begun:
    """A session that was begun, as it is stored.

    Attributes:
        session_id: its name in the file.
        model_id: the model that watches.
        reason: why it began.
        started_ns: ns on the clock of the frames.
        wall_started_ns: ns on the computer's clock.
        generation: the file that has it, see `Connections.generation`.
    """

    session_id: str
    model_id: str
    reason: str
    started_ns: int
    wall_started_ns: int
    generation: int = 0


def insert_session(
    db: Database, path: Path, session_id: str, model_id: str, reason: str, started_ns: int
) -> Begun:
    """Store a new session in the file at `path`.

    Args:
        db: the connection that writes.
        path: of the file, for the error message.
        session_id: name of the session.
        model_id: the model that watches.
        reason: why the session starts.
        started_ns: ns on the clock of the frames.

    Raises:
        SessionError: there is a session of this name.
    """
    if db.execute("SELECT 1 FROM session WHERE session_id = ?", [session_id]).fetchone():
        raise SessionError(
            f"session '{session_id}' is already in {path}; give the new session another name"
        )
    begun = Begun(session_id, model_id, reason, started_ns, time.time_ns())
    _insert_begun(db, begun)
    return begun


def continue_session(db: Database, begun: Begun, step: StepRows) -> Begun:
    """Store a running session in a file that took the place of its own, before `step`.

    If that file is a copy of its own, it has the session already. If it has another session of the
    same name, the running one gets a new name.

    Returns:
        The session as that file has it.
    """
    there = db.execute(
        "SELECT model_id, started_ns, wall_started_ns FROM session WHERE session_id = ?",
        [begun.session_id],
    ).fetchone()
    if there == (begun.model_id, begun.started_ns, begun.wall_started_ns):
        return begun
    name, number = begun.session_id, 1
    while db.execute("SELECT 1 FROM session WHERE session_id = ?", [name]).fetchone():
        number += 1
        name = f"{begun.session_id}-{number}"
    first_ns = min((row.start_ns for row in step.rows), default=begun.started_ns)
    continued = replace(
        begun,
        session_id=name,
        reason=f"{begun.reason}; continued in a new file",
        started_ns=first_ns,
        wall_started_ns=time.time_ns(),
    )
    _insert_begun(db, continued)
    return continued


def _insert_begun(db: Database, begun: Begun) -> None:
    db.execute(
        "INSERT INTO session (session_id, model_id, reason, started_ns, wall_started_ns) VALUES (?,"
        " ?, ?, ?, ?)",
        [
            begun.session_id,
            begun.model_id,
            begun.reason,
            begun.started_ns,
            begun.wall_started_ns,
        ],
    )


def insert_step(db: Database, step: StepRows, model_id: str, map_frames: Sequence[str]) -> None:
    """Store thumbnails, records and vectors of one step of the model `model_id`.

    Args:
        db: the connection that writes.
        step: what is stored.
        model_id: the model that watches.
        map_frames: the setting `memory.map_frames`, by which events are linked to objects.
    """
    picture_ids = {
        camera: _insert_picture(db, step.session_id, picture)
        for camera, picture in step.pictures.items()
    }
    for camera, vector in step.picture_vectors.items():
        insert(db, PICTURE, picture_ids[camera], model_id, vector)
    for number, row in enumerate(step.rows):
        if row.shown_ns:
            picture_id = _stored_picture(db, step.session_id, row.camera, row.shown_ns)
            shown = None
        else:
            picture_id, shown = picture_ids.get(row.camera), step.picture_vectors.get(row.camera)
        record_id = _insert_record(db, step.session_id, model_id, row, picture_id)
        if row.kind == EVENT:
            link(db, record_id, row.text, shown, map_frames)
        if number in step.text_vectors:
            insert(db, RECORD, record_id, step.text_model, step.text_vectors[number])


def insert_picture_text(
    db: Database, text: PictureText, picture: Picture | None, begun: Begun
) -> int:
    """Store a text with its picture, which may be stored already; return its record number.

    Args:
        db: the connection that writes.
        text: what is stored.
        picture: the thumbnail of its frame, or None if that cannot be encoded.
        begun: its session, as the file has it.
    """
    frame = text.frame
    picture_id = _stored_picture(db, begun.session_id, frame.camera, frame.stamp_ns)
    if picture_id is None and picture is not None:
        picture_id = _insert_picture(db, begun.session_id, picture)
        if text.vector is not None:
            vector = normalised(text.vector, f"{frame.camera}: picture vector")
            insert(db, PICTURE, picture_id, begun.model_id, vector)
    row = Row(
        text.kind,
        frame.camera,
        frame.frame_id,
        operator.index(frame.stamp_ns),
        operator.index(frame.stamp_ns),
        storable(text.text),
        State.RESPONSE.value if text.kind == ANSWER else "",
        UNMEASURED,
        query_id=text.query_id,
        pose=usable_pose(frame),
    )
    return _insert_record(db, begun.session_id, text.model_id, row, picture_id)


def _insert_picture(db: Database, session_id: str, picture: Picture) -> int:
    inserted = db.execute(
        "INSERT INTO picture (session_id, camera, frame_id, stamp_ns, width, height, jpeg) VALUES"
        " (?, ?, ?, ?, ?, ?, ?)",
        [
            session_id,
            picture.camera,
            picture.frame_id,
            picture.stamp_ns,
            picture.width,
            picture.height,
            picture.jpeg,
        ],
    )
    return int(inserted.lastrowid or 0)


def _stored_picture(db: Database, session_id: str, camera: str, stamp_ns: int) -> int | None:
    """The picture that `camera` took at `stamp_ns` (ns); None if it is not stored."""
    found = db.execute(
        "SELECT id FROM picture WHERE session_id = ? AND camera = ? AND stamp_ns = ?",
        [session_id, camera, stamp_ns],
    ).fetchone()
    return int(found[0]) if found is not None else None


def _insert_record(
    db: Database, session_id: str, model_id: str, row: Row, picture_id: int | None
) -> int:
    columns: dict[str, Any] = {
        "kind": row.kind,
        "camera": row.camera,
        "session_id": session_id,
        "frame_id": row.frame_id,
        "start_ns": row.start_ns,
        "end_ns": row.end_ns,
        "text": row.text,
        "state": row.state,
        "confidence": row.confidence,
        "event_id": row.event_id,
        "query_id": row.query_id,
        "model_id": model_id,
        "picture_id": picture_id,
        **_pose_columns(row.pose),
    }
    if row.text and (read := indexed_text(row.text)) is not None:
        columns["indexed_text"] = read
    names = ", ".join(columns)
    inserted = db.execute(
        f"INSERT INTO record ({names}) VALUES ({', '.join(f':{name}' for name in columns)})",
        columns,
    )
    return int(inserted.lastrowid or 0)


def _pose_columns(pose: Pose | None) -> dict[str, str | float]:
    if pose is None:
        return {}
    place = {
        "x": pose.x,
        "y": pose.y,
        "z": pose.z,
        "qx": pose.qx,
        "qy": pose.qy,
        "qz": pose.qz,
        "qw": pose.qw,
    }
    return {"pose_frame": pose.frame_id} | {name: float(value) for name, value in place.items()}
