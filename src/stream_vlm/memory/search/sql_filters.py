"""Build SQL clauses from a query's filters, and find the records that pass them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlite_utils import Database

from stream_vlm.memory.search.query import Place, RecallQuery

Ids = NDArray[np.int64]

_EARLIEST, _LATEST = -(2**63), 2**63 - 1

IN_PLACE = (
    # The R*Tree rounds outwards to 32-bit floats. It returns all candidates and some more; the
    # exact distance decides.
    "record_place CROSS JOIN record ON record.id = record_place.id AND max_x >= :x - :radius AND"
    " min_x <= :x + :radius AND max_y >= :y - :radius AND min_y <= :y + :radius AND (x - :x) * (x -"
    " :x) + (y - :y) * (y - :y) <= :radius * :radius AND ifnull(pose_frame, '') IN (:pose_frame,"
    " '/' || :pose_frame)"
)
"""The records within the place, in its frame.

CROSS JOIN makes SQLite start with the few candidates of the R*Tree and not with all records of a
kind.
"""


@dataclass(frozen=True)
class Filters:
    """All filters of a query except its words.

    Attributes:
        source: SQL after FROM: all records, or those within the place.
        clauses: SQL conditions joined by AND, without the kind; "1" if there are none.
        values: the named parameters of both.
    """

    source: str
    clauses: str
    values: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, db: Database, query: RecallQuery) -> Filters:
        """Return the filters of `query` for the records in `db`.

        The place of `query` must have its frame, see `place_frames.in_one_frame`.
        """
        values: dict[str, Any] = {}
        clauses = []
        if query.cameras:
            clauses.append(in_clause("camera", query.cameras, values))
        if query.session_id:
            clauses.append("record.session_id = :of_session")
            values["of_session"] = query.session_id
        if query.start_ns is not None or query.end_ns is not None:
            # The first clause of each pair decides. The second one follows from it, and lets
            # SQLite skip most of an index.
            longest = (
                db.execute(
                    "SELECT max(end_ns - start_ns) FROM record WHERE end_ns > start_ns"
                ).fetchone()[0]
                or 0
            )
            if query.start_ns is not None:
                clauses.append("end_ns >= :start_ns AND start_ns >= :reaching_ns")
                values |= {
                    "start_ns": query.start_ns,
                    "reaching_ns": max(query.start_ns - longest, _EARLIEST),
                }
            if query.end_ns is not None:
                clauses.append("start_ns <= :end_ns AND end_ns <= :reached_ns")
                values |= {
                    "end_ns": query.end_ns,
                    "reached_ns": min(query.end_ns + longest, _LATEST),
                }
        if query.object_id:
            clauses.append("record.id IN (SELECT record_id FROM sighting WHERE thing_id = :thing)")
            values["thing"] = query.object_id
        source = "record"
        if query.place is not None:
            source = IN_PLACE
            values |= place_values(query.place)
        return cls(source, " AND ".join(clauses) or "1", values)

    @property
    def in_place(self) -> bool:
        """Whether the query has a place."""
        return self.source is IN_PLACE


def place_values(place: Place) -> dict[str, Any]:
    """Return the named parameters of a place, as in `IN_PLACE`."""
    return {"x": place.x, "y": place.y, "radius": place.radius, "pose_frame": place.frame_id}


def passing_ids(db: Database, query: RecallQuery, filters: Filters) -> Ids:
    """Return the numbers of all records of the query's kinds that pass its filters."""
    values = dict(filters.values)
    kinds = in_clause("kind", query.kinds, values)
    return ids_of(
        db, f"SELECT record.id FROM {filters.source} WHERE {kinds} AND {filters.clauses}", values
    )


def ids_of(db: Database, select: str, values: dict[str, Any]) -> Ids:
    """Return the only column of `select`, which gives record numbers, as int64, (found,).

    SQLite returns them as one text, because a Python object for each row would take several times
    as long as the search itself.
    """
    text = db.execute(
        f"SELECT group_concat(id) FROM (SELECT id FROM ({select}))", values
    ).fetchone()[0]
    return np.fromstring(text, np.int64, sep=",") if text else np.empty(0, np.int64)


def in_clause(column: str, choices: tuple[str, ...], values: dict[str, Any]) -> str:
    """Return the clause that `column` is one of `choices`, and add these to `values`."""
    names = {f"{column}{number}": choice for number, choice in enumerate(choices)}
    values |= names
    return f"{column} IN ({', '.join(f':{name}' for name in names)})"
