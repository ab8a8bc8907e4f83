"""Reads benchmark files: JSON documents and JSON lines, with a clear error for unreadable ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stream_vlm.run_records import TimedEvent, TimedUtterance
from stream_vlm.types import StreamError


class BenchmarkError(StreamError):
    """A benchmark file cannot be used; the message names the file, what is wrong and the remedy."""


def read_json(path: Path) -> Any:
    """Read the JSON document in `path`.

    Raises:
        BenchmarkError: it cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchmarkError(
            f"{path}: cannot be read: {error.strerror}; give the path of the downloaded file"
        ) from error
    except ValueError as error:
        raise BenchmarkError(f"{path}: is not JSON ({error}); download it again") from error


def read_rows(path: Path) -> list[Any]:
    """Read the rows of a JSON list, of a single JSON object, or of JSON lines.

    Raises:
        BenchmarkError: it cannot be read, or a line is not JSON.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BenchmarkError(
            f"{path}: cannot be read: {error}; give the path of the downloaded file"
        ) from error
    try:
        document = json.loads(text)
    except ValueError:
        return [
            _line(path, number, line)
            for number, line in enumerate(text.splitlines(), start=1)
            if line.strip()
        ]
    return document if isinstance(document, list) else [document]


def _line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
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
