"""Compute answers in SQL: when, how often, how long, where, between, still there.

No language model counts or subtracts. A record is evidence if it has every word of the question and
passes every filter. Without evidence the answer is "not known".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from sqlite_utils import Database

from stream_vlm.config.map_frames import is_map
from stream_vlm.memory.answers.evidence import Answer, Evidence
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
from stream_vlm.memory.answers.state_answers import how_long, still_there
from stream_vlm.memory.answers.state_question import read_state_question
from stream_vlm.memory.search.place_frames import newest_session
from stream_vlm.memory.search.query import RecallError


def answer(db: Database, question: Question, map_frames: Sequence[str]) -> Answer:
    """Return the answer to `question`. Run it inside one transaction.

    `map_frames` is the setting `memory.map_frames`.

    - first, last: the first or last record; `stamp_ns` is its start or end.
    - how_often: how many records there are.
    - how_long: for how many seconds it was present, open or on. Each period runs from the end of an
      event that begins the state (`state_pairs.PAIRS`) to the end of the next event that ends it
      in the same session, or to the end of the session. If the first event
      ends the state, the period runs from the start of the session. If there are no such events,
      the durations of the matching events are added up.
    - where: the robot's position at the last record with a pose. If its frame is no map and it is
      of an earlier session, the answer says so.
    - between: what happened, in order; the filters give the time range.
    - before, after: the last event before, or the first after, the last record with the words.
    - still_there: whether the state that is asked for holds: whether the last change began it, or
      began its opposite ("is the door closed?"); `stamp_ns` is since when. If the last change
      ended it, but in that session another object with other words (the blue cup, when a cup is
      asked for) came and was not seen to leave, that one is still there. An object with the same
      words is only mentioned: often its leaving was missed, and there was only one.
    """
    evidence = Evidence.of(db, question)
    if question.mode == WHERE:
        return _where(evidence, map_frames)
    return _ANSWERS[question.mode](evidence)


def _first_or_last(evidence: Evidence) -> Answer:
    mode = evidence.question.mode
    order, column = (
        ("start_ns, id", "start_ns") if mode == FIRST else ("end_ns DESC, id DESC", "end_ns")
    )
    row = evidence.row(
        f"SELECT id, {column}, count(*) OVER () FROM ({evidence.select}) ORDER BY {order} LIMIT 1"
    )
    now = _state_now(evidence)
    if row is None:
        if now is not None and now.known and not now.value:
            # "Has the engine stopped?" after it only started.
            return replace(now, mode=mode)
        return evidence.not_found()
    records = evidence.records([row[0]])
    said = f"{'no: ' if evidence.question.denies else ''}{mode}: {records[0].text}"
    if now is not None and now.known and not now.value and now.stamp_ns >= row[1]:
        said += f"; since then: {now.records[0].text}"
        records += now.records[:1]
    return Answer(mode, True, said, stamp_ns=row[1], records=records, total=row[2])


def _state_now(evidence: Evidence) -> Answer | None:
    """Return whether the state holds that "has the door been closed?" asks for, else None."""
    query = evidence.question.query
    if not _HAS_BECOME.match(query.text):
        return None
    state = read_state_question(query.text)
    if not state.is_named or state.negated:
        return None
    try:
        question = Question(replace(query), STILL_THERE)
    except RecallError:
        return None
    return still_there(Evidence.of(evidence.db, question))


_HAS_BECOME = re.compile(
    r"^\W*(?:has|have)n?(?:['\u2019]t)?\s+(?!you\b|any|some)(?!.*\bever\b)", re.IGNORECASE
)
"""A question in the perfect tense about one thing asks for its state as well."""


def _how_often(evidence: Evidence) -> Answer:
    number = evidence.row(f"SELECT count(*) FROM ({evidence.select})")[0]
    if not number:
        return evidence.not_found()
    records = evidence.newest()
    linked, objects = evidence.row(
        f"SELECT count(*), count(DISTINCT thing_id) FROM ({evidence.select}) JOIN sighting ON"
        " record_id = id"
    )
    said = "once" if number == 1 else f"{number} times"
    if number > 1 and linked == number:
        said += (
            ", probably the same object"
            if objects == 1
            else f", probably {objects} different objects"
        )
    return Answer(HOW_OFTEN, True, said, float(number), records[0].end_ns, records, number)


def _where(evidence: Evidence, map_frames: Sequence[str]) -> Answer:
    row = evidence.row(
        f"SELECT id, count(*) OVER () FROM ({evidence.select}) WHERE x IS NOT NULL ORDER BY end_ns"
        " DESC, id DESC LIMIT 1"
    )
    if row is None:
        return evidence.not_found()
    records = evidence.records([row[0]])
    said, pose = records[0].text, records[0].pose
    if pose is not None:
        of = pose.frame_id
        if records[0].session_id != newest_session(evidence.db) and not is_map(of, map_frames):
            of = f"{of} of the earlier session {records[0].session_id}, which had another origin"
        said = f"seen from ({pose.x:.2f}, {pose.y:.2f}) in {of}: {said}"
    return Answer(WHERE, True, said, stamp_ns=records[0].end_ns, records=records, total=row[1])


def _between(evidence: Evidence) -> Answer:
    rows = evidence.rows(
        f"SELECT id, count(*) OVER () FROM ({evidence.select}) ORDER BY start_ns, id LIMIT :limit",
        limit=evidence.question.query.limit,
    )
    if not rows:
        return evidence.not_found()
    records = evidence.records([row[0] for row in rows])
    said = "; then ".join(record.text for record in records if record.text)
    return Answer(BETWEEN, True, said, float(rows[0][1]), records[0].start_ns, records, rows[0][1])


def _before_or_after(evidence: Evidence) -> Answer:
    mode = evidence.question.mode
    anchor = evidence.row(
        f"SELECT id, session_id, start_ns, end_ns FROM ({evidence.select}) ORDER BY end_ns DESC, id"
        " DESC LIMIT 1"
    )
    if anchor is None:
        return evidence.not_found()
    number, session_id, start_ns, end_ns = anchor
    others = Evidence.of(evidence.db, evidence.question, words=())
    row = others.row(
        f"SELECT id FROM ({others.select}) WHERE session_id = :session_id AND id <> :anchor"
        + (
            " AND end_ns <= :to_ns ORDER BY end_ns DESC, id DESC LIMIT 1"
            if mode == BEFORE
            else " AND end_ns >= :to_ns ORDER BY end_ns, id LIMIT 1"
        ),
        session_id=session_id,
        anchor=number,
        to_ns=end_ns,
    )
    if row is None:
        records = evidence.records([number])
        return Answer(
            mode, False, f"no record {mode} that", stamp_ns=start_ns, records=records, total=1
        )
    records = evidence.records([row[0], number])
    return Answer(mode, True, records[0].text, stamp_ns=records[0].end_ns, records=records, total=2)


_ANSWERS = {
    FIRST: _first_or_last,
    LAST: _first_or_last,
    HOW_OFTEN: _how_often,
    HOW_LONG: how_long,
    STILL_THERE: still_there,
    BETWEEN: _between,
    BEFORE: _before_or_after,
    AFTER: _before_or_after,
}
