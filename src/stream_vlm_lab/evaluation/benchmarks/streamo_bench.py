"""Streamo-Bench (arXiv 2512.21334): grounding, captions and answers in time.

Its scorer was not published; this one follows the paper. Items are rows of Streamo's raw form; the
id of an item is its `id`, or its number in the file.

Grounding is the IoU of one span. It is forward if the question comes before the event is over, and
backward if it comes after. Forward, the first event reported after the question counts; backward,
the two times that the answer names. The true span is the span of the annotated answer, or, if that
has only a time, the span that its words name. If the event never comes, silence is right.

A time-sensitive answer is right if its content is right and it is within 3 s. A judge compares
captions and narrations with another model's, in both orders. The average is over the scores that
could be computed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_vlm.run_records import TimedUtterance
from stream_vlm_lab.evaluation.benchmarks.files import BenchmarkError, StreamAnswer, read_rows
from stream_vlm_lab.evaluation.benchmarks.judge import FAILED, Judge, Votes, judge_all
from stream_vlm_lab.evaluation.online.online_pass import TimedQuestion
from stream_vlm_lab.evaluation.scoring.matching import Span, iou
from stream_vlm_lab.evaluation.scoring.scores import is_right_answer
from stream_vlm_lab.training.data.sample import RowRefused
from stream_vlm_lab.training.data.streamo import task_of
from stream_vlm_lab.training.data.times import seconds

HIT_S = 3.0
"""Largest difference in seconds between a time-sensitive answer and the time it is due."""
COMPARED = ("narration", "event caption", "action caption")


@dataclass(frozen=True)
class Due:
    """One right answer; times in seconds of the video.

    Attributes:
        text: the answer.
        span: the span it is about.
        at: when it is due.
    """

    text: str
    span: Span
    at: float


@dataclass(frozen=True)
class StreamoItem:
    """One item of the benchmark.

    Attributes:
        id: id of the item.
        task: "grounding", "event caption", "action caption", "narration", "time-sensitive qa" or
            "qa".
        video: path of the video.
        questions: the questions.
        due: the right answers.
    """

    id: str
    task: str
    video: str
    questions: tuple[TimedQuestion, ...]
    due: tuple[Due, ...]

    @property
    def asked_at(self) -> float:
        """Time of the first question in seconds of the video."""
        return min((question.t for question in self.questions), default=0.0)

    @property
    def is_backward(self) -> bool:
        """Whether the question comes after the event is over."""
        return bool(self.due) and self.asked_at >= self.due[0].span[1]


def read_streamo_items(path: Path) -> list[StreamoItem]:
    """Read the items of a file in Streamo's raw form.

    Raises:
        BenchmarkError: a row has another form.
    """
    return [_item(path, number, row) for number, row in enumerate(read_rows(path), start=1)]


def _item(path: Path, number: int, row: Any) -> StreamoItem:
    try:
        task = task_of(row["task_type"])
        questions = [
            TimedQuestion(
                max(0.0, (seconds(asked.get("time")) or 0.0) - 1.0), str(asked["content"])
            )
            for asked in row["question"]
        ]
        due = []
        for answer in row["response"]:
            start, end, at = (seconds(answer.get(name)) for name in ("st_time", "end_time", "time"))
            when = at if at is not None else end
            if when is None:
                raise ValueError("an answer has neither a time nor a span")
            words = str(answer["content"])
            named = (
                named_span(words) if task == "grounding" and start is None and end is None else None
            )
            due.append(
                Due(
                    words,
                    named or (when if start is None else start, when if end is None else end),
                    when,
                )
            )
        video = str(row.get("video_path") or row["video_name"])
    except (KeyError, TypeError, AttributeError, ValueError, RowRefused) as error:
        raise BenchmarkError(
            f"{path}, row {number}: is not an item in Streamo's raw form ({type(error).__name__}:"
            f" {error})"
        ) from error
    kind = "qa" if task == "qa" or _is_backward(questions, due) else task
    asked = tuple(
        TimedQuestion(question.t, question.text, kind=task, is_watch=kind != "qa")
        for question in questions
    )
    return StreamoItem(str(row.get("id", number)), task, video, asked, tuple(due))


def _is_backward(questions: Sequence[TimedQuestion], due: Sequence[Due]) -> bool:
    return bool(questions and due) and min(question.t for question in questions) >= due[0].span[1]


def score_streamo(
    items: Sequence[StreamoItem],
    answers: Mapping[str, StreamAnswer],
    others: Mapping[str, StreamAnswer] | None,
    judge: Judge | None,
) -> dict[str, Any]:
    """Compute all scores as plain values for JSON; an item without an answer scores 0.

    Args:
        items: the items.
        answers: the answers by item id.
        others: another model's answers for the comparison of captions. Without them, or without a
            judge, captions are not scored, and the result says so.
        judge: compares captions and decides whether the content of an answer is right. Without one
            the words must be the same.
    """
    report: dict[str, Any] = {
        "items": len(items),
        "without_answer": sorted(item.id for item in items if item.id not in answers),
    }
    for name, backward in (("grounding_forward", False), ("grounding_backward", True)):
        spans = [
            _grounding(item, answers.get(item.id))
            for item in items
            if item.task == "grounding" and item.is_backward == backward
        ]
        report[name] = {"items": len(spans), "miou": sum(spans) / len(spans) if spans else None}
    judged = [item for item in items if item.task in ("time-sensitive qa", "qa")]
    hits = judge_all(judged, lambda item: _hits(item, answers.get(item.id), _content_check(judge)))
    for task in ("time-sensitive qa", "qa"):
        counts = [found for item, found in zip(judged, hits, strict=True) if item.task == task]
        due = sum(len(item.due) for item in judged if item.task == task)
        report[task.replace(" ", "_").replace("-", "_")] = {
            "due": due,
            "hits": sum(counts),
            "accuracy": sum(counts) / due if due else None,
        }
    compared = [item for item in items if item.task in COMPARED]
    report["captions"] = _captions(compared, answers, others, judge)
    report["content_judged_by"] = judge.model if judge else "equal words"
    report["failed_judgements"] = len(judge.failures) if judge else 0
    measures = [
        report["grounding_forward"]["miou"],
        report["grounding_backward"]["miou"],
        report["captions"]["win_rate"],
    ]
    known = [
        measure
        for measure in (*measures, report["time_sensitive_qa"]["accuracy"])
        if measure is not None
    ]
    report["average"] = sum(known) / len(known) if known else None
    return report


def _grounding(item: StreamoItem, answer: StreamAnswer | None) -> float:
    if answer is None:
        return 0.0
    reported = [event for event in answer.events if event.t_end >= item.asked_at]
    if not item.due:
        return (
            0.0 if reported or any(said.t >= item.asked_at for said in answer.utterances) else 1.0
        )
    if not item.is_backward and reported:
        return iou((reported[0].t_start, reported[0].t_end), item.due[0].span)
    named = next(
        (
            span
            for said in answer.utterances
            if said.t >= item.asked_at and (span := named_span(said.text))
        ),
        None,
    )
    return iou(named, item.due[0].span) if named else 0.0


def named_span(text: str) -> Span | None:
    """The first two times that `text` names, in seconds; None if it names fewer.

    Examples: "from 3 s to 8.5 s", "00:03 - 00:08".
    """
    found = re.findall(r"\d+(?::\d+){1,2}(?:\.\d+)?|\d+(?:\.\d+)?", text)
    times = [value for part in found[:2] if (value := seconds(part)) is not None]
    return (min(times), max(times)) if len(times) == 2 else None


IsRight = Callable[[str, str, str], bool]


def _content_check(judge: Judge | None) -> IsRight:
    if judge is not None:
        return judge.is_right
    return lambda question, answer, said: is_right_answer(said, answer)


def _hits(item: StreamoItem, answer: StreamAnswer | None, is_right: IsRight) -> int:
    """Count the right answers: within 3 s, or for questions about the past at any time after them.

    Each answer counts once.
    """
    if answer is None:
        return 0
    spare = [said for said in answer.utterances if said.t >= item.asked_at]
    question = " ".join(asked.text for asked in item.questions)
    hits = 0
    for due in item.due:
        near = [said for said in spare if item.task == "qa" or abs(said.t - due.at) <= HIT_S]
        right: TimedUtterance | None = next(
            (said for said in near if is_right(question, due.text, said.text)), None
        )
        if right is not None:
            spare.remove(right)
            hits += 1
    return hits


def _captions(
    items: Sequence[StreamoItem],
    answers: Mapping[str, StreamAnswer],
    others: Mapping[str, StreamAnswer] | None,
    judge: Judge | None,
) -> dict[str, Any]:
    if judge is None or others is None or not items:
        why = (
            "no such items"
            if not items
            else (
                "needs a judge (STREAM_VLM_JUDGE_URL, _MODEL) and another model's answers"
                " (--against)"
            )
        )
        return {"items": len(items), "win_rate": None, "not_scored": why}

    def vote(item: StreamoItem) -> Votes:
        if item.id not in answers:
            return Votes(FAILED, FAILED)
        reference = "\n".join(f"{due.span[0]:g}-{due.span[1]:g} s: {due.text}" for due in item.due)
        return judge.compare(
            reference, _watch_results(answers.get(item.id)), _watch_results(others.get(item.id))
        )

    won = [votes.won for votes in judge_all(items, vote)]
    by_task = {
        task: [count for item, count in zip(items, won, strict=True) if item.task == task]
        for task in COMPARED
    }
    rates = {task: sum(counts) / (2 * len(counts)) for task, counts in by_task.items() if counts}
    return {"items": len(items), "win_rate": sum(won) / (2 * len(won)), "win_rate_by_task": rates}


def _watch_results(answer: StreamAnswer | None) -> str:
    return "\n".join(f"{said.t:g} s: {said.text}" for said in answer.utterances) if answer else ""
