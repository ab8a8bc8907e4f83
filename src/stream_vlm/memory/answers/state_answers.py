"""Answers about states: how long something was present, open or on, and whether it still is.

A state runs from the end of an event that begins it to the end of the next event that ends it.
"""

from __future__ import annotations

import json

from stream_vlm.memory.answers.denial import NEGATION_EXPRESSION
from stream_vlm.memory.answers.evidence import Answer, Evidence
from stream_vlm.memory.answers.object_links import PRESENT_AFTER
from stream_vlm.memory.answers.question_kind import HOW_LONG, STILL_THERE
from stream_vlm.memory.answers.state_question import StateQuestion
from stream_vlm.memory.answers.state_reading import state_after
from stream_vlm.memory.answers.state_verbs import loose_expression, side_expression
from stream_vlm.memory.search.query import RecallRecord
from stream_vlm.memory.search.verb_forms import fts_expression
from stream_vlm.types import NANOSECONDS


def how_long(evidence: Evidence) -> Answer:
    """Return for how many seconds the state lasted; see `computed_answer.answer`."""
    state = _state_of(evidence)
    # Each change with its neighbours in its session. If several in a row begin the state, each
    # lasts until the next one, which gives the same sum. An end without a beginning counts from the
    # start of the session. The question's time range limits both.
    # Each bound of a session is one step in an index: grouping all records would read every one.
    newest = (
        "ifnull((SELECT max(end_ns) FROM record WHERE session_id = session.session_id AND kind {}"
        " 'summary'), started_ns)"
    )
    seen = (
        "SELECT session_id, (SELECT min(start_ns) FROM record WHERE session_id ="
        f" session.session_id) AS since_ns, max({newest.format('<>')}, {newest.format('=')}) AS"
        " until_ns FROM session"
    )
    neighbours = (
        "SELECT begins, end_ns, max(since_ns, ifnull(:earliest, since_ns)) AS since_ns,"
        " min(until_ns, ifnull(:latest, until_ns)) AS until_ns, lag(end_ns) OVER in_session AS"
        " before_ns, lead(end_ns) OVER in_session AS next_ns FROM"
        f" ({_changes(evidence, state.wants)}) JOIN ({seen}) USING (session_id) WINDOW"
        " in_session AS (PARTITION BY session_id ORDER BY end_ns, id)"
    )
    lasting = (
        "CASE WHEN begins THEN max(0, min(ifnull(next_ns, until_ns), until_ns) - end_ns)"
        " WHEN before_ns IS NULL THEN max(0, end_ns - since_ns) ELSE 0 END"
    )
    lasted, began = evidence.row(
        f"SELECT sum({lasting}), count(*) FROM ({neighbours})",
        earliest=evidence.question.query.start_ns,
        latest=evidence.question.query.end_ns,
        **_verbs(evidence, state),
    )
    if not began:
        lasted, began = evidence.row(
            f"SELECT sum(end_ns - start_ns), count(*) FROM ({evidence.select})"
        )
    if not began:
        return evidence.not_found()
    records = evidence.newest()
    seconds = lasted / NANOSECONDS
    return Answer(
        HOW_LONG, True, f"{seconds:.1f} s in total", seconds, records[0].end_ns, records, began
    )


def still_there(evidence: Evidence) -> Answer:
    """Return whether the state that is asked for holds; see `computed_answer.answer`."""
    state = _state_of(evidence)
    last = (
        "SELECT id, begins, end_ns, count(*) OVER () FROM"
        f" ({_changes(evidence, True)}) ORDER BY end_ns DESC, id DESC LIMIT 1"
    )
    row = evidence.row(last, **_verbs(evidence, state))
    if row is None:
        return _last_seen(evidence, state)
    number, begins, end_ns, total = row
    records = evidence.records([number])
    if not begins and state.pair.name in _LINKED:
        alike, others = _others_present(evidence, number)
        if others:
            there = evidence.records(others[:1])
            said = f"{there[0].text}; a later event was about another object: {records[0].text}"
            return _answer(state, True, said, there[0].end_ns, there + records, total)
        if alike:
            there = evidence.records(alike[:1])
            said = f"{records[0].text}; a similar object was not seen to leave: {there[0].text}"
            return _answer(state, False, said, end_ns, records + there, total)
    return _answer(state, bool(begins), records[0].text, end_ns, records, total)


def _answer(
    state: StateQuestion,
    holds: bool,
    said: str,
    stamp_ns: int,
    records: tuple[RecallRecord, ...],
    total: int,
) -> Answer:
    """Return yes or no, or for "on or off?" the one that holds; `holds` is of `pair.yes`."""
    is_so = holds == state.wants
    word = state.choice[not holds] if state.choice else "yes" if is_so else "no"
    return Answer(
        STILL_THERE, True, f"{word}: last seen: {said}", float(is_so), stamp_ns, records, total
    )


