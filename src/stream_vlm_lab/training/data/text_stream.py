"""Reads StreamingVLM's training files (arXiv 2510.09608): JSON lines of timed words.

A line is `[user, assistant]`. The user's content is a video with `video_start` and `video_end`, and
a text that can have `previous` words. The assistant's content is a `text_stream` of
`[start, end, word]`, and optionally a `qa_stream` of `[start, time, question, answer]`. Each turn
is one second long; a word belongs to the turn in which it ends.

The index is a JSON list with the byte offsets of the lines to read. It is in `NAME_seeks.jsonl`
beside `NAME.jsonl` or `NAME_with_seeks.jsonl`, or in the last line of the file. Without an index
every line is read. The published reader replaces a bad line by another one and ignores words after
the last turn; here both are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from stream_vlm.types import State
from stream_vlm.unicode_text import decode, parse_json
from stream_vlm_lab.training.data.rows import DataFileError, check_row
from stream_vlm_lab.training.data.sample import (
    ReadResult,
    RefusalReason,
    RowRefused,
    SampleTurn,
    StreamSample,
    VideoFolder,
)
from stream_vlm_lab.training.data.times import seconds

TURN_S = 1.0
NOT_INDEXED = -1
"""Row number of a line that is not in the index."""


def seeks_path(path: Path) -> Path:
    """Path of the index file of `path`."""
    return path.with_name(
        f"{path.name.replace('_with_seeks', '').rsplit('.jsonl', 1)[0]}_seeks.jsonl"
    )


def read_text_stream(path: Path, videos: VideoFolder | None = None) -> ReadResult:
    """Read the lines in the index, or all lines if there is no index.

    Args:
        path: the data file.
        videos: where the videos are; if given, lines beyond the end of a video are refused.

    Raises:
        DataFileError: the file or its index cannot be read.
    """
    reading = ReadResult()
    try:
        with path.open("rb") as file:
            _check_encoding(path, file)
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


def _check_encoding(path: Path, file: BinaryIO) -> None:
    """Check that `file` is not in UTF-16, whose lines cannot be told apart by bytes."""
    start = file.read(4)
    file.seek(0)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in start:
        raise DataFileError(f"{path}: is text in UTF-16 or UTF-32; save it as UTF-8")


def _offsets(path: Path, file: BinaryIO, reading: ReadResult) -> list[int | None]:
    """Offsets of the lines to read; None for an index entry at which no line begins."""
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
                f"{beside}: is not a JSON list of whole numbers; remove it to read every line"
            )
        return list(starts)
    known, offsets = set(starts), list[int | None]()
    for number, seek in enumerate(seeks, start=1):
        offsets.append(seek if seek in known else None)
        if seek not in known:
            reading.refuse(
                number, RowRefused(RefusalReason.BAD_INDEX, f"no line begins at byte {seek}")
            )
    for missing in sorted(known - set(seeks)):
        reading.refuse(
            NOT_INDEXED,
            RowRefused(RefusalReason.BAD_INDEX, f"the line at byte {missing} is not in {name}"),
        )
    return offsets


def _as_index(line: bytes) -> list[int] | None:
    """The offsets in `line`; None if it is not a list of whole numbers, for example a data line."""
    try:
        text = decode(line).lstrip()
        seeks = parse_json(text) if text.startswith("[") else None
    except ValueError:
        return None
    return (
        seeks if isinstance(seeks, list) and all(isinstance(seek, int) for seek in seeks) else None
    )


def _parsed(line: bytes) -> Any:
    try:
        row = parse_json(decode(line))
    except ValueError as error:
        raise RowRefused(RefusalReason.NOT_A_ROW, f"is not JSON ({error})") from error
    check_row(row)
    return row


def line_to_sample(row: Any, videos: VideoFolder | None = None) -> StreamSample:
    """Convert one line to a sample with turns of one second; a turn without a word is silent.

    Raises:
        RowRefused: the line cannot be used.
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
            RefusalReason.NOT_A_ROW,
            f"{str(row)[:60]} is not [user with video, assistant with text_stream]"
            f" ({type(error).__name__})",
        ) from error
    start, end = seconds(shown.get("video_start")) or 0.0, seconds(shown.get("video_end"))
    if end is None:
        end = videos.length_s(video) if videos is not None else None
    if end is None or end - start < TURN_S:
        raise RowRefused(
            RefusalReason.UNREADABLE_TIME,
            f"the section from {start:g} to {end} s is shorter than a turn of one second",
        )
    if videos is not None and end > videos.length_s(video) + TURN_S:
        raise RowRefused(
            RefusalReason.OUTSIDE,
            f"the section ends at {end:g} s, {video} at {videos.length_s(video):.1f} s",
        )
    count = int((end - start) / TURN_S + 1e-6)
    texts = _texts_by_turn(words, start, end, count)
    questions = [""] * count
    for entry in asked:
        _add_question(entry, start, texts, questions)
    questions[0] = "\n".join(part for part in (query, questions[0]) if part)
    turns = tuple(
        SampleTurn(
            start + at,
            start + at + TURN_S,
            State.RESPONSE if text else State.SILENCE,
            text,
            question,
        )
        for at, (text, question) in enumerate(zip(texts, questions, strict=True))
    )
    return StreamSample(video, turns, "narration", previous_text=previous)


