"""When the memory watched: "never" is true only of that time."""

from __future__ import annotations

from dataclasses import dataclass

from sqlite_utils import Database

from stream_vlm.local_time import shown_zone, wall_time
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.memory.search.sql_filters import Filters
from stream_vlm.time_words import CLOCK_EPOCH_NS, moment
from stream_vlm.types import NANOSECONDS

GAP_S = 60.0
"""Two pictures further apart than this, and than three times the usual distance, leave a gap."""

MAX_GAPS_SAID = 3


@dataclass(frozen=True)
class WatchedTime:
    """The time within a query's filters from which pictures were processed.

    Attributes:
        start_ns: of the first picture, ns.
        end_ns: of the last one.
        gaps: between two pictures, ns, longest first.
        has_outside: whether the query asks for time before the first or after the last picture.
    """

    start_ns: int
    end_ns: int
    gaps: tuple[tuple[int, int], ...]
    has_outside: bool

    @property
    def is_whole(self) -> bool:
        """Whether all of the time that the query asks for was watched."""
        return not self.gaps and not self.has_outside

    def __str__(self) -> str:
        """Return it in words: "watched 2026-01-31 10:00:00 - 12:00:00, except ..."."""
        said = f"watched {_span(self.start_ns, self.end_ns)}"
        shown = sorted(self.gaps[:MAX_GAPS_SAID])
        if shown:
            said += ", except " + ", ".join(_span(*gap) for gap in shown)
        more = len(self.gaps) - len(shown)
        return f"{said} and {more} shorter gaps" if more else said


def watched_time(db: Database, query: RecallQuery) -> WatchedTime | None:
    """Return when the cameras of `query` watched within its time and place, or None for never."""
    filters = Filters.of(db, query)
    rows = (
        f"SELECT DISTINCT end_ns FROM {filters.source} WHERE kind = 'observation' AND"
        f" {filters.clauses}"
    )
    beside = f"SELECT end_ns, lag(end_ns) OVER (ORDER BY end_ns) AS before_ns FROM ({rows})"
    first, last, number = db.execute(
        f"SELECT min(end_ns), max(end_ns), count(*) FROM ({rows})", filters.values
    ).fetchone()
    if not number:
        return None
    usual_ns = (last - first) / max(number - 1, 1)
    longest = max(GAP_S * NANOSECONDS, 3 * usual_ns if number > 10 else 0)
    gaps = db.execute(
        f"SELECT before_ns, end_ns FROM ({beside}) WHERE end_ns - before_ns > :longest"
        " ORDER BY end_ns - before_ns DESC",
        {**filters.values, "longest": int(longest)},
    ).fetchall()
    outside = (query.start_ns is not None and first - query.start_ns > longest) or (
        query.end_ns is not None and query.end_ns - last > longest
    )
    return WatchedTime(first, last, tuple((start, end) for start, end in gaps), outside)


def _span(start_ns: int, end_ns: int) -> str:
    start, end = _day(start_ns), _day(end_ns)
    return f"{start}{moment(start_ns)} - {end if end != start else ''}{moment(end_ns)}"


def _day(stamp_ns: int) -> str:
    return "" if stamp_ns < CLOCK_EPOCH_NS else f"{wall_time(stamp_ns, shown_zone()):%Y-%m-%d} "
