"""One line of time through all sessions, whatever clock each had: what is older, and by how much.

A file may hold a day of a robot, a bag of last year and a simulation that begins at 0. Within a
session its own clock counts. From one session to the next it is the computer's clock at their
beginnings, and at least as long as the session lasted. Pure but for `stretches`, which reads the
file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlite_utils import Database

from stream_vlm.types import NANOSECONDS

CLOCK_SET_NS = 1_577_836_800 * NANOSECONDS
"""2020-01-01.

A clock that shows less is not set: a robot without a battery clock wakes in 1970, a simulation
begins at 0.
"""


@dataclass(frozen=True)
class SessionClock:
    """A session, as its evidence and the computer's clock know it.

    Attributes:
        started_ns, newest_ns: first stamp and newest evidence, ns on the evidence's clock.
        wall_started_ns: ns on the computer's clock.
        clock_set: where its clock was set within the session, from before `CLOCK_SET_NS`: last stamp before
            that and first one after, else None.
    """

    session_id: str
    started_ns: int
    newest_ns: int
    wall_started_ns: int
    clock_set: tuple[int, int] | None = None


@dataclass(frozen=True)
class ClockSegment:
    """A part of a session whose clock ran evenly.

    Attributes:
        from_ns, until_ns: on the evidence's clock.
        at_ns: where `from_ns` lies on the one line of time, ns.
        first: nothing of the session came before: what is stamped before `from_ns` is of this
            stretch too.
    """

    session_id: str
    from_ns: int
    until_ns: int
    at_ns: int
    first: bool = True

    @property
    def end_ns(self) -> int:
        """Where `until_ns` lies on the one line of time."""
        return self.at_ns + self.until_ns - self.from_ns

    def stamp_at(self, at_ns: int) -> int:
        """The stamp at `at_ns` of the one line, none after the stretch's own end."""
        return min(self.from_ns + at_ns - self.at_ns, self.until_ns + 1)


def merge_sessions(sessions: Iterable[SessionClock]) -> list[ClockSegment]:
    """The stretches of `sessions`, given in the order in which they were stored, oldest first; each
    begins no earlier than the one before ends.
    """
    stored = list(sessions)
    # The session stored last is the one that goes on, or went on last: a clock that was ahead of it
    # is one that has been set back since.
    latest = max((session.wall_started_ns for session in stored[-1:]), default=0)
    dated: list[tuple[int, int, SessionClock]] = []
    guess = 0
    for number, session in enumerate(stored):
        # A clock that is not set right says nothing: such a session is taken to follow the one
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
    """All sessions of the file in line, oldest first.

    Those that hold nothing any more are among them.
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
    """From where to where the session's clock ran evenly."""
    if session.clock_set is None:
        return [(session.started_ns, max(session.started_ns, session.newest_ns))]
    before, after = session.clock_set
    return [(session.started_ns, max(session.started_ns, before)), (after, session.newest_ns)]
