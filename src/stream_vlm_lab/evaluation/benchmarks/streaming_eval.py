"""Streaming-Eval (Streaming Harness, arXiv 2606.08615): answers in time windows, and narrations.

Its files were not published. The form read here is a JSON list or JSON lines: `{"id", "video",
"kind": "qa", "question", "ask_time", "options": [...], "windows": [{"start", "end", "answer"}],
"split"}` and `{"id", "video", "kind": "narration", "reference"}`. A question with options is
answered by a letter or by the words of the option. A judge compares narrations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_vlm_lab.evaluation.benchmarks.files import (
    BenchmarkError,
    StreamAnswer,
    checked_row,
    read_rows,
)
from stream_vlm_lab.evaluation.benchmarks.judge import FAILED, Judge, Votes, judge_all
from stream_vlm_lab.evaluation.online.online_pass import TimedQuestion
from stream_vlm_lab.evaluation.scoring.scores import is_right_answer, plain
from stream_vlm_lab.evaluation.scoring.speech_timing import (
    SpeakingScore,
    Speech,
    Window,
    score_speaking,
)

NARRATE = "Say what happens, as it happens."
"""The request for a narration."""


@dataclass(frozen=True)
class StreamingItem:
    """One question with its answer windows, or one clip to narrate.

    Attributes:
        id: id of the item.
        video: path of the video.
        question: the question, or the request for a narration.
        options: the options of a multiple choice question.
        windows: when which answer is due.
        split: name of the split.
        reference: what happens in a clip to narrate; empty for a question.
    """

    id: str
    video: str
    question: TimedQuestion
    options: tuple[str, ...]
    windows: tuple[Window, ...]
    split: str
    reference: str = ""

    @property
    def is_narration(self) -> bool:
        """Whether the item is compared with another model's answer instead of scored in windows."""
        return bool(self.reference)


def read_streaming_items(path: Path) -> list[StreamingItem]:
    """Read the items of a file in the form above.

    Raises:
        BenchmarkError: a row has another form.
    """
    items = []
    for number, row in enumerate(read_rows(path), start=1):
        checked = checked_row(path, number, row, "id", "video", "kind")
        try:
            items.append(
                _narration(checked) if checked["kind"] == "narration" else _question(checked)
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BenchmarkError(
                f"{path}, row {number}: is not an item of Streaming-Eval ({type(error).__name__}:"
                f" {error})"
            ) from error
    return items


def _narration(row: Mapping[str, Any]) -> StreamingItem:
    if not str(row["reference"]).strip():
        raise ValueError("reference is empty")
    asked = TimedQuestion(0.0, NARRATE, kind="narration", is_watch=True)
    return StreamingItem(
        str(row["id"]), str(row["video"]), asked, (), (), "narration", str(row["reference"])
    )


def _question(row: Mapping[str, Any]) -> StreamingItem:
    if row["kind"] != "qa":
        raise ValueError(f"kind is {row['kind']!r}; it must be 'qa' or 'narration'")
    windows = tuple(
        Window(float(window["start"]), float(window["end"]), str(window["answer"]))
        for window in row["windows"]
    )
    if not windows or any(window.end < window.start for window in windows):
        raise ValueError("windows are empty or end before they start")
    options = tuple(str(option) for option in row.get("options") or ())
    choices = "".join(
        f"\n{chr(ord('A') + place)}. {option}" for place, option in enumerate(options)
    )
    asked_at = float(row["ask_time"])
    # If the one answer is due when it is asked, it is a question. If it is due later or changes,
    # it is a watch, which stays active.
    at_once = len(windows) == 1 and windows[0].start <= asked_at
    question = TimedQuestion(
        asked_at, f"{row['question']}{choices}", kind="qa", is_watch=not at_once
    )
    return StreamingItem(
        str(row["id"]), str(row["video"]), question, options, windows, str(row.get("split", ""))
    )


def is_right_choice(said: str, answer: str, options: Sequence[str]) -> bool:
    """Whether `said` means `answer`.

    It must be the words of the answer. If there are options, it can also be the letter of the
    option, alone or at the beginning ("B", "(B)", "B. on the table").
    """
    if not options:
        return is_right_answer(said, answer)
    letters = [chr(ord("A") + place) for place in range(len(options))]
    by_words = {plain(option): letter for letter, option in zip(letters, options, strict=True)}
    right = answer if answer in letters else by_words.get(plain(answer), "")
    named = re.match(r"\W*([A-Z])\b(?!\s+[a-z])", said.strip())
    if named:
        return named[1] == right
    return bool(right) and plain(said) == plain(options[letters.index(right)])


def score_streaming(
    items: Sequence[StreamingItem],
    answers: Mapping[str, StreamAnswer],
    others: Mapping[str, StreamAnswer] | None,
    judge: Judge | None,
) -> dict[str, Any]:
    """Score answers and narrations.

    Returns:
        Plain values for JSON: SW-F1 as published and with equal weights, for each split and for all
        items, and the share of narrations that won.
    """
    splits: dict[str, SpeakingScore] = {}
    for item in items:
        if item.is_narration:
            continue
        said = answers[item.id].utterances if item.id in answers else []
        speech = [Speech(utterance.t, utterance.text) for utterance in said]

        def is_right(text: str, answer: str, options: tuple[str, ...] = item.options) -> bool:
            return is_right_choice(text, answer, options)

        splits[item.split] = splits.get(item.split, SpeakingScore()) + score_speaking(
            speech, item.windows, is_right
        )
    narrations = [item for item in items if item.is_narration]
    return {
        "items": len(items),
        "without_answer": sorted(item.id for item in items if item.id not in answers),
        "all": sum(splits.values(), SpeakingScore()).as_dict() if splits else None,
        "splits": {name: score.as_dict() for name, score in sorted(splits.items())},
        "narration": _narrations(narrations, answers, others, judge),
        "failed_judgements": len(judge.failures) if judge else 0,
    }


def _narrations(
    items: Sequence[StreamingItem],
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

    def as_text(answer: StreamAnswer | None) -> str:
        return (
            "\n".join(f"{said.t:g} s: {said.text}" for said in answer.utterances) if answer else ""
        )

    def vote(item: StreamingItem) -> Votes:
        if item.id not in answers:
            return Votes(FAILED, FAILED)
        return judge.compare(
            item.reference, as_text(answers.get(item.id)), as_text(others.get(item.id))
        )

    won = sum(votes.won for votes in judge_all(items, vote))
    return {"items": len(items), "win_rate": won / (2 * len(items))}
