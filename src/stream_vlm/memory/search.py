"""A question as SQL: filters first, then the ranking of what is left, then the limit."""

from __future__ import annotations

from typing import Any

from sqlite_utils import Database

from stream_vlm.memory.recall import NEWEST, OLDEST, RELEVANCE, RecallQuery, RecallRecord
from stream_vlm.stream import Pose

_EARLIEST = -(2**63)

_ORDER = {
    RELEVANCE: "words DESC, bm25, end_ns DESC, id DESC",
    NEWEST: "words DESC, end_ns DESC, id DESC",
    OLDEST: "words DESC, start_ns, id",
}


def search(db: Database, query: RecallQuery) -> tuple[tuple[RecallRecord, ...], int]:
    """The records that answer `query`, and how many there were before its limit. Run it inside one transaction for one view of both."""
    filters, values = _filters(db, query)
    if query.words:
        # One MATCH a word and not one for all: their sum is the BM25 of the words OR-ed, and their number says how many words match.
        # Each word is quoted, so that nothing in it can be FTS5's syntax.
        hits = " UNION ALL ".join(
            f"SELECT rowid AS id, rank AS bm25 FROM record_text WHERE record_text MATCH :word{number}" for number in range(len(query.words))
        )
        values |= {f"word{number}": f'"{word}"' for number, word in enumerate(query.words)}
        ranked = f"SELECT id, count(*) AS words, sum(bm25) AS bm25 FROM ({hits}) GROUP BY id"
        matched = f"SELECT id, start_ns, end_ns, words, bm25, count(*) OVER () AS total FROM ({ranked}) JOIN record USING (id) WHERE {filters}"
    else:
        # Counted apart: the index alone answers that, many times faster than a window over all that matches.
        total = f"SELECT count(*) FROM record WHERE {filters}"
        matched = f"SELECT id, start_ns, end_ns, 0 AS words, 0.0 AS bm25, ({total}) AS total FROM record WHERE {filters}"
    order = _ORDER[query.order]
    best = f"SELECT id, words, bm25, total FROM ({matched}) ORDER BY {order} LIMIT :limit"
    rows = list(
        db.query(f"SELECT record.*, words, bm25, total FROM ({best}) JOIN record USING (id) ORDER BY {order}", values | {"limit": query.limit})
    )
    return tuple(_record(row) for row in rows), rows[0]["total"] if rows else 0


def _filters(db: Database, query: RecallQuery) -> tuple[str, dict[str, Any]]:
    values: dict[str, Any] = {}
    clauses = [_one_of("kind", query.kinds, values)]
    if query.cameras:
        clauses.append(_one_of("camera", query.cameras, values))
    if query.start_ns is not None:
        # Redundant beside the first half, but it lets the index skip all that is long past.
        longest = db.execute("SELECT max(end_ns - start_ns) FROM record WHERE end_ns > start_ns").fetchone()[0] or 0
        clauses.append("end_ns >= :start_ns AND start_ns >= :reaching_ns")
        values |= {"start_ns": query.start_ns, "reaching_ns": max(query.start_ns - longest, _EARLIEST)}
    if query.end_ns is not None:
        clauses.append("start_ns <= :end_ns")
        values["end_ns"] = query.end_ns
    if query.place is not None:
        # The R*Tree rounds to 32-bit floats, outwards: it can only offer too many, and the exact distance decides.
        clauses.append(
            "record.id IN (SELECT record_place.id FROM record_place WHERE max_x >= :x - :radius AND min_x <= :x + :radius"
            " AND max_y >= :y - :radius AND min_y <= :y + :radius)"
            " AND (x - :x) * (x - :x) + (y - :y) * (y - :y) <= :radius * :radius"
        )
        values |= {"x": query.place.x, "y": query.place.y, "radius": query.place.radius}
    return " AND ".join(clauses), values


def _one_of(column: str, choices: tuple[str, ...], values: dict[str, Any]) -> str:
    names = {f"{column}{number}": choice for number, choice in enumerate(choices)}
    values |= names
    return f"{column} IN ({', '.join(f':{name}' for name in names)})"


def _record(row: dict[str, Any]) -> RecallRecord:
    pose = None
    if row["x"] is not None:
        pose = Pose(row["pose_frame"], row["x"], row["y"], row["z"], row["qx"], row["qy"], row["qz"], row["qw"])
    strength = -row["bm25"]
    return RecallRecord(
        record_id=row["id"],
        kind=row["kind"],
        camera=row["camera"],
        session_id=row["session_id"],
        frame_id=row["frame_id"],
        start_ns=row["start_ns"],
        end_ns=row["end_ns"],
        text=row["text"],
        state=row["state"],
        confidence=row["confidence"],
        event_id=row["event_id"],
        query_id=row["query_id"],
        model_id=row["model_id"],
        has_frame=row["picture_id"] is not None,
        pose=pose,
        score=row["words"] + strength / (1.0 + strength),
    )
