"""The records that answer a question, and the answer itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from stream_vlm.memory.answers.denial import NEGATION_EXPRESSION
from stream_vlm.memory.answers.question_kind import HOW_OFTEN, Question
from stream_vlm.memory.answers.state_reading import denies
from stream_vlm.memory.answers.watched_time import watched_time
from stream_vlm.memory.search.query import RecallRecord
from stream_vlm.memory.search.sql_filters import Filters, in_clause
from stream_vlm.memory.search.verb_forms import fts_expression
from stream_vlm.memory.search.word_search import read

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


@dataclass(frozen=True)
class Evidence:
    """The records that answer a question, as a SELECT for use inside one transaction.

    Attributes:
        db: a connection.
        question: what is asked.
        select: a SELECT of id, session_id, start_ns, end_ns and x of the records.
        values: the values of its parameters.
    """

    db: Database
    question: Question
    select: str
    values: dict[str, Any]

    @classmethod
    def of(
        cls, db: Database, question: Question, *, words: tuple[str, ...] | None = None
    ) -> Evidence:
        """Return the records that pass every filter and have every word.

        Args:
            db: a connection.
            question: what is asked.
            words: the words; None takes those of the question.
        """
        wanted = question.words if words is None else words
        filters = Filters.of(db, question.query)
        values = dict(filters.values)
        clauses = [in_clause("kind", question.query.kinds, values), filters.clauses]
        if wanted:
            clauses.append(
                "record.id IN (SELECT rowid FROM record_text WHERE record_text MATCH :words)"
            )
            values["words"] = " AND ".join(fts_expression(word) for word in wanted)
            if question.state is None:
                # "Nobody enters" and "the door does not open" are no events of that kind.
                clauses.append("record.id NOT IN (SELECT value FROM json_each(:denied))")
                values["denied"] = json.dumps(_denied(db, question, values["words"]))
        select = (
            f"SELECT record.id, session_id, start_ns, end_ns, x FROM {filters.source} WHERE"
            f" {' AND '.join(clauses)}"
        )
        return cls(db, question, select, values)

    def rows(self, sql: str, **more: Any) -> list[Any]:
        """Return the rows of `sql`, whose parameters are `values` and `more`."""
        return list(self.db.execute(sql, self.values | more).fetchall())

    def row(self, sql: str, **more: Any) -> Any:
        """Return the first row of `sql`, or None."""
        return self.db.execute(sql, self.values | more).fetchone()

    def records(self, numbers: list[int]) -> tuple[RecallRecord, ...]:
        """Return the records with these numbers, in this order."""
        return read(self.db, numbers, {})

    def newest(self) -> tuple[RecallRecord, ...]:
        """Return the newest of the records, `MAX_EVIDENCE` at most, newest first."""
        newest = f"SELECT id FROM ({self.select}) ORDER BY end_ns DESC, id DESC"
        return self.records([row[0] for row in self.rows(f"{newest} LIMIT {MAX_EVIDENCE}")])

    def not_found(self) -> Answer:
        """Return the answer where there is no record.

        It is "never" only if the memory knows every word and watched at that time.
        """
        question = self.question
        watched = watched_time(self.db, question.query)
        how_often = question.mode == HOW_OFTEN
        about = f" '{' '.join(question.words)}'" if question.words else ""
        if watched is None:
            cameras = f" by {', '.join(question.query.cameras)}" if question.query.cameras else ""
            said = f"not known: no record matches{about}, and nothing was watched then{cameras}"
            return Answer(question.mode, False, said)
        strange = [word for word in question.words if not self._is_in_memory(word)]
        if strange:
            said = f"no record of{about}: '{strange[0]}' is in no record"
        elif how_often or question.denies:
            never = "never" if watched.is_whole else "never while watching"
            said = f"{never}: no record matches{about}"
        else:
            said = f"not known: no record matches{about}"
        return Answer(question.mode, how_often, f"{said}; {watched}")

    def _is_in_memory(self, word: str) -> bool:
        return (
            self.db.execute(
                "SELECT 1 FROM record_text WHERE record_text MATCH ? LIMIT 1",
                [fts_expression(word)],
            ).fetchone()
            is not None
        )


def _denied(db: Database, question: Question, words: str) -> list[int]:
    """Return the records with all `words` (FTS5 expression) that deny what is asked for."""
    rows = db.execute(
        "SELECT id, text FROM record WHERE id IN"
        " (SELECT rowid FROM record_text WHERE record_text MATCH :denying)",
        {"denying": f"{words} AND {NEGATION_EXPRESSION}"},
    )
    return [
        number
        for number, text in rows.fetchall()
        if denies(text, question.words, about_anyone=question.about_anyone)
    ]
