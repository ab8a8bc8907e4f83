"""Summaries in the tables: which chunks no summary covers, what a chunk holds, and how a summary
and its links are stored.

All of it runs within the caller's transaction. A summary is a record of the kind `summary`;
`summary` says its tier and how many records it was made from, `summary_covers` names those that are
still stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from stream_vlm.memory.search.query import RecallRecord
from stream_vlm.memory.search.word_search import read
from stream_vlm.memory.storage.session_timeline import clock_segments
from stream_vlm.memory.storage.step_rows import ANSWER, EVENT, OBSERVATION, QUERY, SUMMARY
from stream_vlm.memory.summaries.extractive import BETWEEN, Material, SummaryItem
from stream_vlm.memory.summaries.schedule import MID, Chunk, Plan, count_in_history

EXTRACTIVE = "extractive"
"""`record.model_id` of a summary that no model wrote."""


@dataclass(frozen=True)
class Session:
    """What a chunk's place in time is counted by, ns on the evidence's clock."""

    started_ns: int
    newest_ns: int


@dataclass(frozen=True)
class SummarySource:
    """What one summary is made from.

    Attributes:
        records: their numbers.
        telling: those among them that say something.
        confidence: their mean.
    """

    material: Material
    records: tuple[int, ...]
    telling: frozenset[int]
    start_ns: int
    end_ns: int
    confidence: float


@dataclass(frozen=True)
class Summary:
    """A summary as it is stored."""

    record_id: int
    text: str
    model_id: str
    covers: frozenset[int]


def uncovered_chunks(db: Database, after_id: int, most: int, plan: Plan) -> tuple[set[Chunk], int]:
    """The chunks of those of the next `most` record numbers above `after_id` that no summary
    covers, and the highest number looked at.
    """
    row = db.execute(
        "SELECT min(id), (SELECT max(id) FROM record) FROM record WHERE id > ?", [after_id]
    ).fetchone()
    if row[0] is None:
        return set(), after_id
    last = min(row[0] + most - 1, row[1])
    found = db.execute(
        "SELECT DISTINCT session_id, camera, max(0, (end_ns - started_ns) / :chunk_ns) FROM record"
        " JOIN session USING (session_id) WHERE id > :after AND id <= :last AND camera <> '' AND"
        " kind <> 'summary' AND NOT EXISTS (SELECT 1 FROM summary_covers WHERE record_id ="
        " record.id)",
        {"chunk_ns": plan.chunk_ns, "after": after_id, "last": last},
    )
    return {Chunk(*row) for row in found.fetchall()}, last


def session_span(db: Database, session_id: str) -> Session | None:
    """When a session began and how far it is; None where it or all of it is gone."""
    # A question for each of the two indices; one for both kinds together would read the whole
    # session.
    newest = (
        "(SELECT max(end_ns) FROM record WHERE session_id = session.session_id AND kind {}"
        " 'summary')"
    )
    row = db.execute(
        f"SELECT started_ns, {newest.format('<>')}, {newest.format('=')} FROM session WHERE"
        " session_id = ?",
        [session_id],
    ).fetchone()
    stamps = [stamp for stamp in row[1:] if stamp is not None] if row is not None else []
    return Session(row[0], max(stamps)) if stamps else None


def chunk_source(db: Database, chunk: Chunk, started_ns: int, plan: Plan) -> SummarySource | None:
    """What the chunk's summary is to be made from; None where nothing is stored of it.

    A record is of the chunk in which it ends. The event that an utterance reports and the question
    that an answer answers are told with it.
    """
    start_ns, end_ns = (
        plan.start_of(chunk.number, started_ns),
        plan.start_of(chunk.number + 1, started_ns),
    )
    rows = list(
        db.query(
            f"{_TELLING} WHERE record.session_id = :session AND record.end_ns >= :start AND"
            " record.end_ns < :end AND record.camera = :camera AND record.kind <> 'summary' ORDER"
            " BY record.end_ns, record.id",
            {
                "session": chunk.session_id,
                "camera": chunk.camera,
                "start": start_ns if chunk.number else -(2**63),
                "end": end_ns,
            },
        )
    )
    if not rows:
        return None
    states = Counter(row["state"] for row in rows if row["kind"] == OBSERVATION)
    telling = [row for row in rows if row["text"].strip()]
    return SummarySource(
        Material(start_ns, tuple(_items(telling)), tuple(sorted(states.items()))),
        tuple(row["id"] for row in rows),
        frozenset(row["id"] for row in telling),
        start_ns,
        max(start_ns, rows[-1]["end_ns"]),
        sum(row["confidence"] for row in rows) / len(rows),
    )


def merge_source(db: Database, mids: list[int]) -> SummarySource:
    """What a long block of the summaries `mids`, oldest first, is made from: what they cover, or
    where some of that is gone, their own words.
    """
    items: list[SummaryItem] = []
    states: Counter[str] = Counter()
    heads = [_head(db, mid) for mid in mids]
    for head in heads:
        rows = list(
            db.query(
                f"{_TELLING} JOIN summary_covers ON summary_covers.record_id = record.id WHERE"
                " summary_id = :mid"
                " ORDER BY record.end_ns, record.id",
                {"mid": head["id"]},
            )
        )
        if len(rows) == head["covered"]:
            items += _items([row for row in rows if row["text"].strip()])
            states.update(row["state"] for row in rows if row["kind"] == OBSERVATION)
        else:
            items += [
                SummaryItem(head["start_ns"], head["end_ns"], part, head["confidence"])
                for part in head["text"].split(BETWEEN)
                if part
            ]
    return SummarySource(
        Material(heads[0]["start_ns"], tuple(items), tuple(sorted(states.items()))),
        tuple(mids),
        frozenset(mids),
        heads[0]["start_ns"],
        max(head["end_ns"] for head in heads),
        sum(head["confidence"] for head in heads) / len(heads),
    )


def chunk_summary(db: Database, chunk: Chunk, start_ns: int) -> Summary | None:
    """The summary that the chunk which begins at `start_ns` has already."""
    row = db.execute(
        "SELECT id, text, model_id FROM record JOIN summary ON record_id = id WHERE kind ="
        " 'summary' AND session_id = ? AND camera = ? AND start_ns = ? AND tier = 'mid'",
        [chunk.session_id, chunk.camera, start_ns],
    ).fetchone()
    if row is None:
        return None
    covers = db.execute(
        "SELECT record_id FROM summary_covers WHERE summary_id = ?", [row[0]]
    ).fetchall()
    return Summary(row[0], row[1], row[2], frozenset(number for (number,) in covers))


def add(
    db: Database,
    tier: str,
    session_id: str,
    camera: str,
    covered: SummarySource,
    text: str,
    model_id: str,
) -> int:
    """Store a summary with its links; its number."""
    values = [
        SUMMARY,
        camera,
        session_id,
        "",
        covered.start_ns,
        covered.end_ns,
        text,
        "",
        covered.confidence,
        "",
        "",
        model_id,
    ]
    inserted = db.execute(
        "INSERT INTO record (kind, camera, session_id, frame_id, start_ns, end_ns, text, state,"
        f" confidence, event_id, query_id, model_id) VALUES ({', '.join('?' * len(values))})",
        values,
    )
    record_id = int(inserted.lastrowid or 0)
    db.execute(
        "INSERT INTO summary (record_id, tier, covered) VALUES (?, ?, ?)",
        [record_id, tier, len(covered.records)],
    )
    _link(db, record_id, covered.records)
    return record_id


def extend(
    db: Database, summary: Summary, covered: SummarySource, text: str, model_id: str
) -> list[int]:
    """Have `summary` cover all of `covered` and say `text`; a block that told what it said before
    is deleted, to be made again: its number.
    """
    record_id = summary.record_id
    db.execute(
        "UPDATE record SET end_ns = ?, confidence = ? WHERE id = ?",
        [covered.end_ns, covered.confidence, record_id],
    )
    # What retention dropped meanwhile stays counted.
    new = [number for number in covered.records if number not in summary.covers]
    db.execute(
        "UPDATE summary SET covered = covered + ? WHERE record_id = ?", [len(new), record_id]
    )
    _link(db, record_id, new)
    if text == summary.text:
        return []
    rewrite(db, record_id, text, model_id)
    blocks = [
        number
        for (number,) in db.execute(
            "SELECT summary_id FROM summary_covers WHERE record_id = ?", [record_id]
        ).fetchall()
    ]
    for block in blocks:
        db.execute("DELETE FROM record WHERE id = ?", [block])
    return blocks


def rewrite(db: Database, record_id: int, text: str, model_id: str) -> None:
    """Give a summary other words; vectors of the words before go."""
    db.execute("UPDATE record SET text = ?, model_id = ? WHERE id = ?", [text, model_id, record_id])
    db.execute("DELETE FROM record_vector WHERE record_id = ?", [record_id])


def says(db: Database, record_id: int) -> str | None:
    """What a summary says; None where it was forgotten."""
    row = db.execute("SELECT text FROM record WHERE id = ?", [record_id]).fetchone()
    return None if row is None else str(row[0])


def unmerged_summaries(db: Database, camera: str) -> list[tuple[int, str]]:
    """Number and session of the camera's mids that no block has merged, oldest first."""
    return [
        (number, session_id) for number, session_id, tier in _standing(db, camera) if tier == MID
    ]


