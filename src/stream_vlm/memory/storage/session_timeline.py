"""Put sessions with different clocks on one timeline: which is older, and by how much.

One file may hold a day of a robot, a bag of last year and a simulation that begins at 0. Within a
session its own clock counts. Sessions are placed by the computer's clock at their start, and a
session starts no earlier than the one before it ends. Only `clock_segments` reads the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlite_utils import Database

from stream_vlm.types import NANOSECONDS

CLOCK_SET_NS = 1_577_836_800 * NANOSECONDS
"""2020-01-01. A clock that shows less has not been set.

A robot without a battery clock starts in 1970, a simulation at 0.
"""


@dataclass(frozen=True)
class SessionClock:
    """The clock of one session.

    Attributes:
        session_id: name of the session.
        started_ns: first stamp, ns on the session's clock.
        newest_ns: newest stamp, ns on the session's clock.
        wall_started_ns: start of the session on the computer's clock, ns.
        clock_set: None, or if the session's clock was set during the session (from before
            `CLOCK_SET_NS`), the last stamp before that and the first one after.
    """

    session_id: str
    started_ns: int
    newest_ns: int
    wall_started_ns: int
    clock_set: tuple[int, int] | None = None


@dataclass(frozen=True)
class ClockSegment:
    """A part of a session in which its clock did not jump.

    Attributes:
        session_id: name of the session.
        from_ns: first stamp, on the session's clock.
        until_ns: last stamp, on the session's clock.
        at_ns: position of `from_ns` on the timeline, ns.
        first: whether it is the session's first segment; then earlier stamps belong to it too.
    """

    session_id: str
    from_ns: int
    until_ns: int
    at_ns: int
    first: bool = True

    @property
    def end_ns(self) -> int:
        """The position of `until_ns` on the timeline."""
        return self.at_ns + self.until_ns - self.from_ns

    def stamp_at(self, at_ns: int) -> int:
        """Return the stamp at position `at_ns` of the timeline, at most `until_ns` + 1."""
        return min(self.from_ns + at_ns - self.at_ns, self.until_ns + 1)


def merge_sessions(sessions: Iterable[SessionClock]) -> list[ClockSegment]:
    """Return the segments of all sessions on one timeline, oldest first.

    Each segment starts no earlier than the one before it ends.

    Args:
        sessions: in the order in which they were stored.
    """
    stored = list(sessions)
    # The session stored last is the newest one. A session whose clock was ahead of it had a wrong
    # clock, which was set back later.
    latest = max((session.wall_started_ns for session in stored[-1:]), default=0)
    dated: list[tuple[int, int, SessionClock]] = []
    guess = 0
    for number, session in enumerate(stored):
        # A clock that is not set cannot be used: such a session is placed after the one that was
        # stored before it.
        is_set = CLOCK_SET_NS <= session.wall_started_ns <= latest
        began = session.wall_started_ns if is_set else min(guess, latest)
        guess = began + sum(until - since for since, until in _segment_bounds(session))
        dated.append((began, number, session))
    found: list[ClockSegment] = []
    for began, _, session in sorted(dated, key=lambda one: one[:2]):
        at_ns = max(found[-1].end_ns if found else began, began)
        for number, (since, until) in enumerate(_segment_bounds(session)):
            found.append(ClockSegment(session.session_id, since, until, at_ns, number == 0))
            at_ns = found[-1].end_ns
    return found


def clock_segments(db: Database) -> list[ClockSegment]:
    """Return the segments of all sessions of the file on one timeline, oldest first.

    Sessions without records are included.
    """
    newest = (
        "(SELECT max(end_ns) FROM record WHERE session_id = session.session_id AND kind {}"
        " 'summary')"
    )
    rows = db.execute(
        f"SELECT session_id, started_ns, wall_started_ns, {newest.format('<>')},"
        f" {newest.format('=')} FROM session ORDER BY rowid"
    )
    return merge_sessions([_session_clock(db, *row) for row in rows.fetchall()])


def _session_clock(
    db: Database,
    session_id: str,
    started_ns: int,
    wall_started_ns: int,
    recorded_ns: int | None,
    summarised_ns: int | None,
) -> SessionClock:
    newest_ns = max(
        (stamp for stamp in (recorded_ns, summarised_ns) if stamp is not None), default=started_ns
    )
    clock_set = None
    if started_ns < CLOCK_SET_NS <= newest_ns:
        edge = (
            "SELECT {}(end_ns) FROM record WHERE session_id = ? AND kind <> 'summary' AND end_ns"
            " {} ?"
        )
        before = db.execute(edge.format("max", "<"), [session_id, CLOCK_SET_NS]).fetchone()[0]
        after = db.execute(edge.format("min", ">="), [session_id, CLOCK_SET_NS]).fetchone()[0]
        clock_set = (
            started_ns if before is None else before,
            newest_ns if after is None else after,
        )
    return SessionClock(session_id, started_ns, newest_ns, wall_started_ns, clock_set)


def _segment_bounds(session: SessionClock) -> list[tuple[int, int]]:
    """Return first and last stamp of each part of the session in which its clock did not jump."""
    if session.clock_set is None:
        return [(session.started_ns, max(session.started_ns, session.newest_ns))]
    before, after = session.clock_set
    return [(session.started_ns, max(session.started_ns, before)), (after, session.newest_ns)]
