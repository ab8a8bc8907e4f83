"""Runs one benchmark: reads or makes the answers, scores them and returns the report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_vlm.sources.source import SourceError
from stream_vlm.sources.video import VideoSource
from stream_vlm.unicode_text import replace_file
from stream_vlm_lab.evaluation.benchmarks import inf_streams, ovo, streaming_eval, streamo_bench
from stream_vlm_lab.evaluation.benchmarks.cases import (
    OnItem,
    Task,
    answer_ovo,
    answer_tasks,
    commentary_rows,
    find_video,
)
from stream_vlm_lab.evaluation.benchmarks.files import (
    BenchmarkError,
    StreamAnswer,
    read_stream_answers,
)
from stream_vlm_lab.evaluation.benchmarks.judge import Judge, JudgeError
from stream_vlm_lab.evaluation.online.online_pass import ExaminedModel, TimedQuestion

ANSWERS_FILE = "answers.json"

OFFLINE = "answers from a file, scored as published"
ONLINE = "online: one pass over each video, each question at its own time"
NOT_THE_OFFICIAL = (
    "; OVO-Bench's official protocol is offline and gives higher scores, so the two must not be"
    " compared"
)


@dataclass(frozen=True)
class BenchmarkRequest:
    """Which benchmark to run.

    Attributes:
        benchmark: one of `NAMES`.
        data: the annotations of the benchmark.
        answers: a file of answers (for OVO-Bench also a folder); None to make them from `videos`.
        against: another model's answers, for comparisons.
        videos: folder of the videos.
        limit: most items to run (of each OVO-Bench task); 0 for all.
    """

    benchmark: str
    data: Path
    answers: Path | None = None
    against: Path | None = None
    videos: Path | None = None
    limit: int = 0


OpenModel = Callable[[], tuple[ExaminedModel, float]]
"""Loads the model and returns it with its tick rate in hertz.

