"""The JSON lines that a run writes: utterances, events and states, in seconds of stream.

Scorers, plots and other programs read this format.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from stream_vlm.types import NANOSECONDS, StepResult
from stream_vlm.unicode_text import mend


@dataclass(frozen=True)
class TimedEvent:
    """An event, either from the ground truth or reported by a model.

    Attributes:
        label: what happened, in words.
        t_start: seconds since the stream's first frame.
        t_end: seconds since the stream's first frame.
        confidence: in [0, 1]; 1 for ground truth.
        camera: the camera that saw it; may be empty.
        instruction_id: the instruction or the watch that it belongs to; may be empty.
    """

    label: str
    t_start: float
    t_end: float
    confidence: float = 1.0
    camera: str = ""
    instruction_id: str = ""


@dataclass(frozen=True)
class TimedUtterance:
    """Words that were said about the frame at `t` (seconds since the stream's first frame).

    `instruction_id` is the standing instruction that they report about; it may be empty.
    """

    t: float
    text: str
    confidence: float = 1.0
    camera: str = ""
    instruction_id: str = ""


@dataclass(frozen=True)
class TimedState:
    """The model's state for the frame at `t` (seconds since the stream's first frame).

    `state` is silence, standby or response.
    """

    t: float
    state: str
    confidence: float = 1.0
    camera: str = ""


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
            said.instruction_id,
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
            event.instruction_id,
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
    """Return `record` as one line of JSON, with its newline.

    A file takes no half character, so U+FFFD stands for it and the record is kept. Without an
    instruction its id is left out.
    """
    values = asdict(record)
    if not values.get("instruction_id"):
        values.pop("instruction_id", None)
    return mend(json.dumps(values, ensure_ascii=False)) + "\n"


def last_moment(records: Iterable[AnyRecord]) -> float:
    """Return the latest time (seconds of stream) in `records`, or 0 if there are none."""
    return max(
        (record.t_end if isinstance(record, TimedEvent) else record.t for record in records),
        default=0.0,
    )
