"""Reads benchmark files: JSON documents and JSON lines, with a clear error for unreadable ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stream_vlm import unicode_text
from stream_vlm.run_records import TimedEvent, TimedUtterance
from stream_vlm.types import StreamError
from stream_vlm.unicode_text import half_character, json_lines, parse_json


class BenchmarkError(StreamError):
    """A benchmark file cannot be used; the message names the file, what is wrong and the remedy."""


def read_json(path: Path) -> Any:
    """Read the JSON document in `path`.

    Raises:
        BenchmarkError: it cannot be read, is not JSON, or has half a character in a text.
    """
    text = _read(path)
    try:
        document = parse_json(text)
    except ValueError as error:
        raise BenchmarkError(f"{path}: is not JSON ({error}); download it again") from error
    place = half_character(document)
    if place:
        raise BenchmarkError(f"{path}: {place}; correct the text or download the file again")
    return document


def _read(path: Path) -> str:
    try:
        return unicode_text.read_text(path)
    except OSError as error:
        raise BenchmarkError(
            f"{path}: cannot be read: {error.strerror}; give the path of the downloaded file"
        ) from error
    except ValueError as error:
        raise BenchmarkError(f"{path}: {error}") from error


def read_rows(path: Path) -> list[Any]:
    """Read the rows of a JSON list, of a single JSON object, or of JSON lines.

    Raises:
        BenchmarkError: it cannot be read, a line is not JSON, or a row has half a character in a
            text.
    """
    text = _read(path)
    try:
        document = parse_json(text)
    except ValueError:
        rows = [_line(path, number, line) for number, line in json_lines(text)]
    else:
        rows = document if isinstance(document, list) else [document]
    for number, row in enumerate(rows, start=1):
        place = half_character(row)
        if place:
            raise BenchmarkError(f"{path}, row {number}: {place}; correct or remove the row")
    return rows


def _line(path: Path, number: int, line: str) -> Any:
    try:
        return parse_json(line)
    except ValueError as error:
        raise BenchmarkError(
            f"{path}, line {number}: is not JSON ({error}); correct or remove the line"
        ) from error


@dataclass
class StreamAnswer:
    """A row of our answer files: what was said and grounded for one item.

    Times are in seconds of the item's video.

    Attributes:
        id: id of the item.
        utterances: everything that was said, with and without a question.
        events: the reported events.
        faults: why frames, questions or the video could not be used.
    """

    id: str
    utterances: list[TimedUtterance] = field(default_factory=list)
    events: list[TimedEvent] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def as_row(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def read_stream_answers(path: Path) -> dict[str, StreamAnswer]:
    """Read answer rows by id; if an item has two rows, the later one counts.

    A row is `{"id", "utterances": [{"t", "text"}], "events": [{"label", "t_start", "t_end"}]}`.

    Raises:
        BenchmarkError: a row has another form.
    """
    answers = {}
    for number, row in enumerate(read_rows(path), start=1):
        try:
            answers[str(row["id"])] = StreamAnswer(
                str(row["id"]),
                [
                    TimedUtterance(float(said["t"]), str(said["text"]))
                    for said in row.get("utterances", [])
                ],
                [
                    TimedEvent(str(event["label"]), float(event["t_start"]), float(event["t_end"]))
                    for event in row.get("events", [])
                ],
                [str(fault) for fault in row.get("faults", [])],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise BenchmarkError(
                f"{path}, row {number}: is not an answer ({reason}); it needs id, utterances and"
                " events"
            ) from error
    return answers


def checked_row(path: Path, number: int, row: Any, *names: str) -> Mapping[str, Any]:
    """Return `row` if it is an object with all of `names`.

    Raises:
        BenchmarkError: it is not.
    """
    if not isinstance(row, dict) or not set(names) <= set(row):
        raise BenchmarkError(
            f"{path}, row {number}: needs {', '.join(names)}, but is {str(row)[:80]}"
        )
    return row
