"""Compute answers in SQL: when, how often, how long, where, between, still there.

No language model counts or subtracts. A record is evidence if it has every word of the question and
passes every filter. Without evidence the answer is "not known".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from stream_vlm.memory.answers.object_links import PRESENT_AFTER
from stream_vlm.memory.answers.question_kind import (
    AFTER,
    BEFORE,
    BETWEEN,
    FIRST,
    HOW_LONG,
    HOW_OFTEN,
    LAST,
    STILL_THERE,
    WHERE,
    Question,
)
from stream_vlm.memory.answers.state_verbs import BEGINS, ENDS, match_any
from stream_vlm.memory.search.query import RecallRecord
from stream_vlm.memory.search.sql_filters import Filters, in_clause
from stream_vlm.memory.search.verb_forms import fts_expression
from stream_vlm.memory.search.word_search import read
from stream_vlm.types import NANOSECONDS

MAX_EVIDENCE = 20
"""An answer that counts returns at most so many records: the newest."""


@dataclass(frozen=True)
class Answer:
    """An answer from the memory.

    Attributes:
        mode: one of `question_kind.MODES`.
        known: False where no record answers the question.
        text: one sentence.
        value: how often (a number), how long (seconds), whether it is still there (1 or 0), else 0.
        stamp_ns: the time that the answer is about: first, last, since when (ns on the clock of the
            frames); 0 where there is none.
        records: the evidence.
        total: how many records are evidence, without a limit.
        took_ms: time spent in the memory, milliseconds.
    """

    mode: str
    known: bool
    text: str
    value: float = 0.0
    stamp_ns: int = 0
    records: tuple[RecallRecord, ...] = ()
    total: int = 0
    took_ms: float = 0.0


def answer(db: Database, question: Question) -> Answer:
    """Return the answer to `question`. Run it inside one transaction.

    - first, last: the first or last record; `stamp_ns` is its start or end.
    - how_often: how many records there are.
    - how_long: for how many seconds it was present, open or on. Each period runs from the end of an
      event that begins the state (`state_verbs.BEGINS`) to the end of the next event that ends it
      (`state_verbs.ENDS`) in the same session, or to the end of the session. If the first event
      ends the state, the period runs from the start of the session. If there are no such events,
      the durations of the matching events are added up.
    - where: the robot's position at the last record with a pose.
    - between: what happened, in order; the filters give the time range.
    - before, after: the last event before, or the first after, the last record with the words.
    - still_there: whether the last change began the state; `stamp_ns` is since when. If the last
      change ended it, but in that session another object with other words (the blue cup, when a cup
      is asked for) came and was not seen to leave, that one is still there. An object with the same
      words is only mentioned: often its leaving was missed, and there was only one.
    """
    matched, values = _matched(db, question)
    return _ANSWERS[question.mode](db, question, matched, values)


def _matched(db: Database, question: Question, words: bool = True) -> tuple[str, dict[str, Any]]:
    """Return a SELECT of id, session_id, start_ns, end_ns, x of the evidence, and its values."""
    filters = Filters.of(db, question.query)
    values = dict(filters.values)
    clauses = [in_clause("kind", question.query.kinds, values), filters.clauses]
    if words and question.words:
        clauses.append(
            "record.id IN (SELECT rowid FROM record_text WHERE record_text MATCH :words)"
        )
        values["words"] = " AND ".join(fts_expression(word) for word in question.words)
    return (
        (
            f"SELECT record.id, session_id, start_ns, end_ns, x FROM {filters.source} WHERE"
            f" {' AND '.join(clauses)}"
        ),
        values,
    )


def _first_or_last(
    db: Database, question: Question, matched: str, values: dict[str, Any]
) -> Answer:
    order, column = (
        ("start_ns, id", "start_ns")
        if question.mode == FIRST
        else ("end_ns DESC, id DESC", "end_ns")
    )
    row = db.execute(
        f"SELECT id, {column}, count(*) OVER () FROM ({matched}) ORDER BY {order} LIMIT 1", values
    ).fetchone()
    if row is None:
        return _not_found(question)
    records = read(db, [row[0]], {})
    return Answer(
        question.mode,
        True,
        f"{question.mode}: {records[0].text}",
        stamp_ns=row[1],
        records=records,
        total=row[2],
    )


def _how_often(db: Database, question: Question, matched: str, values: dict[str, Any]) -> Answer:
    number = db.execute(f"SELECT count(*) FROM ({matched})", values).fetchone()[0]
    if not number:
        return _not_found(question)
    records = _newest(db, matched, values)
    linked, objects = db.execute(
        f"SELECT count(*), count(DISTINCT thing_id) FROM ({matched}) JOIN sighting ON record_id"
        " = id",
        values,
    ).fetchone()
    said = "once" if number == 1 else f"{number} times"
    if number > 1 and linked == number:
        said += (
            ", probably the same object"
            if objects == 1
            else f", probably {objects} different objects"
        )
    return Answer(HOW_OFTEN, True, said, float(number), records[0].end_ns, records, number)


def _how_long(db: Database, question: Question, matched: str, values: dict[str, Any]) -> Answer:
    # Each change with its neighbours in its session. If several in a row begin the state, each
    # lasts until the next one, which gives the same sum. An end without a beginning counts from the
    # start of the session. The question's time range limits both.
    seen = (
        "SELECT session_id, min(start_ns) AS since_ns, max(end_ns) AS until_ns FROM record GROUP BY"
        " session_id"
    )
    earliest, latest = question.query.start_ns, question.query.end_ns
    neighbours = (
        "SELECT begins, end_ns, max(since_ns, ifnull(:earliest, since_ns)) AS since_ns,"
        " min(until_ns, ifnull(:latest, until_ns)) AS until_ns, lag(end_ns) OVER in_session AS"
        f" before_ns, lead(end_ns) OVER in_session AS next_ns FROM ({_changes(matched)}) JOIN"
        f" ({seen}) USING (session_id) WINDOW in_session AS (PARTITION BY session_id ORDER BY"
        " end_ns, id)"
    )
    lasting = (
        "CASE WHEN begins THEN max(0, min(ifnull(next_ns, until_ns), until_ns) - end_ns)"
        " WHEN before_ns IS NULL THEN max(0, end_ns - since_ns) ELSE 0 END"
    )
    changes = values | _verbs() | {"earliest": earliest, "latest": latest}
    lasted, began = db.execute(
        f"SELECT sum({lasting}), count(*) FROM ({neighbours})", changes
    ).fetchone()
    if not began:
        lasted, began = db.execute(
            f"SELECT sum(end_ns - start_ns), count(*) FROM ({matched})", values
        ).fetchone()
    if not began:
        return _not_found(question)
    records = _newest(db, matched, values)
    seconds = lasted / NANOSECONDS
    return Answer(
        HOW_LONG, True, f"{seconds:.1f} s in total", seconds, records[0].end_ns, records, began
    )


def _still_there(db: Database, question: Question, matched: str, values: dict[str, Any]) -> Answer:
    last = (
        f"SELECT id, begins, end_ns, count(*) OVER () FROM ({_changes(matched)}) ORDER BY end_ns"
        " DESC, id DESC LIMIT 1"
    )
    row = db.execute(last, values | _verbs()).fetchone()
    if row is None:
        return _not_found(question)
    number, begins, end_ns, total = row
    records = read(db, [number], {})
    said = f"{'yes' if begins else 'no'}: last seen: {records[0].text}"
    if begins:
        return Answer(STILL_THERE, True, said, 1.0, end_ns, records, total)
    alike, others = _others_present(db, matched, values, number)
    if others:
        there = read(db, others[:1], {})
        said = (
            f"yes: last seen: {there[0].text}; a later event was about another object:"
            f" {records[0].text}"
        )
        return Answer(STILL_THERE, True, said, 1.0, there[0].end_ns, there + records, total)
    if alike:
        there = read(db, alike[:1], {})
        said += f"; a similar object was not seen to leave: {there[0].text}"
        return Answer(STILL_THERE, True, said, 0.0, end_ns, records + there, total)
    return Answer(STILL_THERE, True, said, 0.0, end_ns, records, total)


def _others_present(
    db: Database, matched: str, values: dict[str, Any], last: int
) -> tuple[list[int], list[int]]:
    """Return the newest records of other objects that were not seen to leave.

    Args:
        db: a connection, in one transaction.
        matched: as `_matched`.
        values: as `_matched`.
        last: a record; only its session counts, and its object is not included.

    Returns:
        Records of objects with the same words as that of `last`, and of objects with other words.
    """
    of_last = db.execute(
        "SELECT session_id, thing_id, noun, words FROM record JOIN sighting ON record_id = id WHERE"
        " id = ?",
        [last],
    ).fetchone()
    if of_last is None:
        return [], []
    session_id, object_id, *words = of_last
    there = {f"there{number}": change for number, change in enumerate(PRESENT_AFTER)}
    newest = (
        "SELECT sighting.*, end_ns, row_number() OVER (PARTITION BY thing_id ORDER BY end_ns DESC,"
        f" id DESC) AS place FROM ({matched}) JOIN sighting ON record_id = id WHERE session_id ="
        " :session AND thing_id <> :thing"
    )
    rows = db.execute(
        f"SELECT record_id, noun, words FROM ({newest}) WHERE place = 1 AND change IN"
        f" ({', '.join(f':{name}' for name in there)}) ORDER BY end_ns DESC, record_id DESC",
        values | there | {"session": session_id, "thing": object_id},
    ).fetchall()
    return [row[0] for row in rows if list(row[1:]) == words], [
        row[0] for row in rows if list(row[1:]) != words
    ]


def _where(db: Database, question: Question, matched: str, values: dict[str, Any]) -> Answer:
    placed = (
        f"SELECT id, count(*) OVER () FROM ({matched}) WHERE x IS NOT NULL ORDER BY end_ns DESC, id"
        " DESC LIMIT 1"
    )
    row = db.execute(placed, values).fetchone()
    if row is None:
        return _not_found(question)
    records = read(db, [row[0]], {})
    pose = records[0].pose
    said = (
        f"seen from ({pose.x:.2f}, {pose.y:.2f}) in {pose.frame_id}: {records[0].text}"
        if pose is not None
        else records[0].text
    )
    return Answer(WHERE, True, said, stamp_ns=records[0].end_ns, records=records, total=row[1])


def _between(db: Database, question: Question, matched: str, values: dict[str, Any]) -> Answer:
    rows = db.execute(
        f"SELECT id, count(*) OVER () FROM ({matched}) ORDER BY start_ns, id LIMIT :limit",
        values | {"limit": question.query.limit},
    ).fetchall()
    if not rows:
        return _not_found(question)
    records = read(db, [row[0] for row in rows], {})
    said = "; then ".join(record.text for record in records if record.text)
    return Answer(BETWEEN, True, said, float(rows[0][1]), records[0].start_ns, records, rows[0][1])


def _before_or_after(
    db: Database, question: Question, matched: str, values: dict[str, Any]
) -> Answer:
    anchor = db.execute(
        f"SELECT id, session_id, start_ns, end_ns FROM ({matched}) ORDER BY end_ns DESC, id DESC"
        " LIMIT 1",
        values,
    ).fetchone()
    if anchor is None:
        return _not_found(question)
    number, session_id, start_ns, end_ns = anchor
    others, values = _matched(db, question, words=False)
    before = question.mode == BEFORE
    row = db.execute(
        f"SELECT id FROM ({others}) WHERE session_id = :session_id AND id <> :anchor"
        + (
            " AND end_ns <= :to_ns ORDER BY end_ns DESC, id DESC LIMIT 1"
            if before
            else " AND end_ns >= :to_ns ORDER BY end_ns, id LIMIT 1"
        ),
        values | {"session_id": session_id, "anchor": number, "to_ns": end_ns},
    ).fetchone()
    if row is None:
        return Answer(
            question.mode,
            False,
            f"no record {question.mode} that",
            stamp_ns=start_ns,
            records=read(db, [number], {}),
            total=1,
        )
    records = read(db, [row[0], number], {})
    return Answer(
        question.mode, True, records[0].text, stamp_ns=records[0].end_ns, records=records, total=2
    )


_ANSWERS = {
    FIRST: _first_or_last,
    LAST: _first_or_last,
    HOW_OFTEN: _how_often,
    HOW_LONG: _how_long,
    STILL_THERE: _still_there,
    WHERE: _where,
    BETWEEN: _between,
    BEFORE: _before_or_after,
    AFTER: _before_or_after,
}


def _changes(matched: str) -> str:
    """Return a SELECT of those of `matched` that begin or end a state.

    A record that does both ("takes the cup and puts it down") counts as a beginning.
    """
    begins = "id IN (SELECT rowid FROM record_text WHERE record_text MATCH :begins)"
    ends = "id IN (SELECT rowid FROM record_text WHERE record_text MATCH :ends)"
    return (
        f"SELECT id, session_id, end_ns, {begins} AS begins FROM ({matched}) WHERE {begins} OR"
        f" {ends}"
    )


def _verbs() -> dict[str, str]:
    return {"begins": match_any(BEGINS), "ends": match_any(ENDS)}


def _newest(db: Database, matched: str, values: dict[str, Any]) -> tuple[RecallRecord, ...]:
    newest = f"SELECT id FROM ({matched}) ORDER BY end_ns DESC, id DESC LIMIT {MAX_EVIDENCE}"
    return read(db, [row[0] for row in db.execute(newest, values)], {})


def _not_found(question: Question) -> Answer:
    about = " ".join(question.words)
    if question.mode == HOW_OFTEN:
        return Answer(
            HOW_OFTEN,
            True,
            (f"never: no record matches '{about}'" if about else "never: no record matches"),
        )
    return Answer(
        question.mode,
        False,
        (f"not known: no record matches '{about}'" if about else "not known: no record matches"),
    )
