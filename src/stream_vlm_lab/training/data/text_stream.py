"""StreamingVLM's training files (arXiv 2510.09608): JSON lines of timed words, found through a file
of line offsets.

A line is `[user, assistant]`: the user's content is a video with `video_start` and `video_end` and
    a text, which may bring the `previous` words; the assistant's is a `text_stream` of `[start,
    end, word]`, and perhaps a `qa_stream` of `[start, time, question, answer]`. Read in
rounds of a second: a word is said in the round in which it ends. `NAME_seeks.jsonl` beside
    `NAME.jsonl` or `NAME_with_seeks.jsonl`, or else the file's own last line, holds a JSON list of
    the byte offsets of the lines to read; without either every line is read. Where the published
    reader replaces a bad line by another and leaves out words after the last round, here both are
    refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from stream_vlm.types import State
from stream_vlm_lab.training.data.rows import DataFileError
from stream_vlm_lab.training.data.sample import (
    Reading,
    Reason,
    RowRefused,
    SampleTurn,
    StreamSample,
    Videos,
)
from stream_vlm_lab.training.data.times import seconds

ROUND_S = 1.0
NOT_INDEXED = -1
"""Row number of a line that the index leaves out."""


def seeks_path(path: Path) -> Path:
    """Where the line offsets of `path` are kept."""
    return path.with_name(
        f"{path.name.replace('_with_seeks', '').rsplit('.jsonl', 1)[0]}_seeks.jsonl"
    )


def read_text_stream(path: Path, videos: Videos | None = None) -> Reading:
    """Read the lines that the index names, or all where there is no index; with `videos`, stretches
    beyond their video are refused.

    Raises:
        DataFileError: the file or its index cannot be read.
    """
    reading = Reading()
    try:
        with path.open("rb") as file:
            for number, offset in enumerate(_offsets(path, file, reading), start=1):
                if offset is None:
                    continue
                file.seek(offset)
                try:
                    reading.add(number, line_to_sample(_parsed(file.readline()), videos))
                except RowRefused as refused:
                    reading.refuse(number, refused)
    except OSError as error:
        raise DataFileError(
            f"{path}: cannot be read: {error.strerror}; give the path of a JSON lines file"
        ) from error
    return reading


def _offsets(path: Path, file: BinaryIO, reading: Reading) -> list[int | None]:
    """Where the lines to be read begin; None for an entry of the index that fits no line, which is
    refused.
    """
    starts, last, place = list[int](), b"", 0
    for line in file:
        if line.strip():
            starts.append(place)
            last = line
        place += len(line)
    embedded = _as_index(last)
    if embedded is not None:
        starts.pop()
    beside = seeks_path(path)
    name = beside.name if beside.is_file() else f"the last line of {path.name}"
    seeks = _as_index(beside.read_bytes()) if beside.is_file() else embedded
    if seeks is None:
        if beside.is_file():
            raise DataFileError(
                f"{beside}: is no JSON list of whole numbers; remove it and every line is read"
            )
        return list(starts)
    known, offsets = set(starts), list[int | None]()
    for number, seek in enumerate(seeks, start=1):
        offsets.append(seek if seek in known else None)
        if seek not in known:
            reading.refuse(number, RowRefused(Reason.BAD_INDEX, f"no line begins at byte {seek}"))
    for missing in sorted(known - set(seeks)):
        reading.refuse(
            NOT_INDEXED,
            RowRefused(Reason.BAD_INDEX, f"the line at byte {missing} is not in {name}"),
        )
    return offsets


def _as_index(line: bytes) -> list[int] | None:
    """The offsets that `line` holds; None where it is no list of whole numbers, as a line of data
    never is.
    """
    try:
        seeks = json.loads(line) if line.lstrip().startswith(b"[") else None
    except ValueError:
        return None
    return (
        seeks if isinstance(seeks, list) and all(isinstance(seek, int) for seek in seeks) else None
    )


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise RowRefused(Reason.NOT_A_ROW, f"is no JSON ({error})") from error


def line_to_sample(row: Any, videos: Videos | None = None) -> StreamSample:
    """One line in rounds of a second; a round in which no word ends is silent.

    Raises:
        RowRefused: it cannot be used.
    """
    try:
        user, assistant = row
        shown = next(part for part in user["content"] if "video" in part)
        said = assistant["content"][0]
        words, asked = said["text_stream"], said.get("qa_stream") or []
        query = next(
            (str(part.get("text", "")) for part in user["content"] if part.get("type") == "text"),
            "",
        )
        previous = next(
            (str(part["previous"]) for part in user["content"] if part.get("previous")), ""
        )
        video = str(shown["video"])
    except (KeyError, IndexError, TypeError, ValueError, StopIteration, AttributeError) as error:
        raise RowRefused(
            Reason.NOT_A_ROW,
            f"{str(row)[:60]} is no [user with video, assistant with text_stream]"
            f" ({type(error).__name__})",
        ) from error
    start, end = seconds(shown.get("video_start")) or 0.0, seconds(shown.get("video_end"))
    if end is None:
        end = videos.length_s(video) if videos is not None else None
    if end is None or end - start < ROUND_S:
        raise RowRefused(
            Reason.UNREADABLE_TIME,
            f"the stretch from {start:g} to {end} s holds no round of a second",
        )
    if videos is not None and end > videos.length_s(video) + ROUND_S:
        raise RowRefused(
            Reason.OUTSIDE,
            f"the stretch ends at {end:g} s, {video} at {videos.length_s(video):.1f} s",
        )
    count = int((end - start) / ROUND_S + 1e-6)
    texts = _spoken(words, start, end, count)
    questions = [""] * count
    for entry in asked:
        _ask(entry, start, texts, questions)
    questions[0] = "\n".join(part for part in (query, questions[0]) if part)
    turns = tuple(
        SampleTurn(
            start + at,
            start + at + ROUND_S,
            State.RESPONSE if text else State.SILENCE,
            text,
            question,
        )
        for at, (text, question) in enumerate(zip(texts, questions, strict=True))
    )
    return StreamSample(video, turns, "narration", previous_text=previous)


def _spoken(words: Any, start: float, end: float, count: int) -> list[str]:
    spoken: list[list[str]] = [[] for _ in range(count)]
    latest = 0.0
    for began, ended, word in _timed(words):
        if ended < began or ended < latest:
            raise RowRefused(
                Reason.UNREADABLE_TIME,
                f"the word '{word}' from {began:g} to {ended:g} s is out of order",
            )
        if began >= end or ended < start:
            raise RowRefused(
                Reason.OUTSIDE,
                f"the word '{word}' from {began:g} to {ended:g} s, the stretch is {start:g} to"
                f" {end:g} s",
            )
        at = max(0, -int(-(ended - start) // ROUND_S) - 1)
        if at >= count:
            raise RowRefused(
                Reason.PAST_THE_END,
                f"the word '{word}' ends at {ended:g} s, the last round at"
                f" {start + count * ROUND_S:g} s",
            )
        spoken[at].append(word)
        latest = ended
    return [" ".join(words_of_round) for words_of_round in spoken]


def _timed(words: Any) -> list[tuple[float, float, str]]:
    try:
        timed = [
            (seconds(began), seconds(ended), str(word).strip()) for began, ended, word in words
        ]
    except (TypeError, ValueError) as error:
        raise RowRefused(
            Reason.NOT_A_ROW, f"text_stream is no list of [start, end, word] ({error})"
        ) from error
    known = [
        (began, ended, word)
        for began, ended, word in timed
        if began is not None and ended is not None
    ]
    if len(known) < len(timed):
        raise RowRefused(Reason.UNREADABLE_TIME, "a word has no time")
    return known


def _ask(entry: Any, start: float, texts: list[str], questions: list[str]) -> None:
    if not isinstance(entry, Sequence) or isinstance(entry, (str, Mapping)) or len(entry) < 4:
        raise RowRefused(
            Reason.NOT_A_ROW,
            f"qa_stream entry {str(entry)[:60]} is no [start, time, question, answer]",
        )
    asked_at, question, answer = seconds(entry[1]), str(entry[2]).strip(), str(entry[3]).strip()
    if asked_at is None:
        raise RowRefused(Reason.UNREADABLE_TIME, f"the question '{question[:40]}' has no time")
    if not question or not answer:
        raise RowRefused(Reason.NO_WORDS, f"{str(entry)[:60]}")
    at = -int(-(asked_at - start) // ROUND_S) - 1
    if not 0 <= at < len(texts):
        raise RowRefused(
            Reason.OUTSIDE,
            f"the question '{question[:40]}' at {asked_at:g} s, the stretch is {start:g} to"
            f" {start + len(texts):g} s",
        )
    if questions[at]:
        raise RowRefused(
            Reason.TWO_ANSWERS,
            f"'{questions[at][:40]}' and '{question[:40]}' in the round from {start + at:g} s",
        )
    questions[at], texts[at] = question, "\n".join(part for part in (answer, texts[at]) if part)
