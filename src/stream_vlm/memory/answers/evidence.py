"""The records that answer a question, and the answer itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from stream_vlm.memory.answers.question_kind import HOW_OFTEN, Question
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
    def of(cls, db: Database, question: Question, *, words: bool = True) -> Evidence:
        """Return the records that pass every filter and, with `words`, have every word."""
        filters = Filters.of(db, question.query)
        values = dict(filters.values)
        clauses = [in_clause("kind", question.query.kinds, values), filters.clauses]
        if words and question.words:
            clauses.append(
                "record.id IN (SELECT rowid FROM record_text WHERE record_text MATCH :words)"
            )
            values["words"] = " AND ".join(fts_expression(word) for word in question.words)
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
        """Return the answer where there is no record."""
        about = f" '{' '.join(self.question.words)}'" if self.question.words else ""
        known = self.question.mode == HOW_OFTEN
        said = "never" if known else "not known"
        return Answer(self.question.mode, known, f"{said}: no record matches{about}")