def _texts_by_turn(words: Any, start: float, end: float, count: int) -> list[str]:
    spoken: list[list[str]] = [[] for _ in range(count)]
    latest = 0.0
    for began, ended, word in _timed(words):
        if ended < began or ended < latest:
            raise RowRefused(
                RefusalReason.UNREADABLE_TIME,
                f"the word '{word}' from {began:g} to {ended:g} s is out of order",
            )
        if began >= end or ended < start:
            raise RowRefused(
                RefusalReason.OUTSIDE,
                f"the word '{word}' is at {began:g} to {ended:g} s, the section is {start:g} to"
                f" {end:g} s",
            )
        at = max(0, -int(-(ended - start) // TURN_S) - 1)
        if at >= count:
            raise RowRefused(
                RefusalReason.PAST_THE_END,
                f"the word '{word}' ends at {ended:g} s, the last turn at"
                f" {start + count * TURN_S:g} s",
            )
        spoken[at].append(word)
        latest = ended
    return [" ".join(words_of_turn) for words_of_turn in spoken]


def _timed(words: Any) -> list[tuple[float, float, str]]:
    try:
        timed = [
            (seconds(began), seconds(ended), str(word).strip()) for began, ended, word in words
        ]
    except (TypeError, ValueError) as error:
        raise RowRefused(
            RefusalReason.NOT_A_ROW, f"text_stream is not a list of [start, end, word] ({error})"
        ) from error
    known = [
        (began, ended, word)
        for began, ended, word in timed
        if began is not None and ended is not None
    ]
    if len(known) < len(timed):
        raise RowRefused(RefusalReason.UNREADABLE_TIME, "a word has no time")
    return known


def _add_question(entry: Any, start: float, texts: list[str], questions: list[str]) -> None:
    if not isinstance(entry, Sequence) or isinstance(entry, (str, Mapping)) or len(entry) < 4:
        raise RowRefused(
            RefusalReason.NOT_A_ROW,
            f"qa_stream entry {str(entry)[:60]} is not [start, time, question, answer]",
        )
    asked_at, question, answer = seconds(entry[1]), str(entry[2]).strip(), str(entry[3]).strip()
    if asked_at is None:
        raise RowRefused(
            RefusalReason.UNREADABLE_TIME, f"the question '{question[:40]}' has no time"
        )
    if not question or not answer:
        raise RowRefused(RefusalReason.NO_WORDS, f"{str(entry)[:60]}")
    at = -int(-(asked_at - start) // TURN_S) - 1
    if not 0 <= at < len(texts):
        raise RowRefused(
            RefusalReason.OUTSIDE,
            f"the question '{question[:40]}' is at {asked_at:g} s, the section is {start:g} to"
            f" {start + len(texts):g} s",
        )
    if questions[at]:
        raise RowRefused(
            RefusalReason.TWO_ANSWERS,
            f"'{questions[at][:40]}' and '{question[:40]}' in the turn from {start + at:g} s",
        )
    questions[at], texts[at] = question, "\n".join(part for part in (answer, texts[at]) if part)
