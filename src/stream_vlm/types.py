"""Types that all packages share: frames, ticks, queries, decisions, events and step results.

This module imports nothing else of this project, so every package can use it. Time is int64
nanoseconds on the clock of the source (ROS time, a bag's clock or a video's timeline), never the
wall clock of the computer that processes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

NANOSECONDS = 1_000_000_000
"""Nanoseconds in a second."""


class StreamError(Exception):
    """Base of every error this package raises on purpose.

    The message names the thing, the value and the remedy.
    """


class StaleFrame(StreamError):
    """A frame's stamp is not after the stamp of the frame before it."""


class State(str, Enum):
    """What a streaming model decides at one tick.

    The three states are Streamo's (arXiv 2512.21334). Streaming Harness (arXiv 2606.08615) has
    silence and response only.
    """

    SILENCE = "silence"
    """There is nothing to report."""
    STANDBY = "standby"
    """An event is under way and not complete yet."""
    RESPONSE = "response"
    """An event is complete, or a question can be answered: text follows."""


@dataclass(frozen=True)
class Pose:
    """Position and orientation of the robot or the camera in a named frame.

    Attributes:
        frame_id: the coordinate frame (REP-105) that the numbers refer to.
        x, y, z: position in metres.
        qx, qy, qz, qw: orientation as a unit quaternion.
    """

    frame_id: str
    x: float
    y: float
    z: float
    qx: float = 0.0
    qy: float = 0.0
    qz: float = 0.0
    qw: float = 1.0


@dataclass(frozen=True)
class Frame:
    """One picture from one camera.

    Attributes:
        camera: the camera's name in the settings, not its topic.
        stamp_ns: int64 nanoseconds, when the picture was taken.
        frame_id: the camera's optical frame (REP-103), copied from the message header; may be
            empty.
        image: uint8 RGB, (H, W, 3), C-contiguous.
        pose: where the robot was at `stamp_ns`; None when that is not known.
    """

    camera: str
    stamp_ns: int
    frame_id: str
    image: NDArray[np.uint8]
    pose: Pose | None = None


@dataclass(frozen=True)
class RecalledLine:
    """One memory record that the model reads as a line of its prompt.

    Attributes:
        start_ns, end_ns: when it happened, int64 ns on the clock of the source.
        text: what happened.
    """

    start_ns: int
    end_ns: int
    text: str


@dataclass(frozen=True)
class RecalledContext:
    """What the memory found about a question.

    Attributes:
        computed: an answer that was computed from the records, without a model; may be empty.
        lines: records that match the question, best match first.
    """

    computed: str = ""
    lines: tuple[RecalledLine, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.computed or self.lines)


@dataclass(frozen=True)
class Query:
    """A question or instruction that enters the stream.

    Attributes:
        query_id: unique within a memory file.
        text: the user's words.
        stamp_ns: int64 nanoseconds, when it was asked.
        camera: the camera it is about; empty means every camera.
        is_watch: True for a watch ("tell me when ..."). A watch is not answered at once: it stays
            active until another watch replaces it or it is ended.
        recalled: what the memory found about the query when it was asked. A model whose prompt
            format has a place for it reads as much of it as the settings allow.
    """

    query_id: str
    text: str
    stamp_ns: int
    camera: str = ""
    is_watch: bool = False
    recalled: RecalledContext = RecalledContext()


@dataclass(frozen=True)
class Instruction:
    """A standing instruction: what the model reports whenever it happens.

    Attributes:
        instruction_id: unique among the active instructions; events and utterances carry it.
        text: the user's words, for example "people who come in or leave".
    """

    instruction_id: str
    text: str


@dataclass(frozen=True)
class Limits:
    """Limits that shorten a step while steps take too long; the defaults limit nothing.

    Attributes:
        picture_share: share in (0, 1] of a picture's pixel budget. A model with one fixed picture
            size ignores it.
        new_tokens: longest utterance in tokens; None for the length in the settings.
    """

    picture_share: float = 1.0
    new_tokens: int | None = None


@dataclass(frozen=True)
class Tick:
    """One time step: the newest frame of each camera, and the queries since the last tick.

    Attributes:
        index: number of the tick within its session, from 0.
        stamp_ns: int64 nanoseconds, the time of the tick.
        frames: at most one frame for each camera; a camera without a new frame is absent.
        queries: the questions and watches that came in since the last tick.
    """

    index: int
    stamp_ns: int
    frames: tuple[Frame, ...]
    queries: tuple[Query, ...] = ()


