"""What bears on a question: an answer computed from the records, and the records nearest to it by
words, meaning and recency.

It is read by whoever takes the question in, with a reading connection, before the question is on
its way to the model.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from typing import Protocol

from stream_vlm.config.settings import Settings
from stream_vlm.memory.answers.computed_answer import Answer
from stream_vlm.memory.answers.question_kind import BETWEEN, HOW_OFTEN, Question
from stream_vlm.memory.search.query import (
    DEFAULT_KINDS,
    FUSED,
    MAX_LIMIT,
    NEWEST,
    RELEVANCE,
    RecallError,
    RecallQuery,
    RecallRecord,
    RecallResult,
)
from stream_vlm.memory.storage.step_rows import EVENT, SUMMARY, UTTERANCE
from stream_vlm.time_words import age, moment
from stream_vlm.types import RecalledContext, RecalledLine, StreamError

KINDS = (EVENT, UTTERANCE)
"""What is recalled for a question.

Earlier answers are not: without their questions they say nothing, and a wrong one would be
believed.
"""

MAX_SUMMARIES = 5
"""Summaries come after everything else: they are long, and say less of each thing, but may be all
that is left of what was long ago.
"""

TOKENS_PER_LINE = 12
"""No line of a prompt is much shorter: so many records are read as could fit."""

MAX_EVENTS = 10
"""Happenings that are told to who asks what happened and not when."""

_PAST = re.compile(
    r"\b(did|was|were|had|been|ever|ago|yesterday|earlier|before|after|since|last|often|happened|saw|seen|came|went|noticed)\b"
    r"|\bhow (long|many times)\b|^\W*(when|has|have)\b",
    re.IGNORECASE,
)

_log = logging.getLogger(__name__)


def is_about_the_past(text: str) -> bool:
    """Whether a question is for the memory: told by a past tense, a word that looks back ("last",
    "ago", "ever", "before"), "how long", "how often", or "when" at its beginning. Any other ("is
    the door open?", "what colour is it?", "is it still there?") is about what can be seen now.
    """
    return _PAST.search(text) is not None


class AskableMemory(Protocol):
    """The part of a memory that is asked here, whether the file is open for writing or not."""

    def recall(self, query: RecallQuery) -> RecallResult:
        """See `ReadableMemory.recall`."""
        ...

    def answer(self, question: Question) -> Answer:
        """See `ReadableMemory.answer`."""
        ...


@dataclass(frozen=True)
class PromptRecall:
    """What was found.

    Attributes:
        answer: computed from the records, where the question is of a kind that can be computed
            (`question.MODES`), else None.
        records: what bears on the question, best first; what the answer rests on comes before what
            is only near.
        has_match: whether any record has a word of the question, or the answer is known.
        was_asked: False where the memory could not be asked.
    """

    answer: Answer | None = None
    records: tuple[RecallRecord, ...] = ()
    has_match: bool = False
    was_asked: bool = False

    @property
    def is_known(self) -> bool:
        """Whether the answer is computed and known."""
        return self.answer is not None and self.answer.known

    def sentence(self, now_ns: int) -> str:
        """The computed answer, with when that was and how long before `now_ns` (ns); or that it is
        not known.
        """
        if self.answer is None or not self.answer.known:
            near = (
                next((record.text for record in self.records if record.text), "")
                if self.has_match
                else ""
            )
            return (
                f"I do not know; the nearest that is remembered: '{near}'"
                if near
                else "I do not know: nothing remembered bears on it"
            )
        if not self.answer.stamp_ns or not self.answer.records or self.answer.mode == BETWEEN:
            return self.answer.text
        old = age(self.answer.stamp_ns, now_ns)
        since = ", last at" if self.answer.mode == HOW_OFTEN else ", at"
        return (
            f"{self.answer.text}{since} {moment(self.answer.stamp_ns)}{f' ({old})' if old else ''}"
        )

    def context(self, now_ns: int) -> RecalledContext:
        """The same for a prompt, asked at `now_ns` (ns)."""
        # What happened in a time is the records themselves.
        computed = (
            self.sentence(now_ns)
            if self.answer is not None and self.answer.known and self.answer.mode != BETWEEN
            else ""
        )
        return RecalledContext(
            computed,
            tuple(
                RecalledLine(one.start_ns, one.end_ns, one.text) for one in self.records if one.text
            ),
        )


def recall_for_prompt(memory: AskableMemory, query: RecallQuery, number: int) -> PromptRecall:
    """What bears on the question that `query` asks with its words, within its filters; `number`
    records at most. Its order and limit are not used.

    Raises:
        MemoryFileError: the file cannot be read.
    """
    kinds = KINDS if query.kinds == DEFAULT_KINDS else query.kinds
    answer = _computed(memory, query)
    # Twice as many, because events and the utterances that report them come in pairs.
    near = replace(
        query, kinds=kinds, order=FUSED if query.words else NEWEST, limit=min(2 * number, MAX_LIMIT)
    )
    rests_on = answer.records if answer is not None and answer.known else ()
    if answer is not None and answer.mode == BETWEEN:
        rests_on = rests_on[::-1]
    found = _distinct((*rests_on, *memory.recall(near).records))[:number]
    if query.words and kinds == KINDS:
        kinds = (*KINDS, SUMMARY)
        found += memory.recall(replace(near, kinds=(SUMMARY,), limit=MAX_SUMMARIES)).records
    has_match = (
        bool(query.words)
        and memory.recall(replace(near, kinds=kinds, order=RELEVANCE, limit=1)).total > 0
    )
    return PromptRecall(
        answer, found, has_match or (answer is not None and answer.known), was_asked=True
    )


def _computed(memory: AskableMemory, query: RecallQuery) -> Answer | None:
    try:
        question = Question(query)
    except RecallError:
        # Of no kind that can be computed.
        return None
    if question.mode == BETWEEN and query.start_ns is None and query.end_ns is None:
        # "What happened?" at no named time asks for the newest, not for the beginning of
        # everything.
        newest = memory.recall(replace(question.query, order=NEWEST, limit=MAX_EVENTS)).records
        if newest:
            question = Question(
                replace(question.query, start_ns=min(record.start_ns for record in newest))
            )
    return memory.answer(question)


def _distinct(records: tuple[RecallRecord, ...]) -> tuple[RecallRecord, ...]:
    """`records` without repetitions: an event and the utterance that reports it are one happening;
    the event stands for both, with its span.
    """
    kept: dict[tuple[str, str] | int, RecallRecord] = {}
    for record in records:
        happening = (record.session_id, record.event_id) if record.event_id else record.record_id
        if happening not in kept or (record.kind == EVENT and kept[happening].kind != EVENT):
            kept[happening] = record
    return tuple(kept.values())


def max_records(tokens: int) -> int:
    """How many records are read for a prompt with room for so many `tokens`."""
    return max(20, min(MAX_LIMIT, tokens // TOKENS_PER_LINE))


class PromptRecaller:
    """Recalls for questions and watches as the settings say. Any thread may ask but the model's."""

    def __init__(self, memory: AskableMemory, settings: Settings) -> None:
        self._memory = memory
        self._number = max_records(settings.context.memory_tokens)
        self._in_prompt = settings.memory.in_prompt

    def recall(self, text: str, camera: str = "") -> PromptRecall:
        """What bears on the question `text`, seen by `camera` or, without one, by any; nothing, and
        a warning, where the memory cannot be asked.
        """
        try:
            return recall_for_prompt(
                self._memory, RecallQuery(text, cameras=(camera,) if camera else ()), self._number
            )
        except StreamError as error:
            # The model can answer without its memory.
            _log.warning("nothing is recalled for '%s': %s", text[:80], error)
            return PromptRecall()

    def context(self, recalled: PromptRecall, now_ns: int) -> RecalledContext:
        """What of `recalled` goes to the model with a question asked at `now_ns` (ns): nothing
        unless `memory.in_prompt` is recall.
        """
        return recalled.context(now_ns) if self._in_prompt == "recall" else RecalledContext()