def history(db: Database, camera: str, plan: Plan) -> tuple[RecallRecord, ...]:
    """What the tiers tell of the past of one camera, oldest first: the newest long blocks and the
    mids that none has merged.
    """
    standing = _standing(db, camera)
    number = count_in_history([tier for *_, tier in reversed(standing)], plan)
    return read(db, [record_id for record_id, *_ in standing[len(standing) - number :]], {})


_TELLING = (
    "SELECT record.id, record.kind, record.start_ns, record.end_ns, record.text, record.state,"
    " record.confidence, record.event_id, record.query_id, (SELECT text FROM record asked WHERE"
    " asked.query_id = record.query_id AND record.query_id <> '' AND asked.kind = 'query') AS asked"
    " FROM record"
)


def _items(rows: list[dict[str, Any]]) -> list[SummaryItem]:
    """One for each event, for each answer with its question, and for what else says something on
    its own.
    """
    events = {row["event_id"] for row in rows if row["kind"] == EVENT and row["event_id"]}
    answered = {row["query_id"] for row in rows if row["kind"] == ANSWER}
    found = []
    for row in rows:
        text = row["text"]
        if row["kind"] == QUERY:
            if row["query_id"] in answered:
                continue
            text = f"“{text}”"
        elif row["kind"] != EVENT and row["event_id"] in events:
            continue
        elif row["asked"]:
            text = f"“{row['asked']}” {text}"
        found.append(SummaryItem(row["start_ns"], row["end_ns"], text, row["confidence"]))
    return found