It is called only if answers have to be made.
"""


def examine_benchmark(
    what: BenchmarkRequest,
    open_model: OpenModel,
    judge: Judge | None,
    out: Path,
    on_item: OnItem = lambda: None,
) -> dict[str, Any]:
    """Score a benchmark; if no answers are given, make them first.

    Answers that were made are written to `out`/answers.json in the benchmark's own form.

    Args:
        what: which benchmark to run.
        open_model: loads the model.
        judge: the judge, or None.
        out: folder for the answers.
        on_item: called after each item.

    Raises:
        BenchmarkError: data or answers have another form, or neither answers nor videos are given.
        JudgeError: the benchmark is a comparison and there is no judge.
    """
    if what.answers is None and (what.videos is None or not what.videos.is_dir()):
        raise BenchmarkError(
            f"{what.benchmark}: give either --answers FILE, or --videos FOLDER with the benchmark's"
            " videos to run the model on them"
        )
    head = {
        "benchmark": what.benchmark,
        "data": what.data.name,
        "protocol": OFFLINE if what.answers else ONLINE,
    }
    if what.benchmark == "ovo" and what.answers is None:
        head["protocol"] += NOT_THE_OFFICIAL
    score = {
        "ovo": _ovo,
        "streamo": _streamo,
        "inf-streams": _inf_streams,
        "streaming-eval": _streaming,
    }[what.benchmark]
    return head | score(what, open_model, judge, out, on_item)


def _ovo(
    what: BenchmarkRequest, open_model: OpenModel, judge: Judge | None, out: Path, on_item: OnItem
) -> dict[str, Any]:
    items: Mapping[int, Mapping[str, Any]] = ovo.read_items(what.data)
    faults: list[str] = []
    if what.answers is not None:
        rows = ovo.read_answers(what.answers)
    else:
        assert what.videos is not None
        items = _first_of_each_task(items, what.limit)
        document, faults = answer_ovo(items.values(), what.videos, *open_model(), on_item)
        _keep(out, document)
        rows = [row for group in document.values() for row in group]
    return ovo.score_answers(items, rows).as_dict() | {"watching_faults": faults}


def _first_of_each_task(
    items: Mapping[int, Mapping[str, Any]], limit: int
) -> dict[int, Mapping[str, Any]]:
    taken: Counter[str] = Counter()
    kept = {}
    for key, item in items.items():
        taken[item["task"]] += 1
        if not limit or taken[item["task"]] <= limit:
            kept[key] = item
    return kept


def _streamo(
    what: BenchmarkRequest, open_model: OpenModel, judge: Judge | None, out: Path, on_item: OnItem
) -> dict[str, Any]:
    items = streamo_bench.read_streamo_items(what.data)
    items = items[: what.limit or None] if what.answers is None else items
    tasks = [Task(item.id, item.video, item.questions) for item in items]
    answers = _answers(what, tasks, open_model, out, on_item)
    return streamo_bench.score_streamo(items, answers, _others(what), judge) | {
        "watching_faults": _faults(answers.values())
    }


def _streaming(
    what: BenchmarkRequest, open_model: OpenModel, judge: Judge | None, out: Path, on_item: OnItem
) -> dict[str, Any]:
    items = streaming_eval.read_streaming_items(what.data)
    items = items[: what.limit or None] if what.answers is None else items
    tasks = [Task(item.id, item.video, [item.question]) for item in items]
    answers = _answers(what, tasks, open_model, out, on_item)
    return streaming_eval.score_streaming(items, answers, _others(what), judge) | {
        "watching_faults": _faults(answers.values())
    }


def _inf_streams(
    what: BenchmarkRequest, open_model: OpenModel, judge: Judge | None, out: Path, on_item: OnItem
) -> dict[str, Any]:
    segments = inf_streams.read_segments(what.data)
    if what.answers is None:
        assert what.videos is not None
        videos = list(dict.fromkeys(segment.video for segment in segments))[: what.limit or None]
        segments = [segment for segment in segments if segment.video in videos]
        asked = [TimedQuestion(0.0, streaming_eval.NARRATE, kind="narration", is_watch=True)]
        made = answer_tasks(
            (Task(video, video, asked) for video in videos), what.videos, *open_model(), on_item
        )
        faults = _faults(made)
        rows = commentary_rows(made, {video: _length_s(what.videos, video) for video in videos})
        path = _keep(out, rows)
    else:
        path, faults = what.answers, []
    if judge is None or what.against is None:
        if what.answers is not None:
            raise JudgeError(
                "inf-streams compares two commentaries: give the other one with --against, and set"
                " a judge with STREAM_VLM_JUDGE_URL and _MODEL"
            )
        return {
            "segments": len(segments),
            "not_scored": "answers were written; to compare them, give --against and set a judge",
            "watching_faults": faults,
        }
    others = inf_streams.read_commentaries(what.against)
    score = inf_streams.score_commentaries(
        segments, inf_streams.read_commentaries(path), others, judge
    )
    return score | {"watching_faults": faults}


def _faults(answers: Iterable[StreamAnswer]) -> list[str]:
    return [f"item {answer.id}: {fault}" for answer in answers for fault in answer.faults]


def _length_s(folder: Path, video: str) -> float:
    try:
        return VideoSource(find_video(folder, video)).duration_s or 0.0
    except SourceError:
        # The run has reported this fault already; without a video nothing is covered.
        return 0.0


def _answers(
    what: BenchmarkRequest, tasks: Sequence[Task], open_model: OpenModel, out: Path, on_item: OnItem
) -> dict[str, StreamAnswer]:
    if what.answers is not None:
        return read_stream_answers(what.answers)
    assert what.videos is not None
    made = answer_tasks(tasks, what.videos, *open_model(), on_item)
    _keep(out, [answer.as_row() for answer in made])
    return {answer.id: answer for answer in made}


def _others(what: BenchmarkRequest) -> dict[str, StreamAnswer] | None:
    return read_stream_answers(what.against) if what.against is not None else None


def _keep(out: Path, rows: Any) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    path = out / ANSWERS_FILE
    replace_file(path, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    return path
