"""Combine the rankings by words, vectors and recency; search by picture.

Filters are applied before anything is ranked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sqlite_utils import Database

from stream_vlm.memory.search.query import RecallQuery, RecallRecord
from stream_vlm.memory.search.sql_filters import Filters, Ids, passing_ids
from stream_vlm.memory.search.vectors import Matrix, Vectors
from stream_vlm.memory.search.word_search import by_words, newest_first, read
from stream_vlm.memory.storage.errors import RecallError

DEPTH = 200
"""The best by words and by vectors that are combined, at least; more if the limit is higher."""

RANK_OFFSET = 60
"""Reciprocal-rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009).

The score of a record is the sum of weight / (offset + rank) over the rankings.
"""

RECENCY_WEIGHT = 0.05
"""Words and vectors have weight 1. This low weight only puts the newer of equal records first."""


def fused(
    db: Database, query: RecallQuery, vector: Vectors | None, matrix: Matrix | None
) -> tuple[tuple[RecallRecord, ...], int]:
    """Return the records that match `query` best by words, vectors and recency.

    Args:
        db: a connection, in one transaction.
        query: its filters, words and limit are used.
        vector: of the text, float32, (size,), length 1; None leaves vectors out.
        matrix: the stored vectors of the same model; None leaves vectors out.

    Returns:
        The records, best first, and how many were ranked.
    """
    rankings: list[tuple[float, Sequence[int]]] = []
    depth = max(DEPTH, query.limit)
    if query.words:
        chosen, _, _ = by_words(db, query, depth)
        rankings.append((1.0, chosen))
    if vector is not None and matrix is not None:
        near, _ = matrix.nearest(db, vector, depth, passing_ids(db, query, Filters.of(db, query)))
        rankings.append((1.0, near.tolist()))
    found = np.unique(np.array([number for _, ranked in rankings for number in ranked], np.int64))
    if not len(found):
        return (), 0
    rankings.append((RECENCY_WEIGHT, newest_first(db, found, len(found))))
    return _by_ranks(db, rankings, query.limit)


def search_by_picture(
    db: Database, query: RecallQuery, vector: Vectors, matrix: Matrix
) -> tuple[tuple[RecallRecord, ...], int]:
    """Return the records with the pictures nearest to `vector`, at most one record per picture.

    Of several records of one picture the newest is returned; `score` is the cosine. If the query
    has words, records are ranked by picture and words together, and of several records of one
    picture the one that matches the words best is returned.

    Returns:
        The records, best first, and how many pictures passed the filters (with words: were ranked).
    """
    records = passing_ids(db, query, Filters.of(db, query))
    pictures = _pictures_of(db, records)
    near, cosines = matrix.nearest(
        db,
        vector,
        max(query.limit, DEPTH if query.words else 0),
        np.array(sorted(pictures), np.int64),
    )
    if not query.words:
        best = [pictures[number] for number in near.tolist()]
        return read(db, best, dict(zip(best, cosines.tolist(), strict=True))), len(pictures)
    chosen, _, _ = by_words(db, query, DEPTH)
    pictured = _picture_of_each(db, np.array(sorted(chosen), np.int64))
    worded: dict[int, int] = {}
    for record in chosen:
        if record in pictured:
            worded.setdefault(pictured[record], record)
    distinct = [
        record for record in chosen if worded.get(pictured.get(record, 0), record) == record
    ]
    return _by_ranks(
        db,
        [
            (1.0, distinct),
            (1.0, [worded.get(number, pictures[number]) for number in near.tolist()]),
        ],
        query.limit,
    )


def _by_ranks(
    db: Database, rankings: Sequence[tuple[float, Sequence[int]]], limit: int
) -> tuple[tuple[RecallRecord, ...], int]:
    """Combine weighted rankings by the sum of reciprocal ranks.

    Returns:
        At most `limit` records, best first, and how many were ranked.
    """
    scores: dict[int, float] = {}
    for weight, ranked in rankings:
        for rank, number in enumerate(ranked, start=1):
            scores[number] = scores.get(number, 0.0) + weight / (RANK_OFFSET + rank)
    best = sorted(scores, key=lambda number: (-scores[number], -number))[:limit]
    return read(db, best, scores), len(scores)


def picture_vector(db: Database, record_id: int) -> tuple[Vectors, str]:
    """Return the newest vector of the picture of record `record_id`, and the name of its model.

    Raises:
        RecallError: there is no such record, it has no picture, or its picture has no vector.
    """
    row = db.execute(
        "SELECT halves, name FROM record JOIN picture_vector USING (picture_id) JOIN vector_model"
        " ON vector_model.id = vector_model_id WHERE record.id = ? ORDER BY picture_vector.id DESC"
        " LIMIT 1",
        [record_id],
    ).fetchone()
    if row is None:
        raise RecallError(
            f"record {record_id}: no picture vector is stored; choose a record with a picture,"
            " written by a model that computes picture vectors"
        )
    return np.frombuffer(row[0], "<f2").astype(np.float32), row[1]


def _pictures_of(db: Database, records: Ids) -> dict[int, int]:
    """Return the pictures of `records`, each with the newest of those records."""
    return {picture: record for record, picture in _picture_of_each(db, records).items()}


def _picture_of_each(db: Database, records: Ids) -> dict[int, int]:
    """Return the picture of each of `records` that has one, in the order of their numbers."""
    if not len(records):
        return {}
    of = (
        "SELECT id, picture_id FROM record WHERE picture_id IS NOT NULL AND id BETWEEN ? AND ?"
        " ORDER BY id"
    )
    pairs = np.array(
        db.execute(of, [int(records.min()), int(records.max())]).fetchall(), np.int64
    ).reshape(-1, 2)
    pairs = pairs[np.isin(pairs[:, 0], records)]
    return dict(zip(pairs[:, 0].tolist(), pairs[:, 1].tolist(), strict=True))
