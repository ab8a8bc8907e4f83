"""ReadResult what benchmarks are made of: JSON documents and files of JSON lines, with one clear
sentence for what cannot be read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stream_vlm.run_records import TimedEvent, TimedUtterance
from stream_vlm.types import StreamError


class BenchmarkError(StreamError):
    """A benchmark's file cannot be used; the message names the file, what is wrong and the remedy."""


def read_json(path: Path) -> Any:
    """The document in `path`.

    Raises:
        BenchmarkError: it cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchmarkError(
            f"{path}: cannot be read: {error.strerror}; give the path of the downloaded file"
        ) from error
    except ValueError as error:
        raise BenchmarkError(f"{path}: is no JSON ({error}); download it anew") from error


def read_rows(path: Path) -> list[Any]:
    """The rows of a JSON list, of an object that is one row, or of a file of JSON lines.

    Raises:
        BenchmarkError: it cannot be read, or a line is no JSON.
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
            f"{path}, line {number}: is no JSON ({error}); mend or remove the line"
        ) from error


@dataclass
class StreamAnswer:
    """What was said and grounded about one item, times in seconds of its video: a row of our answer
    files.

    Attributes:
        utterances: everything said, asked and unasked.
        faults: why frames or questions could not be used, or the video could not.
    """

    id: str
    utterances: list[TimedUtterance] = field(default_factory=list)
    events: list[TimedEvent] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def as_row(self) -> dict[str, Any]:
        """Plain values ready for JSON."""
        return asdict(self)


def read_stream_answers(path: Path) -> dict[str, StreamAnswer]:
    """Answer rows by id; of two for one item the later counts.

    A row is `{"id", "utterances": [{"t", "text"}], "events": [{"label", "t_start", "t_end"}]}`.

    Raises:
        BenchmarkError: a row is none.
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
                f"{path}, row {number}: is no answer ({reason}); it needs id, utterances and events"
            ) from error
    return answers


def needed(path: Path, number: int, row: Any, *names: str) -> Mapping[str, Any]:
    """`row`, which must be an object with all of `names`.

    Raises:
        BenchmarkError: it is not.
    """
    if not isinstance(row, dict) or not set(names) <= set(row):
        raise BenchmarkError(
            f"{path}, row {number}: needs {', '.join(names)}; it is {str(row)[:80]}"
        )
    return row
