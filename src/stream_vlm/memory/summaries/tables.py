"""Read and write summaries in the tables; everything runs in the caller's transaction.

A summary is a record of the kind `summary`. Table `summary` has its tier and how many records it
was made from, `summary_covers` names those of them that are still stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from stream_vlm.memory.search.query import RecallRecord
from stream_vlm.memory.search.word_search import read
from stream_vlm.memory.storage.indexed_text import indexed_text
from stream_vlm.memory.storage.session_timeline import clock_segments
from stream_vlm.memory.storage.step_rows import ANSWER, EVENT, OBSERVATION, QUERY, SUMMARY
from stream_vlm.memory.summaries.extractive import BETWEEN, Material, SummaryItem
from stream_vlm.memory.summaries.schedule import MID, Chunk, Plan, count_in_history

EXTRACTIVE = "extractive"
"""`record.model_id` of a summary that no model wrote."""


@dataclass(frozen=True)
class Session:
    """The time span of a session, ns on the clock of the frames."""

    started_ns: int
    newest_ns: int


@dataclass(frozen=True)
class SummarySource:
    """What one summary is made from.

    Attributes:
        material: the items to summarise.
        records: the numbers of the records.
        with_text: those of the records that have a text.
        start_ns: ns on the clock of the frames.
        end_ns: ns on the clock of the frames.
        confidence: the mean of the records.
    """

    material: Material
    records: tuple[int, ...]
    with_text: frozenset[int]
    start_ns: int
    end_ns: int
    confidence: float


@dataclass(frozen=True)
class Summary:
    """A stored summary; `covers` has the records that it was made from."""

    record_id: int
    text: str
    model_id: str
    covers: frozenset[int]


def uncovered_chunks(db: Database, after_id: int, most: int, plan: Plan) -> tuple[set[Chunk], int]:
    """Find chunks with records that no summary covers, among the next records after `after_id`.

    Args:
        db: a connection, in one transaction.
        after_id: the last record that was checked.
        most: check at most so many record numbers.
        plan: the length of chunks.

    Returns:
        The chunks, and the last record number that was checked.
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
    """Return start and newest stamp of a session, or None if it has no records any more."""
    # One query for each of the two indices; a common one would read the whole session.
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
    """Return what the chunk's summary is to be made from, or None if it has no records.

    A record belongs to the chunk in which it ends. Utterances that report an event are left out,
    and an answer comes with its question.
    """
    start_ns, end_ns = (
        plan.start_of(chunk.number, started_ns),
        plan.start_of(chunk.number + 1, started_ns),
    )
    rows = list(
        db.query(
            f"{_SELECT} WHERE record.session_id = :session AND record.end_ns >= :start AND"
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
    with_text = [row for row in rows if row["text"].strip()]
    return SummarySource(
        Material(start_ns, tuple(_items(with_text)), tuple(sorted(states.items()))),
        tuple(row["id"] for row in rows),
        frozenset(row["id"] for row in with_text),
        start_ns,
        max(start_ns, rows[-1]["end_ns"]),
        sum(row["confidence"] for row in rows) / len(rows),
    )


def merge_source(db: Database, mids: list[int]) -> SummarySource:
    """Return what a long block of the summaries `mids` (oldest first) is to be made from.

    That is what they cover or, for a summary with deleted records, its own text.
    """
    items: list[SummaryItem] = []
    states: Counter[str] = Counter()
    merged = [_summary_row(db, mid) for mid in mids]
    for head in merged:
        rows = list(
            db.query(
                f"{_SELECT} JOIN summary_covers ON summary_covers.record_id = record.id WHERE"
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
        Material(merged[0]["start_ns"], tuple(items), tuple(sorted(states.items()))),
        tuple(mids),
        frozenset(mids),
        merged[0]["start_ns"],
        max(head["end_ns"] for head in merged),
        sum(head["confidence"] for head in merged) / len(merged),
    )


def chunk_summary(db: Database, chunk: Chunk, start_ns: int) -> Summary | None:
    """Return the stored summary of `chunk`, which starts at `start_ns`, or None."""
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


def insert_summary(
    db: Database,
    tier: str,
    session_id: str,
    camera: str,
    covered: SummarySource,
    text: str,
    model_id: str,
) -> int:
    """Store a summary with its links; return its record number."""
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
        indexed_text(text),
    ]
    inserted = db.execute(
        "INSERT INTO record (kind, camera, session_id, frame_id, start_ns, end_ns, text, state,"
        " confidence, event_id, query_id, model_id, indexed_text) VALUES"
        f" ({', '.join('?' * len(values))})",
        values,
    )
    record_id = int(inserted.lastrowid or 0)
    db.execute(
        "INSERT INTO summary (record_id, tier, covered) VALUES (?, ?, ?)",
        [record_id, tier, len(covered.records)],
    )
    _insert_links(db, record_id, covered.records)
    return record_id


def extend_summary(
    db: Database, summary: Summary, covered: SummarySource, text: str, model_id: str
) -> list[int]:
    """Set `summary` to cover all of `covered` and to say `text`.

    If the text changes, long blocks that were made from it are deleted, to be made again.

    Returns:
        The record numbers of the deleted blocks.
    """
    record_id = summary.record_id
    db.execute(
        "UPDATE record SET end_ns = ?, confidence = ? WHERE id = ?",
        [covered.end_ns, covered.confidence, record_id],
    )
    # Records that retention has dropped stay counted.
    new = [number for number in covered.records if number not in summary.covers]
    db.execute(
        "UPDATE summary SET covered = covered + ? WHERE record_id = ?", [len(new), record_id]
    )
    _insert_links(db, record_id, new)
    if text == summary.text:
        return []
    replace_text(db, record_id, text, model_id)
    blocks = [
        number
        for (number,) in db.execute(
            "SELECT summary_id FROM summary_covers WHERE record_id = ?", [record_id]
        ).fetchall()
    ]
    for block in blocks:
        db.execute("DELETE FROM record WHERE id = ?", [block])
    return blocks


def replace_text(db: Database, record_id: int, text: str, model_id: str) -> None:
    """Replace the text of a summary, and delete the vectors of the old text."""
    db.execute(
        "UPDATE record SET text = ?, indexed_text = ?, model_id = ? WHERE id = ?",
        [text, indexed_text(text), model_id, record_id],
    )
    db.execute("DELETE FROM record_vector WHERE record_id = ?", [record_id])


def summary_text(db: Database, record_id: int) -> str | None:
    """Return the text of a summary, or None if it was deleted."""
    row = db.execute("SELECT text FROM record WHERE id = ?", [record_id]).fetchone()
    return None if row is None else str(row[0])


def unmerged_summaries(db: Database, camera: str) -> list[tuple[int, str]]:
    """Return number and session of the camera's mid summaries that are not merged, oldest first."""
    return [
        (number, session_id)
        for number, session_id, tier in _uncovered_summaries(db, camera)
        if tier == MID
    ]


def history(db: Database, camera: str, plan: Plan) -> tuple[RecallRecord, ...]:
    """Return the summaries of one camera's past, oldest first.

    These are the newest long blocks and the mid summaries that are not merged.
    """
    standing = _uncovered_summaries(db, camera)
    number = count_in_history([tier for *_, tier in reversed(standing)], plan)
    return read(db, [record_id for record_id, *_ in standing[len(standing) - number :]], {})


_SELECT = (
    "SELECT record.id, record.kind, record.start_ns, record.end_ns, record.text, record.state,"
    " record.confidence, record.event_id, record.query_id, (SELECT text FROM record asked WHERE"
    " asked.query_id = record.query_id AND record.query_id <> '' AND asked.kind = 'query') AS asked"
    " FROM record"
)


def _items(rows: list[dict[str, Any]]) -> list[SummaryItem]:
    """Return one item per event, per answer with its question, and per other record with text."""
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


def _summary_row(db: Database, record_id: int) -> dict[str, Any]:
    columns = "id, start_ns, end_ns, text, confidence, covered"
    return next(
        iter(
            db.query(
                f"SELECT {columns} FROM record JOIN summary ON record_id = id WHERE id = :id",
                {"id": record_id},
            )
        )
    )


def _uncovered_summaries(db: Database, camera: str) -> list[tuple[int, str, str]]:
    """Return the camera's summaries that no other covers, oldest first: number, session, tier."""
    rows = db.execute(
        "SELECT id, session_id, tier, start_ns FROM record JOIN summary ON record_id = id WHERE"
        " kind = 'summary' AND camera = ? AND NOT EXISTS (SELECT 1 FROM summary_covers WHERE"
        " summary_covers.record_id = id)",
        [camera],
    ).fetchall()
    place = (
        {segment.session_id: number for number, segment in enumerate(clock_segments(db))}
        if len({row[1] for row in rows}) > 1
        else {}
    )
    rows.sort(key=lambda row: (place.get(row[1], 0), row[3], row[2] == MID, row[0]))
    return [(record_id, session_id, tier) for record_id, session_id, tier, _ in rows]


def _insert_links(db: Database, summary_id: int, records: Iterable[int]) -> None:
    rows = [(summary_id, number) for number in records]
    db.conn.executemany("INSERT INTO summary_covers (summary_id, record_id) VALUES (?, ?)", rows)
