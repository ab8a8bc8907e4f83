"""Answers about states: how long something was present, open or on, and whether it still is.

A state runs from the end of an event that begins it to the end of the next event that ends it.
"""

from __future__ import annotations

from stream_vlm.memory.answers.evidence import Answer, Evidence
from stream_vlm.memory.answers.object_links import PRESENT_AFTER
from stream_vlm.memory.answers.question_kind import HOW_LONG, STILL_THERE
from stream_vlm.memory.answers.state_verbs import BEGINS, ENDS, match_any
from stream_vlm.types import NANOSECONDS


def how_long(evidence: Evidence) -> Answer:
    """Return for how many seconds the state lasted; see `computed_answer.answer`."""
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
        f" before_ns, lead(end_ns) OVER in_session AS next_ns FROM ({_changes(evidence)}) JOIN"
        f" ({seen}) USING (session_id) WINDOW in_session AS (PARTITION BY session_id ORDER BY"
        " end_ns, id)"
    )
    lasting = (
        "CASE WHEN begins THEN max(0, min(ifnull(next_ns, until_ns), until_ns) - end_ns)"
        " WHEN before_ns IS NULL THEN max(0, end_ns - since_ns) ELSE 0 END"
    )
    lasted, began = evidence.row(
        f"SELECT sum({lasting}), count(*) FROM ({neighbours})",
        earliest=evidence.question.query.start_ns,
        latest=evidence.question.query.end_ns,
        **_verbs(evidence),
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
    """Return whether the last change began the state; see `computed_answer.answer`."""
    last = (
        f"SELECT id, begins, end_ns, count(*) OVER () FROM ({_changes(evidence)}) ORDER BY end_ns"
        " DESC, id DESC LIMIT 1"
    )
    row = evidence.row(last, **_verbs(evidence))
    if row is None:
        return evidence.not_found()
    number, begins, end_ns, total = row
    records = evidence.records([number])
    said = f"{'yes' if begins else 'no'}: last seen: {records[0].text}"
    if begins:
        return Answer(STILL_THERE, True, said, 1.0, end_ns, records, total)
    alike, others = _others_present(evidence, number)
    if others:
        there = evidence.records(others[:1])
        said = (
            f"yes: last seen: {there[0].text}; a later event was about another object:"
            f" {records[0].text}"
        )
        return Answer(STILL_THERE, True, said, 1.0, there[0].end_ns, there + records, total)
    if alike:
        there = evidence.records(alike[:1])
        said += f"; a similar object was not seen to leave: {there[0].text}"
        return Answer(STILL_THERE, True, said, 0.0, end_ns, records + there, total)
    return Answer(STILL_THERE, True, said, 0.0, end_ns, records, total)


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
        row[0] for row in rows if list(row[1:]) != words
    ]


def _changes(evidence: Evidence) -> str:
    """Return a SELECT of those of the records that begin or end a state.

    A record that does both ("takes the cup and puts it down") counts as a beginning.
    """
    begins = "id IN (SELECT rowid FROM record_text WHERE record_text MATCH :begins)"
    ends = "id IN (SELECT rowid FROM record_text WHERE record_text MATCH :ends)"
    return (
        f"SELECT id, session_id, end_ns, {begins} AS begins FROM ({evidence.select})"
        f" WHERE {begins} OR {ends}"
    )


def _verbs(evidence: Evidence) -> dict[str, str]:
    """Return full-text queries for the records that begin, and that end, a state.

    They have the question's words too, so that the index need not list every change of everything.
    """
    about = f"({evidence.values['words']}) AND " if "words" in evidence.values else ""
    return {"begins": f"{about}({match_any(BEGINS)})", "ends": f"{about}({match_any(ENDS)})"}
