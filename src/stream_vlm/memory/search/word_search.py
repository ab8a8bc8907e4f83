"""A question's answer: filters first, then the ranking of what is left, then the limit; rows are
read only of what is answered.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from sqlite_utils import Database

from stream_vlm.memory.search.query import (
    FUSED,
    NEWEST,
    OLDEST,
    RELEVANCE,
    RecallQuery,
    RecallRecord,
)
from stream_vlm.memory.search.sql_filters import Filters, Ids, ids_of, passing
from stream_vlm.memory.search.verb_forms import matching
from stream_vlm.memory.storage.step_rows import KINDS, OBSERVATION, SUMMARY
from stream_vlm.types import Pose

_IN_TIME = {
    RELEVANCE: ("record_by_end", "end_ns DESC, id DESC"),
    FUSED: ("record_by_end", "end_ns DESC, id DESC"),
    NEWEST: ("record_by_end", "end_ns DESC, id DESC"),
    OLDEST: ("record_by_kind", "start_ns, id"),
}
"""For each order the index that is walked where there are no words, and the order."""

MAX_BM25 = 2000
"""Of more records than this that match equally many words, only the newest are weighed by BM25."""

_CHOSEN = "id IN (SELECT value FROM json_each(:ids))"


def search(db: Database, query: RecallQuery) -> tuple[tuple[RecallRecord, ...], int]:
    """The records that answer `query`, and how many there were before its limit.

    Run it inside one transaction for one view of both.
    """
    if query.words:
        chosen, scores, found = by_words(db, query, query.limit)
        return read(db, chosen, scores), found
    ids, total = _in_time(db, query)
    return read(db, ids, {}), total


def read(db: Database, ids: list[int], scores: dict[int, float]) -> tuple[RecallRecord, ...]:
    """The records of these numbers, in their order, each with its score (0 where it has none).

    A number without a record is left out.
    """
    seen = (
        "SELECT record.*, ifnull(thing_id, 0) AS thing, ifnull(sighting.confidence, 0.0) AS"
        " object_confidence, ifnull((SELECT stamp_ns FROM picture WHERE picture.id = picture_id),"
        " end_ns) AS stamp_ns FROM record LEFT JOIN sighting ON record_id = record.id WHERE"
        f" {_CHOSEN}"
    )
    rows = {row["id"]: row for row in db.query(seen, {"ids": json.dumps(ids)})}
    summaries = [number for number, row in rows.items() if row["kind"] == SUMMARY]
    missing = gone(db, summaries) if summaries else {}
    return tuple(
        _record(rows[number], scores.get(number, 0.0), missing.get(number, 0))
        for number in ids
        if number in rows
    )


def gone(db: Database, summaries: list[int]) -> dict[int, int]:
    """How many of the records that each of these summaries was made from are not stored any more,
    where there are any.
    """
    found = db.execute(
        "SELECT record_id, covered - (SELECT count(*) FROM summary_covers WHERE summary_id ="
        " summary.record_id) AS gone FROM summary WHERE record_id IN (SELECT value FROM"
        " json_each(:ids)) AND gone > 0",
        {"ids": json.dumps(summaries)},
    )
    return dict(found.fetchall())


def _in_time(db: Database, query: RecallQuery) -> tuple[list[int], int]:
    filters = Filters.of(db, query)
    index, order = _IN_TIME[query.order]
    if filters.in_place:
        found = passing(db, query, filters)
        return _first_in_time(db, found, query.order, query.limit), len(found)
    # One walk for each kind: no index has the newest of several kinds in one order, and all that
    # match would have to be sorted.
    ends, total = [], 0
    for kind in dict.fromkeys(query.kinds):
        values = {**filters.values, "kind": kind, "limit": query.limit}
        where = f"kind = :kind AND {filters.clauses}"
        total += db.execute(f"SELECT count(*) FROM record WHERE {where}", values).fetchone()[0]
        walk = (
            f"SELECT id, start_ns, end_ns FROM record INDEXED BY {index} WHERE {where} ORDER BY"
            f" {order} LIMIT :limit"
        )
        ends += db.execute(walk, values).fetchall()
    ends.sort(
        key=(
            (lambda row: (row[1], row[0]))
            if query.order == OLDEST
            else (lambda row: (-row[2], -row[0]))
        )
    )
    return [row[0] for row in ends[: query.limit]], total


def by_words(
    db: Database, query: RecallQuery, limit: int
) -> tuple[list[int], dict[int, float], int]:
    """Numbers of at most `limit` records with any of the words, best first, their scores, and how
    many there were.
    """
    found, matching = _matches(db, query)
    if not len(found):
        return [], {}, 0
    # Ranked by how many words match: only those that can come before the limit are looked at more
    # closely.
    chosen: list[int] = []
    scores: dict[int, float] = {}
    for words in np.unique(matching)[::-1].tolist():
        tier = found[matching == words]
        best, strengths = _best(db, query, tier, limit - len(chosen))
        chosen += best
        scores |= {number: words + strengths[number] / (1.0 + strengths[number]) for number in best}
        if len(chosen) >= limit:
            break
    return chosen, scores, len(found)


def _best(
    db: Database, query: RecallQuery, tier: Ids, limit: int
) -> tuple[list[int], dict[int, float]]:
    """Of the records `tier`, which match equally many words, at most `limit` in the order of
    `query`; and how strong they are.
    """
    if query.order in (NEWEST, OLDEST):
        best = _first_in_time(db, tier, query.order, limit)
        return best, _strengths(db, query.words, np.array(sorted(best), np.int64))
    tier = tier[-MAX_BM25:]
    strengths = _strengths(db, query.words, tier)
    if len(tier) > limit:
        tier = _strongest(tier, strengths, limit)
    ranked = sorted(_ends(db, tier), key=lambda row: (-strengths[row[0]], -row[1], -row[0]))
    return [number for number, _ in ranked[:limit]], strengths


def _matches(db: Database, query: RecallQuery) -> tuple[Ids, Ids]:
    """Numbers of the records that pass the filters and have any of the words, and how many of the
    words each has.
    """
    hits = [_ids_with(db, word) for word in query.words]
    found, matching = _counted(np.concatenate(hits))
    filters = Filters.of(db, query)
    if filters.in_place or filters.values:
        allowed = passing(db, query, filters)
        passes = np.isin(found, allowed, assume_unique=True)
    else:
        # Observations have no words; of the other kinds those that were not asked for are often
        # few.
        others = tuple(kind for kind in KINDS if kind not in (*query.kinds, OBSERVATION))
        if not others:
            return found, matching
        excluded = np.concatenate(
            [
                ids_of(db, "SELECT id FROM record WHERE kind = :kind", {"kind": kind})
                for kind in others
            ]
        )
        passes = np.isin(found, excluded, assume_unique=True, invert=True)
    return found[passes], matching[passes]


def _counted(numbers: Ids) -> tuple[Ids, Ids]:
    """Each different one of `numbers`, rising, and how often it is there."""
    if not len(numbers):
        return numbers, numbers
    first = numbers.min()
    if numbers.max() - first > 100 * len(numbers):
        found, matching = np.unique(numbers, return_counts=True)
        return found, np.asarray(matching, np.int64)
    counts = np.bincount(numbers - first)
    found = np.flatnonzero(counts)
    return found + first, counts[found]


def _ids_with(db: Database, word: str) -> Ids:
    return ids_of(
        db,
        "SELECT rowid AS id FROM record_text WHERE record_text MATCH :word",
        {"word": matching(word)},
    )


def _strengths(db: Database, words: tuple[str, ...], ids: Ids) -> dict[int, float]:
    """For each of `ids`, which rise, the BM25 of the words OR-ed, above 0.

    SQLite computes a record's BM25 when it is read, and that takes ten times as long as finding the
    record: it is read of these alone.
    """
    of_words = (
        "SELECT rowid, -rank FROM record_text WHERE record_text MATCH :words AND rowid BETWEEN"
        " :first AND :last AND +rowid IN (SELECT value FROM json_each(:ids))"
    )
    values = {
        "words": " OR ".join(matching(word) for word in words),
        "ids": json.dumps(ids.tolist()),
        "first": int(ids[0]),
        "last": int(ids[-1]),
    }
    return dict(db.execute(of_words, values).fetchall())


def _strongest(ids: Ids, strengths: dict[int, float], number: int) -> Ids:
    """The `number` strongest of `ids`, and all that are as strong as the last of them."""
    values = np.array([strengths[one] for one in ids.tolist()])
    return ids[values >= np.partition(values, -number)[-number]]


def _ends(db: Database, ids: Ids) -> list[tuple[int, int]]:
    return db.execute(
        f"SELECT id, end_ns FROM record WHERE {_CHOSEN}", {"ids": json.dumps(ids.tolist())}
    ).fetchall()


def newest_first(db: Database, ids: Ids, limit: int) -> list[int]:
    """At most `limit` of the records `ids`, the one that ended last first."""
    return _first_in_time(db, ids, NEWEST, limit)


def _first_in_time(db: Database, ids: Ids, order: str, limit: int) -> list[int]:
    by = _IN_TIME[order][1]
    values = {"ids": json.dumps(ids.tolist()), "limit": limit}
    return [
        row[0]
        for row in db.execute(
            f"SELECT id FROM record WHERE {_CHOSEN} ORDER BY {by} LIMIT :limit", values
        )
    ]


def _record(row: dict[str, Any], score: float, gone: int) -> RecallRecord:
    pose = None
    if row["x"] is not None:
        pose = Pose(
            row["pose_frame"],
            row["x"],
            row["y"],
            row["z"],
            row["qx"],
            row["qy"],
            row["qz"],
            row["qw"],
        )
    return RecallRecord(
        record_id=row["id"],
        kind=row["kind"],
        camera=row["camera"],
        session_id=row["session_id"],
        frame_id=row["frame_id"],
        start_ns=row["start_ns"],
        end_ns=row["end_ns"],
        stamp_ns=row["stamp_ns"],
        text=row["text"],
        state=row["state"],
        confidence=row["confidence"],
        event_id=row["event_id"],
        query_id=row["query_id"],
        model_id=row["model_id"],
        has_frame=row["picture_id"] is not None,
        pose=pose,
        score=score,
        object_id=row["thing"],
        object_confidence=row["object_confidence"],
        missing_records=gone,
    )