@dataclass(frozen=True)
class Decision:
    """What the model decided for one frame.

    Attributes:
        state: silence, standby or response.
        probabilities: probability of each state; they sum to 1. For a two-state model STANDBY has
            probability 0.
        text: the words that follow RESPONSE; empty for the other states.
        confidence: in [0, 1], the probability of `state`; for a response it is multiplied by the
            mean probability of the tokens of `text`.
        verified: the probability that `text` is true, from a second look at the last frames; None
            if there was no second look.
    """

    state: State
    probabilities: Mapping[State, float]
    text: str = ""
    confidence: float = 0.0
    verified: float | None = None


@dataclass(frozen=True)
class EventSpan:
    """An event: what happened, when it began and ended, and how sure the model is.

    Attributes:
        event_id: unique within a memory file.
        camera: the camera that saw it.
        frame_id: optical frame of the frame of the response that reports the event.
        stamp_ns: stamp of that frame, int64 ns.
        label: what happened, in the model's words.
        start_ns, end_ns: beginning and end, int64 ns on the clock of the source (see
            `loop.event_tracker.EventTracker` and `loop.instruction_state.InstructionState`). Only
            for an event of an instruction `end_ns` may be after `stamp_ns`: such an event is
            reported at once, and ends later.
        confidence: in [0, 1].
        instruction_id: the standing instruction or the watch that it belongs to; empty if the model
            reports unprompted.
        still_on: True if it still went on when it was closed, because it took longer than
            `events.max_open_s` or because no frame followed.
        pose: where the robot was at `stamp_ns`; None if that is unknown.
    """

    event_id: str
    camera: str
    frame_id: str
    stamp_ns: int
    label: str
    start_ns: int
    end_ns: int
    confidence: float
    instruction_id: str = ""
    still_on: bool = False
    pose: Pose | None = None


@dataclass(frozen=True)
class AbandonedEvent:
    """An event that was under way and is given up without a response; it has no label.

    Attributes:
        camera: the camera that saw it begin.
        start_ns: its beginning, int64 ns, as in `EventSpan`.
        stamp_ns: stamp of the frame at which it was given up, int64 ns.
        too_long: True if it was open longer than `events.max_open_s`, False if a silence was longer
            than `events.grace_s`.
    """

    camera: str
    start_ns: int
    stamp_ns: int
    too_long: bool


@dataclass(frozen=True)
class Utterance:
    """Words that the robot says, and the frame that they are based on.

    Attributes:
        camera, frame_id, stamp_ns: of the frame at which the model decided to speak. `stamp_ns` is
            the stamp of that frame (int64 ns), not the current time.
        text: whole words; a word that was cut at the token limit is left out.
        confidence: in [0, 1].
        event_id: the event that this reports, or empty.
        query_id: the question that this answers, else the active watch; empty when the robot speaks
            unprompted.
        instruction_id: the standing instruction that this reports about, or empty.
        answered_by: who gave an answer if it was not the running model: "delegate" or "memory".
    """

    camera: str
    frame_id: str
    stamp_ns: int
    text: str
    confidence: float
    event_id: str = ""
    query_id: str = ""
    instruction_id: str = ""
    answered_by: str = ""


@dataclass(frozen=True)
class StepResult:
    """Everything that one tick produced.

    Attributes:
        session_id: the session of the tick; a restart or a backward clock jump opens a new session.
        tick: the tick.
        decisions: decision by camera name. A camera whose frame could not be used is listed in
            `faults` instead.
        utterances: what the robot says.
        events: the events that this tick completed.
        abandoned: the open events that this tick gave up. They are not stored in the memory.
        under_way_since: by camera name, when an event began that is not complete yet, int64 ns.
        faults: by camera name, one sentence that names the fault and its remedy.
        picture_vectors: by camera name, the picture as one vector of the vision tower, float32,
            (size,); empty where the model gives no vectors.
        seconds: wall time by stage ("vision", "prefill", "decode", "step"), for diagnostics and
            benchmarks only.
        unconfirmed: by camera name, how many reports were not spoken, because a second look did not
            confirm them; cameras without one are absent.
    """

    session_id: str
    tick: Tick
    decisions: Mapping[str, Decision]
    utterances: tuple[Utterance, ...] = ()
    events: tuple[EventSpan, ...] = ()
    abandoned: tuple[AbandonedEvent, ...] = ()
    under_way_since: Mapping[str, int] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    picture_vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    unconfirmed: Mapping[str, int] = field(default_factory=dict)
