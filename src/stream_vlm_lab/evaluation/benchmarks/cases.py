"""Runs a model online on benchmark items: one pass over each video, each question at its own time.

The published protocol of OVO-Bench is different: it shows the model every part of the video again
together with the question. A model that sees each frame only once scores lower, so scores of the
two protocols must not be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_vlm.run_records import TimedUtterance
from stream_vlm.sources.source import SourceError
from stream_vlm.sources.ticks import TickReader
from stream_vlm.sources.video import VideoSource
from stream_vlm.types import NANOSECONDS, Frame
from stream_vlm_lab.evaluation.benchmarks.files import StreamAnswer
from stream_vlm_lab.evaluation.benchmarks.ovo import COUNTING, GROUPS
from stream_vlm_lab.evaluation.online.online_pass import (
    ExaminedModel,
    StreamResult,
    TimedQuestion,
    run_stream,
)

OnItem = Callable[[], object]


@dataclass(frozen=True)
class Task:
    """One video with its questions.

    Attributes:
        id: id of the benchmark item.
        video: path of the video in the benchmark's folder.
        questions: the questions.
        until_s: where the pass ends, in seconds of the video; None for its end.
    """

    id: str
    video: str
    questions: Sequence[TimedQuestion]
    until_s: float | None = None


def find_video(folder: Path, video: str) -> Path:
    """Path of `video`: `folder` with its full path, or else `folder` with its file name."""
    return folder / video if (folder / video).is_file() else folder / Path(video).name


def run_task(
    task: Task, folder: Path, model: ExaminedModel, rate_hz: float
) -> tuple[StreamResult, str]:
    """Run the model once over the video of `task`.

    Returns:
        The result and a fault, "" for none. If the video cannot be read to its end, the result
        covers the part before.
    """
    result = StreamResult()
    fault = ""

    def frames() -> Iterator[Frame]:
        nonlocal fault
        try:
            for tick in TickReader(VideoSource(find_video(folder, task.video)).frames(), rate_hz):
                if task.until_s is not None and tick.stamp_ns > (task.until_s + 1e-6) * NANOSECONDS:
                    return
                yield from tick.frames
        except SourceError as error:
            fault = str(error)

    result = run_stream(model, frames(), task.questions, task.id)
    return result, fault


def answer_tasks(
    tasks: Iterable[Task],
    folder: Path,
    model: ExaminedModel,
    rate_hz: float,
    on_item: OnItem = lambda: None,
) -> list[StreamAnswer]:
    """Run the model on every task; returns everything it said and grounded."""
    answers = []
    for task in tasks:
        result, fault = run_task(task, folder, model, rate_hz)
        replies = [
            TimedUtterance(answer.t, answer.text) for answer in result.answers if answer.text
        ]
        faults = [
            *([fault] if fault else []),
            *(f"{count} x {reason}" for reason, count in result.faults.items()),
        ]
        said = sorted([*result.utterances, *replies], key=lambda utterance: utterance.t)
        answers.append(StreamAnswer(task.id, said, list(result.events), faults))
        on_item()
    return answers


def answer_ovo(
    items: Iterable[Mapping[str, Any]],
    folder: Path,
    model: ExaminedModel,
    rate_hz: float,
    on_item: OnItem = lambda: None,
) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Answer OVO-Bench items online.

    A question is asked one tick before its time, so that its frame is not later than the question.

    Returns:
        The rows in the form of the official answer files, and all faults.
    """
    document: dict[str, list[dict[str, Any]]] = {group: [] for group in GROUPS}
    faults: list[str] = []
    for item in items:
        points = item.get("test_info") or [item]
        times = [float(point["realtime"]) for point in points]
        questions = [
            TimedQuestion(max(0.0, t - 1 / rate_hz), ovo_question(item, point))
            for t, point in zip(times, points, strict=True)
        ]
        result, fault = run_task(
            Task(f"ovo-{item['id']}", str(item["video"]), questions, max(times)),
            folder,
            model,
            rate_hz,
        )
        faults += [
            f"item {item['id']}: {reason}"
            for reason in (*([fault] if fault else []), *result.faults)
        ]
        by_question = {id(answer.question): answer.text for answer in result.answers}
        responses = [by_question.get(id(question)) for question in questions]
        group = next(group for group, tasks in GROUPS.items() if item["task"] in tasks)
        document[group].append(_row(item, responses))
        on_item()
    return document, faults


def ovo_question(item: Mapping[str, Any], point: Mapping[str, Any]) -> str:
    """The question for one test point of `item`, in our own words."""
    if "options" in item:
        choices = "\n".join(
            f"{chr(ord('A') + place)}. {option}" for place, option in enumerate(item["options"])
        )
        return f"{item['question']}\n{choices}\nAnswer with the letter of the right option only."
    if item["task"] == COUNTING:
        return (
            f"How many times has {item['activity']} happened so far, by anybody? Answer with one"
            " number only."
        )
    if item["task"] == "SSR":
        return (
            f"Is somebody carrying out this step right now: {point['step']}? Answer with Yes or No"
            " only."
        )
    return (
        f"Can this be answered from what was seen so far: {item['question']} Answer with Yes or No"
        " only."
    )


def _row(item: Mapping[str, Any], responses: Sequence[str | None]) -> dict[str, Any]:
    if "test_info" not in item:
        kept = {name: item[name] for name in ("id", "video", "task", "question")}
        return {**kept, "response": responses[0], "ground_truth": chr(ord("A") + item["gt"])}
    points = [
        {**point, "response": response}
        for point, response in zip(item["test_info"], responses, strict=True)
    ]
    return {**item, "test_info": points}


def commentary_rows(
    answers: Iterable[StreamAnswer], lengths_s: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Convert answers whose ids are videos to the form of Inf-Streams-Eval's answer files."""
    rows = []
    for answer in answers:
        items = [
            {"response": said.text, "start_time": max(0.0, said.t - 1.0), "end_time": said.t}
            for said in answer.utterances
        ]
        rows.append(
            {
                "video": Path(answer.id).name,
                "chunk_start": 0,
                "chunk_end": int(lengths_s.get(answer.id, 0.0)),
                "items": items,
            }
        )
    return rows