def _head(db: Database, record_id: int) -> dict[str, Any]:
    columns = "id, start_ns, end_ns, text, confidence, covered"
    return next(
        iter(
            db.query(
                f"SELECT {columns} FROM record JOIN summary ON record_id = id WHERE id = :id",
                {"id": record_id},
            )
        )
    )


def _standing(db: Database, camera: str) -> list[tuple[int, str, str]]:
    """Number, session and tier of the camera's summaries that no other covers, oldest first."""
    rows = db.execute(
        "SELECT id, session_id, tier, start_ns FROM record JOIN summary ON record_id = id WHERE"
        " kind = 'summary' AND camera = ? AND NOT EXISTS (SELECT 1 FROM summary_covers WHERE"
        " summary_covers.record_id = id)",
        [camera],
    ).fetchall()
    place = (
        {stretch.session_id: number for number, stretch in enumerate(clock_segments(db))}
        if len({row[1] for row in rows}) > 1
        else {}
    )
    rows.sort(key=lambda row: (place.get(row[1], 0), row[3], row[2] == MID, row[0]))
    return [(record_id, session_id, tier) for record_id, session_id, tier, _ in rows]


def _link(db: Database, summary_id: int, records: Iterable[int]) -> None:
    rows = [(summary_id, number) for number in records]
    db.conn.executemany("INSERT INTO summary_covers (summary_id, record_id) VALUES (?, ?)", rows)
