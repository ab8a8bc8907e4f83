"""The JSON lines that a run writes: utterances, events and states, in seconds of stream.

Scorers, plots and other programs read this format.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from stream_vlm.types import NANOSECONDS, StepResult, StreamError


class RecordError(StreamError):
    """A record file that cannot be read; the message names the file and the line."""


@dataclass(frozen=True)
class TimedEvent:
    """An event, either from the ground truth or reported by a model.

    Attributes:
        label: what happened, in words.
        t_start: seconds since the stream's first frame.
        t_end: seconds since the stream's first frame.
        confidence: in [0, 1]; 1 for ground truth.
        camera: the camera that saw it; may be empty.
    """

    label: str
    t_start: float
    t_end: float
    confidence: float = 1.0
    camera: str = ""


@dataclass(frozen=True)
class TimedUtterance:
    """Words that were said about the frame at `t` (seconds since the stream's first frame)."""

    t: float
    text: str
    confidence: float = 1.0
    camera: str = ""


@dataclass(frozen=True)
class TimedState:
    """The model's state for the frame at `t` (seconds since the stream's first frame).

    `state` is silence, standby or response.
    """

    t: float
    state: str
    confidence: float = 1.0
    camera: str = ""


Record = TypeVar("Record", TimedEvent, TimedUtterance, TimedState)


def seconds_of_stream(stamp_ns: int, first_ns: int) -> float:
    """Return the seconds from `first_ns` to `stamp_ns` (both ns), rounded to microseconds."""
    return round((stamp_ns - first_ns) / NANOSECONDS, 6)


AnyRecord = TimedEvent | TimedUtterance | TimedState


def records_of(
    result: StepResult, first_ns: int
) -> tuple[Sequence[AnyRecord], Sequence[AnyRecord], Sequence[AnyRecord]]:
    """Return the utterances, the events and the states of one step.

    Args:
        result: the step.
        first_ns: stamp of the stream's first frame, ns.
    """
    stamps = {frame.camera: frame.stamp_ns for frame in result.tick.frames}
    utterances = [
        TimedUtterance(
            seconds_of_stream(said.stamp_ns, first_ns),
            said.text,
            round(said.confidence, 6),
            said.camera,
        )
        for said in result.utterances
    ]
    events = [
        TimedEvent(
            event.label,
            seconds_of_stream(event.start_ns, first_ns),
            seconds_of_stream(event.end_ns, first_ns),
            round(event.confidence, 6),
            event.camera,
        )
        for event in result.events
    ]
    states = [
        TimedState(
            seconds_of_stream(stamps[camera], first_ns),
            decision.state.value,
            round(decision.confidence, 6),
            camera,
        )
        for camera, decision in sorted(result.decisions.items())
    ]
    return utterances, events, states


def as_line(record: AnyRecord) -> str:
    """Return `record` as one line of JSON, with its newline."""
    return json.dumps(asdict(record), ensure_ascii=False) + "\n"


def read_records(path: Path, kind: type[Record]) -> list[Record]:
    """Read a file of JSON lines written by a run; fields that `kind` does not have are passed over.

    Raises:
        RecordError: missing file, or a line that is no such record.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    return [
        _parse(path, number, line, kind)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def _parse(path: Path, number: int, line: str, kind: type[Record]) -> Record:
    try:
        fields: dict[str, Any] = json.loads(line)
        return kind(**{name: fields[name] for name in kind.__dataclass_fields__ if name in fields})
    except (ValueError, TypeError) as error:
        raise RecordError(f"{path}, line {number}: no {kind.__name__} record: {error}") from error


def last_moment(records: Iterable[AnyRecord]) -> float:
    """Return the latest time (seconds of stream) in `records`, or 0 if there are none."""
    return max(
        (record.t_end if isinstance(record, TimedEvent) else record.t for record in records),
        default=0.0,
    )
