"""Search by filters and words: filter first, then rank, then apply the limit.

Rows are read only for the records that are returned.
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
from stream_vlm.memory.search.sql_filters import Filters, Ids, ids_of, passing_ids
from stream_vlm.memory.search.verb_forms import fts_expression
from stream_vlm.memory.storage.indexed_text import is_unspaced, pairs_of
from stream_vlm.memory.storage.step_rows import KINDS, OBSERVATION, SUMMARY
from stream_vlm.types import Pose

_TIME_ORDERS = {
    RELEVANCE: ("record_by_end", "end_ns DESC, id DESC"),
    FUSED: ("record_by_end", "end_ns DESC, id DESC"),
    NEWEST: ("record_by_end", "end_ns DESC, id DESC"),
    OLDEST: ("record_by_kind", "start_ns, id"),
}
"""For each order, the index that is read when there are no words, and ORDER BY."""

MAX_BM25 = 2000
"""If more records match equally many words, BM25 is computed only for the newest of them."""

_IN_IDS = "id IN (SELECT value FROM json_each(:ids))"


def search(db: Database, query: RecallQuery) -> tuple[tuple[RecallRecord, ...], int]:
    """Return the records that match `query`, and how many there were before its limit.

    Run it inside one transaction, so that both are of the same state of the file.
    """
    if query.words:
        chosen, scores, found = by_words(db, query, query.limit)
        return read(db, chosen, scores), found
    ids, total = _by_time(db, query)
    return read(db, ids, {}), total


def read(db: Database, ids: list[int], scores: dict[int, float]) -> tuple[RecallRecord, ...]:
    """Return the records of these numbers, in their order, each with its score (default 0).

    Numbers without a record are skipped.
    """
    seen = (
        "SELECT record.*, ifnull(thing_id, 0) AS thing, ifnull(sighting.confidence, 0.0) AS"
        " object_confidence, ifnull((SELECT stamp_ns FROM picture WHERE picture.id = picture_id),"
        " end_ns) AS stamp_ns FROM record LEFT JOIN sighting ON record_id = record.id WHERE"
        f" {_IN_IDS}"
    )
    rows = {row["id"]: row for row in db.query(seen, {"ids": json.dumps(ids)})}
    summaries = [number for number, row in rows.items() if row["kind"] == SUMMARY]
    missing = missing_records(db, summaries) if summaries else {}
    return tuple(
        _record(rows[number], scores.get(number, 0.0), missing.get(number, 0))
        for number in ids
        if number in rows
    )


def missing_records(db: Database, summaries: list[int]) -> dict[int, int]:
    """Return how many of the records that each summary was made from are deleted.

    Summaries without deleted records are not included.
    """
    found = db.execute(
        "SELECT record_id, covered - (SELECT count(*) FROM summary_covers WHERE summary_id ="
        " summary.record_id) AS missing FROM summary WHERE record_id IN (SELECT value FROM"
        " json_each(:ids)) AND missing > 0",
        {"ids": json.dumps(summaries)},
    )
    return dict(found.fetchall())


def _by_time(db: Database, query: RecallQuery) -> tuple[list[int], int]:
    filters = Filters.of(db, query)
    index, order = _TIME_ORDERS[query.order]
    if filters.in_place:
        found = passing_ids(db, query, filters)
        return _sorted_by_time(db, found, query.order, query.limit), len(found)
    # One query per kind: no index is in the order of several kinds together, so that SQLite would
    # sort all matching records.
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
    """Return at most `limit` records with any of the words, best first.

    Returns:
        The record numbers, their scores by number, and how many records matched.
    """
    words = _searched_words(db, query.words)
    found, counts = _matches(db, query, words)
    if not len(found):
        return [], {}, 0
    # Ranked by how many words match. BM25 is computed only for records that can be within the
    # limit.
    chosen: list[int] = []
    scores: dict[int, float] = {}
    for number_of_words in np.unique(counts)[::-1].tolist():
        tier = found[counts == number_of_words]
        best, bm25 = _best(db, query, words, tier, limit - len(chosen))
        chosen += best
        scores |= {one: number_of_words + bm25[one] / (1.0 + bm25[one]) for one in best}
        if len(chosen) >= limit:
            break
    return chosen, scores, len(found)


def _searched_words(db: Database, words: tuple[str, ...]) -> tuple[str, ...]:
    """Return `words`, with the pairs of letters of each unspaced word that is in no record.

    A question without spaces ("你看到红球了吗") is one word. Where nobody wrote it as a whole, its
    parts are searched for.
    """
    searched: dict[str, None] = {}
    for word in words:
        parts = pairs_of(word) if is_unspaced(word) else []
        whole = len(parts) < 2 or len(_ids_with(db, word)) > 0
        searched |= dict.fromkeys([word] if whole else parts)
    return tuple(searched)


def _best(
    db: Database, query: RecallQuery, words: tuple[str, ...], tier: Ids, limit: int
) -> tuple[list[int], dict[int, float]]:
    """Return the best of `tier`, whose records match equally many words, and their BM25.

    At most `limit` records, in the order of `query`.
    """
    if query.order in (NEWEST, OLDEST):
        best = _sorted_by_time(db, tier, query.order, limit)
        return best, _bm25(db, words, np.array(sorted(best), np.int64))
    tier = tier[-MAX_BM25:]
    bm25 = _bm25(db, words, tier)
    if len(tier) > limit:
        tier = _highest(tier, bm25, limit)
    ranked = sorted(_ends(db, tier), key=lambda row: (-bm25[row[0]], -row[1], -row[0]))
    return [number for number, _ in ranked[:limit]], bm25


def _matches(db: Database, query: RecallQuery, words: tuple[str, ...]) -> tuple[Ids, Ids]:
    """Return the records that pass the filters of `query` and have any of `words`.

    Returns:
        Their numbers, and how many of the words each has.
    """
    hits = [_ids_with(db, word) for word in words]
    found, counts = _counted(np.concatenate(hits))
    filters = Filters.of(db, query)
    if filters.in_place or filters.values:
        allowed = passing_ids(db, query, filters)
        passes = np.isin(found, allowed, assume_unique=True)
    else:
        # Observations have no words. Of the other kinds, the excluded ones usually have fewer
        # records than the wanted ones.
        others = tuple(kind for kind in KINDS if kind not in (*query.kinds, OBSERVATION))
        if not others:
            return found, counts
        excluded = np.concatenate(
            [
                ids_of(db, "SELECT id FROM record WHERE kind = :kind", {"kind": kind})
                for kind in others
            ]
        )
        passes = np.isin(found, excluded, assume_unique=True, invert=True)
    return found[passes], counts[passes]


def _counted(numbers: Ids) -> tuple[Ids, Ids]:
    """Return the different `numbers`, ascending, and how often each occurs."""
    if not len(numbers):
        return numbers, numbers
    first = numbers.min()
    if numbers.max() - first > 100 * len(numbers):
        found, counts = np.unique(numbers, return_counts=True)
        return found, np.asarray(counts, np.int64)
    counts = np.bincount(numbers - first)
    found = np.flatnonzero(counts)
    return found + first, counts[found]


def _ids_with(db: Database, word: str) -> Ids:
    return ids_of(
        db,
        "SELECT rowid AS id FROM record_text WHERE record_text MATCH :word",
        {"word": fts_expression(word)},
    )


def _bm25(db: Database, words: tuple[str, ...], ids: Ids) -> dict[int, float]:
    """Return BM25 of the words joined by OR for each of `ids`, which ascend; above 0.

    SQLite computes BM25 when a row is read, which takes ten times as long as finding the row. It is
    therefore read for these rows only.
    """
    of_words = (
        "SELECT rowid, -rank FROM record_text WHERE record_text MATCH :words AND rowid BETWEEN"
        " :first AND :last AND +rowid IN (SELECT value FROM json_each(:ids))"
    )
    values = {
        "words": " OR ".join(fts_expression(word) for word in words),
        "ids": json.dumps(ids.tolist()),
        "first": int(ids[0]),
        "last": int(ids[-1]),
    }
    return dict(db.execute(of_words, values).fetchall())


def _highest(ids: Ids, bm25: dict[int, float], number: int) -> Ids:
    """Return the `number` ids with the highest BM25, and all ids equal to the last of them."""
    values = np.array([bm25[one] for one in ids.tolist()])
    return np.asarray(ids[values >= np.partition(values, -number)[-number]], np.int64)


def _ends(db: Database, ids: Ids) -> list[tuple[int, int]]:
    return db.execute(
        f"SELECT id, end_ns FROM record WHERE {_IN_IDS}", {"ids": json.dumps(ids.tolist())}
    ).fetchall()


def newest_first(db: Database, ids: Ids, limit: int) -> list[int]:
    """Return at most `limit` of the records `ids`, sorted by their end, newest first."""
    return _sorted_by_time(db, ids, NEWEST, limit)


def _sorted_by_time(db: Database, ids: Ids, order: str, limit: int) -> list[int]:
    by = _TIME_ORDERS[order][1]
    values = {"ids": json.dumps(ids.tolist()), "limit": limit}
    return [
        row[0]
        for row in db.execute(
            f"SELECT id FROM record WHERE {_IN_IDS} ORDER BY {by} LIMIT :limit", values
        )
    ]


def _record(row: dict[str, Any], score: float, missing: int) -> RecallRecord:
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
        missing_records=missing,
    )
