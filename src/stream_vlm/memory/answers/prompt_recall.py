"""Recall for a question: an answer computed from the records, and the most relevant records.

It is read with a read connection before the question goes to the model.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from typing import Protocol

from stream_vlm.config.settings import Settings
from stream_vlm.memory.answers.evidence import Answer
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
from stream_vlm.memory.storage.step_rows import CAPTION, EVENT, SUMMARY, UTTERANCE
from stream_vlm.time_words import age, moment
from stream_vlm.types import RecalledContext, RecalledLine, StreamError

KINDS = (EVENT, UTTERANCE)
"""What is recalled for a question.

Earlier answers are not: without their questions they say nothing, and the model would trust a wrong
one.
"""

MAX_CAPTIONS = 10
"""Captions come after events: they say what could be seen, not what happened."""

MAX_SUMMARIES = 5
"""Summaries come last. They are long and less precise, but of old events only they may remain."""

TOKENS_PER_LINE = 12
"""Few lines of a prompt are shorter; so many records are read as could fit."""

MAX_EVENTS = 10
"""Events that are recalled for a question that asks what happened but not when."""

_PAST = re.compile(
    r"\b(did|was|were|had|been|ever|ago|yesterday|earlier|before|after|since|last|often"
    r"|happened|saw|seen|came|went|noticed)\b"
    r"|\bhow (long|many times)\b|^\W*(when|has|have)\b",
    re.IGNORECASE,
)

_log = logging.getLogger(__name__)


def is_about_the_past(text: str) -> bool:
    """Return whether a question is for the memory.

    It is if it has a past tense, a word such as "last", "ago", "ever" or "before", "how long" or
    "how often", or begins with "when". All others ("is the door open?", "what colour is it?", "is
    it still there?") are about what can be seen now.
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
    """What was found for a question.

    Attributes:
        answer: computed from the records if the question is of a kind that can be computed
            (`question_kind.MODES`), else None.
        records: the relevant records, best first; those that the answer is based on come first.
        has_match: whether any record has a word of the question, or the answer is known.
        was_asked: False if the memory could not be read.
    """

    answer: Answer | None = None
    records: tuple[RecallRecord, ...] = ()
    has_match: bool = False
    was_asked: bool = False

    @property
    def is_known(self) -> bool:
        """Whether an answer was computed and is known."""
        return self.answer is not None and self.answer.known

    def sentence(self, now_ns: int) -> str:
        """Return the computed answer, or that it is not known.

        A known answer gets its time, and its age at `now_ns` (ns).
        """
        if self.answer is None or not self.answer.known:
            near = (
                next((record.text for record in self.records if record.text), "")
                if self.has_match
                else ""
            )
            return (
                f"I do not know; the closest record is: '{near}'"
                if near
                else "I do not know: the memory has no record of it"
            )
        if not self.answer.stamp_ns or not self.answer.records or self.answer.mode == BETWEEN:
            return self.answer.text
        old = age(self.answer.stamp_ns, now_ns)
        since = ", last at" if self.answer.mode == HOW_OFTEN else ", at"
        return (
            f"{self.answer.text}{since} {moment(self.answer.stamp_ns)}{f' ({old})' if old else ''}"
        )

    def context(self, now_ns: int) -> RecalledContext:
        """Return the same for a prompt of a question asked at `now_ns` (ns)."""
        # The answer to "between" is the list of records itself.
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
    """Find what answers the words of `query` within its filters; its order and limit are ignored.

    Args:
        memory: the memory to read.
        query: the question and its filters.
        number: at most so many records, `MAX_CAPTIONS` captions and `MAX_SUMMARIES` summaries.

    Raises:
        MemoryFileError: the file cannot be read.
    """
    kinds = KINDS if query.kinds == DEFAULT_KINDS else query.kinds
    answer = _computed(memory, query)
    # Twice as many, because most events come with the utterance that reports them.
    near = replace(
        query, kinds=kinds, order=FUSED if query.words else NEWEST, limit=min(2 * number, MAX_LIMIT)
    )
    rests_on = answer.records if answer is not None and answer.known else ()
    if answer is not None and answer.mode == BETWEEN:
        rests_on = rests_on[::-1]
    found = _distinct((*rests_on, *memory.recall(near).records))[:number]
    if query.words and kinds == KINDS:
        kinds = (*KINDS, CAPTION, SUMMARY)
        for kind, most in ((CAPTION, MAX_CAPTIONS), (SUMMARY, MAX_SUMMARIES)):
            found += memory.recall(replace(near, kinds=(kind,), limit=most)).records
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
        # A question of another kind.
        return None
    if question.mode == BETWEEN and query.start_ns is None and query.end_ns is None:
        # "What happened?" without a time asks for the newest events, not for the first ones.
        newest = memory.recall(replace(question.query, order=NEWEST, limit=MAX_EVENTS)).records
        if newest:
            question = Question(
                replace(question.query, start_ns=min(record.start_ns for record in newest))
            )
    return memory.answer(question)


def _distinct(records: tuple[RecallRecord, ...]) -> tuple[RecallRecord, ...]:
    """Return `records` without the utterances that report an event among them."""
    kept: dict[tuple[str, str] | int, RecallRecord] = {}
    for record in records:
        key = (record.session_id, record.event_id) if record.event_id else record.record_id
        if key not in kept or (record.kind == EVENT and kept[key].kind != EVENT):
            kept[key] = record
    return tuple(kept.values())


def max_records(tokens: int) -> int:
    """Return how many records are read for a prompt with room for `tokens`."""
    return max(20, min(MAX_LIMIT, tokens // TOKENS_PER_LINE))


class PromptRecaller:
    """Recalls for questions and watches as the settings say.

    Any thread may use it, except the model's, which must not wait for the file.
    """

    def __init__(self, memory: AskableMemory, settings: Settings) -> None:
        self._memory = memory
        self._number = max_records(settings.context.memory_tokens)
        self._in_prompt = settings.memory.in_prompt

    def recall(self, text: str | RecallQuery, camera: str = "") -> PromptRecall:
        """Return what is recalled for the question `text`.

        If the memory cannot be read, log a warning and return an empty result.

        Args:
            text: the question, with its time range if it is a query.
            camera: only what this camera saw; empty means all.
        """
        try:
            query = RecallQuery(text) if isinstance(text, str) else text
            if camera:
                query = replace(query, cameras=(camera,))
            return recall_for_prompt(self._memory, query, self._number)
        except StreamError as error:
            # The model can answer without the memory.
            words = text if isinstance(text, str) else text.text
            _log.warning("the memory cannot be searched for '%s': %s", words[:80], error)
            return PromptRecall()

    def context(self, recalled: PromptRecall, now_ns: int) -> RecalledContext:
        """Return what the model reads of `recalled` with a question asked at `now_ns` (ns).

        It is empty unless `memory.in_prompt` is recall.
        """
        return recalled.context(now_ns) if self._in_prompt == "recall" else RecalledContext()
