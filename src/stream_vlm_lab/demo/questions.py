"""Asks the node's memory three questions by service call and checks the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stream_vlm_ros.msg import MemoryRecord
from stream_vlm_ros.srv import Recall

from stream_vlm.run_records import seconds_of_stream
from stream_vlm_lab.evaluation.scoring.matching import DEFAULT_TOLERANCE_S
from stream_vlm_lab.simulation.labels.ground_truth import RecallQuestion
from stream_vlm_lab.simulation.scene.captions import parse_label
from stream_vlm_ros.common.stamps import nanoseconds

Ask = Callable[[Recall.Request], list[MemoryRecord]]
NOTHING = "nothing remembered"


@dataclass(frozen=True)
class RecallAnswer:
    """A question and the memory's answer.

    Attributes:
        question: the question.
        answer: the answer as text.
        span: start and end of the evidence in seconds of stream time; None without an answer.
        right: whether the answer is correct; None if the truth is unknown.
    """

    question: str
    answer: str
    span: tuple[float, float] | None
    right: bool | None

    def as_report(self) -> dict[str, Any]:
        """The fields of report.json."""
        return {"question": self.question, "answer": self.answer, "right": self.right}


def ask_about_simulation(
    questions: Sequence[RecallQuestion], ask: Ask, first_ns: int
) -> list[RecallAnswer]:
    """Ask the newest, the middle and the oldest of `questions`, whose answers are known."""
    picked = sorted({0, len(questions) // 2, len(questions) - 1} & set(range(len(questions))))
    return [_ask_with_truth(questions[index], ask, first_ns) for index in picked]


def ask_about_footage(ask: Ask, first_ns: int) -> list[RecallAnswer]:
    """Ask what came first, last and most often; the correct answers are unknown."""
    events = ask(
        Recall.Request(kinds=[MemoryRecord.KIND_EVENT], order=Recall.Request.OLDEST, limit=1000)
    )
    often = Counter(record.text for record in events).most_common(1)
    answers = []
    for question, order in (
        ("what happened first?", Recall.Request.OLDEST),
        ("what happened last?", Recall.Request.NEWEST),
    ):
        answers.append(
            _to_answer(
                question,
                ask(Recall.Request(kinds=[MemoryRecord.KIND_EVENT], order=order, limit=1)),
                first_ns,
            )
        )
    question = "what happened most often, and when last?"
    if not often:
        return [*answers, RecallAnswer(question, NOTHING, None, None)]
    label, count = often[0]
    newest = _to_answer(
        question, [record for record in events if record.text == label][-1:], first_ns
    )
    return [
        *answers,
        RecallAnswer(question, f"{newest.answer} ({count} of {len(events)})", newest.span, None),
    ]


def is_right(question: RecallQuestion, label: str, t_end: float) -> bool:
    """Whether `label` names the right event and colour, and `t_end` is the end of that event."""
    true, said = parse_label(question.answer_label), parse_label(label)
    if true is None or said is None or abs(t_end - question.t_end) > DEFAULT_TOLERANCE_S:
        return False
    return said.agrees_with(true) and said.colour == true.colour


def _ask_with_truth(question: RecallQuestion, ask: Ask, first_ns: int) -> RecallAnswer:
    records = ask(
        Recall.Request(
            text=question.text, kinds=[MemoryRecord.KIND_EVENT], order=question.order, limit=1
        )
    )
    answer = _to_answer(question.question, records, first_ns)
    right = answer.span is not None and is_right(question, records[0].text, answer.span[1])
    return RecallAnswer(answer.question, answer.answer, answer.span, right)


def _to_answer(question: str, records: Sequence[MemoryRecord], first_ns: int) -> RecallAnswer:
    if not records:
        return RecallAnswer(question, NOTHING, None, None)
    record = records[0]
    span = (
        seconds_of_stream(nanoseconds(record.start), first_ns),
        seconds_of_stream(nanoseconds(record.end), first_ns),
    )
    return RecallAnswer(question, f"{record.text}, {span[0]:.1f} - {span[1]:.1f} s", span, None)
