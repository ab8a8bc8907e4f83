"""Reads and writes Streamo's raw annotations (arXiv 2512.21334).

A row is `{video_name, video_path, task_type, source, question: [{content, time}], response:
[{content, st_time, end_time, time}]}`. An answer with `st_time` and `end_time` is standby from the
turn that ends at `st_time` to the turn that ends at `end_time`, and a response in the next turn. An
answer with `time` is a response in that turn.

Differences from the published converter: it accepts rows with an answer due after the last frame,
two answers in one turn, times beyond the video, or answers without words; here such rows are
refused. There, the standby of a later answer may overwrite an earlier response; here the response
is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stream_vlm.types import State
from stream_vlm_lab.training.data.rows import read_file
from stream_vlm_lab.training.data.sample import (
    ReadResult,
    RefusalReason,
    RowRefused,
    SampleTurn,
    StreamSample,
    VideoFolder,
)
from stream_vlm_lab.training.data.times import seconds, turn_of

TASKS = {
    "qa": "qa",
    "offlineqa": "qa",
    "timesensitiveqa": "time-sensitive qa",
    "tsqa": "time-sensitive qa",
    "narration": "narration",
    "realtimenarration": "narration",
    "eventcaption": "event caption",
    "eventcaptioning": "event caption",
    "actioncaption": "action caption",
    "actioncaptioning": "action caption",
    "actionunderstanding": "action caption",
    "grounding": "grounding",
    "eventgrounding": "grounding",
    "temporalgrounding": "grounding",
    "temporaleventgrounding": "grounding",
}
"""Kind of task by its name in lower-case letters; case and separators differ between files."""


def task_of(name: Any) -> str:
    """The kind of task that `name` means.

    Raises:
        RowRefused: Streamo has no such task.
    """
    letters = "".join(letter for letter in str(name).lower() if letter.isalpha())
    if letters not in TASKS:
        raise RowRefused(RefusalReason.UNKNOWN_TASK, f"{name!r}")
    return TASKS[letters]


def read_raw(path: Path, videos: VideoFolder) -> ReadResult:
    """Read a file of raw annotations.

    Raises:
        DataFileError: the file is not JSON.
    """
    return read_file(path, lambda row: raw_to_sample(row, videos.length_s))


def raw_to_sample(row: Any, length_s: Callable[[str], float]) -> StreamSample:
    """Convert one raw annotation to a sample with turns of 1 s.

    Args:
        row: the annotation.
        length_s: returns the length of a video in seconds.

    Raises:
        RowRefused: the row cannot be used.
    """
    if (
        not isinstance(row, Mapping)
        or not isinstance(row.get("question"), list)
        or not isinstance(row.get("response"), list)
    ):
        raise RowRefused(
            RefusalReason.NOT_A_ROW, f"{str(row)[:80]} has no lists question and response"
        )
    if not all(isinstance(part, Mapping) for part in (*row["question"], *row["response"])):
        raise RowRefused(RefusalReason.NOT_A_ROW, "a question or response is not an object")
    task_of(row.get("task_type"))
    video = str(row.get("video_path") or row.get("video_name") or "")
    count = int(length_s(video) + 1e-6)
    if count < 1:
        raise RowRefused(RefusalReason.UNDECODABLE, f"{video} is shorter than a second")
    states, texts, asked = [State.SILENCE] * count, [""] * count, [""] * count
    for question in row["question"]:
        turn = _turn_inside(_time(question.get("time"), "a question"), count, "a question")
        asked[turn] = "\n".join(part for part in (asked[turn], _content(question)) if part)
    for response in row["response"]:
        _add_response(response, states, texts)
    turns = tuple(
        SampleTurn(float(at), at + 1.0, states[at], texts[at], asked[at]) for at in range(count)
    )
    return StreamSample(video, turns, str(row["task_type"]), str(row.get("source") or ""))


def _add_response(response: Mapping[str, Any], states: list[State], texts: list[str]) -> None:
    words, count = _content(response), len(states)
    start, end, at = (seconds(response.get(name)) for name in ("st_time", "end_time", "time"))
    if start is not None and end is not None:
        if end < start:
            raise RowRefused(
                RefusalReason.UNREADABLE_TIME,
                f"an answer's span ends at {end:g} s before it begins at {start:g} s",
            )
        first, last = (
            _turn_inside(start, count, "an answer's span"),
            _turn_inside(end, count, "an answer's span"),
        )
        due = last + 1
        if due >= count:
            raise RowRefused(
                RefusalReason.PAST_THE_END,
                f"an answer is due in the turn after {end:g} s, the video has {count} turns",
            )
        for turn in range(first, last + 1):
            if states[turn] is State.SILENCE:
                states[turn] = State.STANDBY
    else:
        due = _turn_inside(_time(at, "an answer"), count, "an answer")
    if texts[due]:
        raise RowRefused(
            RefusalReason.TWO_ANSWERS,
            f"'{texts[due][:40]}' and '{words[:40]}' in the turn from {due} s",
        )
    states[due], texts[due] = State.RESPONSE, words


def _content(part: Mapping[str, Any]) -> str:
    words = part.get("content")
    if not isinstance(words, str) or not words.strip():
        raise RowRefused(RefusalReason.NO_WORDS, f"{str(dict(part))[:80]}")
    return words


def _time(value: Any, what: str) -> float:
    time_s = seconds(value)
    if time_s is None:
        raise RowRefused(RefusalReason.UNREADABLE_TIME, f"{what} has no time")
    return time_s


def _turn_inside(time_s: float, count: int, what: str) -> int:
    turn = turn_of(time_s)
    if turn >= count:
        raise RowRefused(
            RefusalReason.OUTSIDE, f"{what} at {time_s:g} s, the video has {count} turns of 1 s"
        )
    return turn


def sample_to_raw(sample: StreamSample) -> dict[str, Any]:
    """Convert `sample` to a raw annotation.

    Standby turns before an answer become its span; other answers get a time. Times are those of the
    turns: fractions of a second or MM:SS in an original raw file become whole seconds.
    """
    asked = [
        {"content": turn.question, "time": str(int(turn.end_s))}
        for turn in sample.turns
        if turn.question
    ]
    responses: list[dict[str, Any]] = []
    since: float | None = None
    for turn in sample.turns:
        if turn.state is State.STANDBY:
            since = turn.end_s if since is None else since
            continue
        if turn.state is State.RESPONSE:
            span = {"st_time": since, "end_time": turn.start_s, "time": ""}
            instant = {"st_time": "", "end_time": "", "time": str(int(turn.end_s))}
            responses.append({"content": turn.text, **(span if since is not None else instant)})
        since = None
    return {
        "video_name": Path(sample.video).name,
        "video_path": sample.video,
        "task_type": sample.task,
        "source": sample.source,
        "question": asked,
        "response": responses,
    }
