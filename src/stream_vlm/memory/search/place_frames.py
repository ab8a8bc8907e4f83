"""Which positions can be compared: those of one frame, and of one session unless it is a map.

Two positions in different frames have nothing to do with each other. In a frame such as odom the
origin is where odometry began (REP-105), so positions of two sessions have not either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlite_utils import Database

from stream_vlm.config.map_frames import bare, is_map
from stream_vlm.memory.search.query import Place, RecallQuery
from stream_vlm.memory.storage.errors import RecallError

MAX_NAMED = 3
"""So many sessions are named in a message."""


def in_one_frame(
    db: Database, query: RecallQuery, map_frames: Sequence[str], present: str = ""
) -> RecallQuery:
    """Return `query` with the frame of its place, and with its session, as `comparable` says."""
    place, session_id = comparable(db, query.place, query.session_id, map_frames, present)
    return replace(query, place=place, session_id=session_id)


def comparable(
    db: Database, place: Place | None, session_id: str, map_frames: Sequence[str], present: str = ""
) -> tuple[Place | None, str]:
    """Return a place with its frame, and the session to which it is limited.

    Run it inside the transaction that searches.

    Args:
        db: a connection.
        place: the place, or None; then only the session is checked.
        session_id: the session that is asked for; empty means all.
        map_frames: the setting `memory.map_frames`.
        present: the session that is being written; empty takes the one that was stored last.

    Returns:
        The place, and a session if one is asked for or the frame is no map; else empty.

    Raises:
        RecallError: the session or the frame is not in the memory, no frame is named and there are
            several, or the present session has no position in a frame that is no map.
    """
    if session_id and not _has_session(db, session_id):
        raise RecallError(
            f"session_id: the memory has no session '{session_id}'; the session_id of a recalled"
            " record names one, empty means all"
        )
    if place is None:
        return None, session_id
    there = _frames(db)
    place = replace(place, frame_id=_chosen(place, there))
    if session_id or not there or is_map(place.frame_id, map_frames):
        return place, session_id
    session_id = present or newest_session(db)
    with_pose = _sessions_in(db, place.frame_id)
    if session_id not in with_pose:
        earlier = ", ".join(with_pose[-MAX_NAMED:][::-1])
        raise RecallError(
            f"near: the newest session, '{session_id}', has no pose in {_named(place.frame_id)},"
            " which is no map (memory.map_frames), so its origin changes with each session; name an"
            f" earlier session as session_id ({earlier})"
        )
    return place, session_id


def newest_session(db: Database) -> str:
    """Return the session that was stored last; empty if there is none."""
    row = db.execute("SELECT session_id FROM session ORDER BY rowid DESC LIMIT 1").fetchone()
    return "" if row is None else str(row[0])


def _chosen(place: Place, there: list[str]) -> str:
    """Return the frame of `place`, given the frames in which the memory has positions."""
    wanted, named = bare(place.frame_id), [frame for frame in there if frame]
    if wanted:
        if wanted in there:
            return wanted
        have = f"the frames of its poses are {', '.join(named)}" if named else "it has no poses"
        raise RecallError(f"frame_id: the memory has no pose in '{wanted}'; {have}")
    if len(named) > 1:
        raise RecallError(
            "near: positions in different frames cannot be compared; name one of the frames of this"
            f" memory as frame_id: {', '.join(named)}"
        )
    return named[0] if named else ""


def _named(frame_id: str) -> str:
    return f"'{frame_id}'" if frame_id else "a frame without a name"


def _frames(db: Database) -> list[str]:
    """Return the frames in which the memory has positions; one look into the index for each."""
    found = db.execute("""
        WITH RECURSIVE frame (name) AS (
            SELECT min(pose_frame) FROM record WHERE pose_frame IS NOT NULL
            UNION ALL
            SELECT (SELECT min(pose_frame) FROM record WHERE pose_frame > name) FROM frame
            WHERE name IS NOT NULL
        ) SELECT name FROM frame WHERE name IS NOT NULL""")
    return sorted({bare(name) for (name,) in found.fetchall()})


def _sessions_in(db: Database, frame_id: str) -> list[str]:
    """Return the sessions with a position in `frame_id`, in the order in which they were stored."""
    found = db.execute(
        "SELECT session_id FROM session WHERE EXISTS (SELECT 1 FROM record WHERE pose_frame IN (?,"
        " ?) AND record.session_id = session.session_id) ORDER BY rowid",
        [frame_id, f"/{frame_id}"],
    )
    return [str(session_id) for (session_id,) in found.fetchall()]


def _has_session(db: Database, session_id: str) -> bool:
    row = db.execute("SELECT 1 FROM session WHERE session_id = ?", [session_id]).fetchone()
    return row is not None
