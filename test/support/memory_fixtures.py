"""Steps to write into a memory, and a second process that locks the memory file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlite_utils import Database

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.vectors import VectorModel, models
from stream_vlm.memory.storage.open_writer import OpenWriter
from stream_vlm.types import (
    NANOSECONDS,
    Decision,
    EventSpan,
    Frame,
    Pose,
    Query,
    State,
    StepResult,
    Tick,
    Utterance,
)

START_NS = 1_700_000_000_123_456_789
"""No float represents it exactly, so a memory that rounds times fails."""

SESSION = "monday"


def seconds(after_start: float) -> int:
    """The stamp (int64 ns) that is `after_start` seconds after `START_NS`."""
    return START_NS + round(after_start * NANOSECONDS)


def settings(path: Path, **changes: float | str) -> MemorySettings:
    """Settings of a memory at `path` that does not wait for a locked file."""
    return MemorySettings.model_validate({"path": str(path), "busy_timeout_s": 0.0, **changes})


def picture(red: int = 200, width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    """A picture of one colour, uint8 RGB, (height, width, 3)."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = red
    return image


def step(
    at: float,
    *,
    said: str = "",
    asked: str = "",
    since: float | None = None,
    camera: str = "front",
    pose: Pose | None = None,
    session: str = SESSION,
    image: NDArray[np.uint8] | None = None,
) -> StepResult:
    """The result of one tick of one camera.

    Args:
        at: time of the tick, seconds after `START_NS`.
        said: the utterance; empty for silence.
        asked: a question that `said` answers; without one `said` reports an event.
        since: beginning of the event, seconds after `START_NS`; one second before `at` by default.
        camera: the camera.
        pose: where the robot was.
        session: the session.
        image: uint8 RGB, (H, W, 3); a red picture by default.
    """
    stamp_ns = seconds(at)
    frame = Frame(
        camera, stamp_ns, f"{camera}_optical", picture() if image is None else image, pose
    )
    query_id = f"query-{at}" if asked else ""
    queries = (Query(query_id, asked, stamp_ns, camera),) if asked else ()
    events: tuple[EventSpan, ...] = ()
    utterances: tuple[Utterance, ...] = ()
    state = State.RESPONSE if said else State.SILENCE
    if said:
        event_id = "" if asked else f"{session}-{camera}-{at}"
        if not asked:
            begin_ns = seconds(at - 1 if since is None else since)
            events = (
                EventSpan(
                    event_id, camera, frame.frame_id, stamp_ns, said, begin_ns, stamp_ns, 0.75
                ),
            )
        utterances = (Utterance(camera, frame.frame_id, stamp_ns, said, 0.5, event_id, query_id),)
    decision = Decision(state, {state: 1.0}, said, 0.5)
    return StepResult(
        session, Tick(0, stamp_ns, (frame,), queries), {camera: decision}, utterances, events
    )


def begin(memory: Memory, session: str = SESSION) -> None:
    """Begin a session of the tests' model."""
    memory.begin_session(session, "model-of-the-test", "test", START_NS)


def unwatched(path: Path, db: Database) -> OpenWriter:
    """A writer with the connection `db`, which cannot go on in another file."""
    return OpenWriter(path, None, lambda: db, lambda db, aside: 0)


@contextmanager
def looking_into(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file with plain SQLite; at the end changes are committed and it is closed.

    A connection that is not closed would keep the write-ahead log.
    """
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection


def vector_models(path: Path) -> tuple[VectorModel, ...]:
    """The models of which the file at `path` holds vectors, and how many of each."""
    with looking_into(path) as connection:
        return models(Database(connection))


@contextmanager
def locked_by_another_program(path: Path) -> Iterator[None]:
    """A second process holds the write lock of the file while the block runs."""
    hold = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('BEGIN EXCLUSIVE')\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", hold, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        try:
            assert holder.stdout.readline() == "locked\n"
            yield
        finally:
            holder.stdin.close()
            holder.wait()
