"""The three recall questions of the demo, put to the memory by service call, and whether the
answers are right.
"""

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
from stream_vlm_ros.common.conversions import nanoseconds

Ask = Callable[[Recall.Request], list[MemoryRecord]]
NOTHING = "nothing remembered"


@dataclass(frozen=True)
class Answered:
    """A question, the memory's answer with its evidence span in seconds of stream, and whether it
    is right (None: nobody knows).
    """

    question: str
    answer: str
    span: tuple[float, float] | None
    right: bool | None

    def as_report(self) -> dict[str, Any]:
        """The fields of report.json."""
        return {"question": self.question, "answer": self.answer, "right": self.right}


def ask_about_world(questions: Sequence[RecallQuestion], ask: Ask, first_ns: int) -> list[Answered]:
    """Ask three questions spread over a simulated stream, whose truth is known: the newest, the
    middle and the oldest of `questions`.
    """
    picked = sorted({0, len(questions) // 2, len(questions) - 1} & set(range(len(questions))))
    return [_about_truth(questions[index], ask, first_ns) for index in picked]


def ask_about_footage(ask: Ask, first_ns: int) -> list[Answered]:
    """Ask what came first, what came last and what came most often: answers that nobody here can
    judge.
    """
    events = ask(Recall.Request(kinds=["event"], order=Recall.Request.OLDEST, limit=1000))
    often = Counter(record.text for record in events).most_common(1)
    answered = []
    for question, order in (
        ("what happened first?", Recall.Request.OLDEST),
        ("what happened last?", Recall.Request.NEWEST),
    ):
        answered.append(
            _answered(
                question, ask(Recall.Request(kinds=["event"], order=order, limit=1)), first_ns
            )
        )
    question = "what happened most often, and when last?"
    if not often:
        return [*answered, Answered(question, NOTHING, None, None)]
    label, count = often[0]
    newest = _answered(
        question, [record for record in events if record.text == label][-1:], first_ns
    )
    return [
        *answered,
        Answered(question, f"{newest.answer} ({count} of {len(events)})", newest.span, None),
    ]


def is_right(question: RecallQuestion, label: str, t_end: float) -> bool:
    """True when `label` names the right happening, colour included, and its evidence ends when the
    asked event really ended.
    """
    true, said = parse_label(question.answer_label), parse_label(label)
    if true is None or said is None or abs(t_end - question.t_end) > DEFAULT_TOLERANCE_S:
        return False
    return said.agrees_with(true) and said.colour == true.colour


def _about_truth(question: RecallQuestion, ask: Ask, first_ns: int) -> Answered:
    records = ask(
        Recall.Request(text=question.text, kinds=["event"], order=question.order, limit=1)
    )
    answered = _answered(question.question, records, first_ns)
    right = answered.span is not None and is_right(question, records[0].text, answered.span[1])
    return Answered(answered.question, answered.answer, answered.span, right)


def _answered(question: str, records: Sequence[MemoryRecord], first_ns: int) -> Answered:
    if not records:
        return Answered(question, NOTHING, None, None)
    record = records[0]
    span = (
        seconds_of_stream(nanoseconds(record.start), first_ns),
        seconds_of_stream(nanoseconds(record.end), first_ns),
    )
    return Answered(question, f"{record.text}, {span[0]:.1f} - {span[1]:.1f} s", span, None)