def _last_seen(evidence: Evidence, state: StateQuestion) -> Answer:
    """Return that the state is not known, and what was last seen of its object."""
    words = evidence.question.words
    newest = evidence.newest()[:1]
    if not newest and not state.is_named and len(words) > 1:
        # "Is the soup hot?" names a state that is not known here.
        newest = Evidence.of(evidence.db, evidence.question, words=words[:-1]).newest()[:1]
    if not newest:
        return evidence.not_found()
    said = f"not known; last seen: {newest[0].text}"
    return Answer(STILL_THERE, False, said, 0.0, newest[0].end_ns, newest, 1)


def _others_present(evidence: Evidence, last: int) -> tuple[list[int], list[int]]:
    """Return the newest records of other objects that were not seen to leave.

    Args:
        evidence: the records that answer the question.
        last: a record; only its session counts, and its object is not included.

    Returns:
        Records of objects with the same words as that of `last`, and of objects with other words.
    """
    of_last = evidence.row(
        "SELECT session_id, thing_id, noun, words FROM record JOIN sighting ON record_id = id WHERE"
        " id = :last",
        last=last,
    )
    if of_last is None:
        return [], []
    session_id, object_id, *words = of_last
    there = {f"there{number}": change for number, change in enumerate(PRESENT_AFTER)}
    newest = (
        "SELECT sighting.*, end_ns, row_number() OVER (PARTITION BY thing_id ORDER BY end_ns DESC,"
        f" id DESC) AS place FROM ({evidence.select}) JOIN sighting ON record_id = id WHERE"
        " session_id = :session AND thing_id <> :thing"
    )
    rows = evidence.rows(
        f"SELECT record_id, noun, words FROM ({newest}) WHERE place = 1 AND change IN"
        f" ({', '.join(f':{name}' for name in there)}) ORDER BY end_ns DESC, record_id DESC",
        session=session_id,
        thing=object_id,
        **there,
    )
    return [row[0] for row in rows if list(row[1:]) == words], [
        row[0] for row in rows if row[1] == words[0] and row[2] != words[1]
    ]


_LINKED = ("present", "open", "on")
"""States for which events are linked to objects, so that several alike are told apart."""


def _state_of(evidence: Evidence) -> StateQuestion:
    state = evidence.question.state
    assert state is not None
    return state


def _changes(evidence: Evidence, wants: bool) -> str:
    """Return a SELECT of those of the records that begin or end a state.

    Args:
        evidence: the records that answer the question.
        wants: whether the positive state of the pair "begins"; else its opposite does.
    """
    matches = "id IN (SELECT rowid FROM record_text WHERE record_text MATCH :{})"
    listed = "id IN (SELECT value FROM json_each(:{}))"
    sure = f"NOT {listed.format('doubtful')}"
    yes = f"({listed.format('yes')} OR ({matches.format('yes_words')} AND {sure}))"
    no = f"({listed.format('no')} OR ({matches.format('no_words')} AND {sure}))"
    return (
        f"SELECT id, session_id, end_ns, {yes if wants else no} AS begins FROM ({evidence.select})"
        f" WHERE {yes} OR {no}"
    )


def _verbs(evidence: Evidence, state: StateQuestion) -> dict[str, str]:
    """Return the parameters of `_changes`.

    Words alone decide for most records. Where they say both sides, deny something, or stand apart
    from their verb, the sentence is read.
    """
    pair = state.pair
    yes, no = side_expression(pair.yes), side_expression(pair.no)
    doubts = [f"({yes} AND {no})", NEGATION_EXPRESSION]
    for side, other in ((pair.yes, no), (pair.no, yes)):
        if loose := loose_expression(side):
            doubts += [f"({loose} AND {other})", f"({loose} NOT ({yes} OR {no}))"]
    words = evidence.question.words
    about = " AND ".join(fts_expression(word) for word in words)
    rows = evidence.db.execute(
        "SELECT id, text FROM record WHERE id IN"
        " (SELECT rowid FROM record_text WHERE record_text MATCH :doubts)",
        {"doubts": f"{about} AND ({' OR '.join(doubts)})"},
    ).fetchall()
    read = [(number, state_after(text, words, pair)) for number, text in rows]
    return {
        # With the question's words, so that the index need not list every change of everything.
        "yes_words": f"{about} AND {yes}",
        "no_words": f"{about} AND {no}",
        "doubtful": json.dumps([number for number, _ in read]),
        "yes": json.dumps([number for number, value in read if value is True]),
        "no": json.dumps([number for number, value in read if value is False]),
    }
