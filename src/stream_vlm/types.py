"""The words everything speaks: frames come in as ticks, decisions and events go out as step
results.

Nothing here imports anything of ours, so every room can use these types without knowing another
room. Time is int64 nanoseconds of the evidence's own clock (ROS time, a bag's clock, or a video's
timeline), never the wall clock of the computer that looks at it.
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
    """Base of every error this package raises on purpose; the message names the thing, the value
    and the remedy.
    """


class StaleFrame(StreamError):
    """A frame whose stamp is not after the one it would follow."""


class State(str, Enum):
    """What a streaming model says about one tick (Streamo, arXiv 2512.21334; Streaming Harness,
    arXiv 2606.08615).
    """

    SILENCE = "silence"
    """Nothing that deserves a word."""
    STANDBY = "standby"
    """Something is under way and not complete yet."""
    RESPONSE = "response"
    """Something is complete, or a question can be answered: text follows."""


@dataclass(frozen=True)
class Pose:
    """Where the robot (or the camera) was: position in metres, orientation as a unit quaternion, in
    a named frame (REP-105).
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
    """One picture of one camera.

    Attributes:
        camera: the camera's name in the settings, not its topic.
        stamp_ns: int64 nanoseconds, when the picture was taken.
        frame_id: the optical frame the picture was taken in (REP-103), copied from the message
            header; may be empty.
        image: uint8 RGB, (H, W, 3), C-contiguous.
        pose: where the robot was at `stamp_ns`, or None when that is not known.
    """

    camera: str
    stamp_ns: int
    frame_id: str
    image: NDArray[np.uint8]
    pose: Pose | None = None


@dataclass(frozen=True)
class RecalledLine:
    """Something of the past, as a line for the model: what, from when to when (int64 ns on the
    evidence's clock).
    """

    start_ns: int
    end_ns: int
    text: str


@dataclass(frozen=True)
class RecalledContext:
    """What the memory has to say about a question.

    Attributes:
        computed: an answer that was worked out from the records and not by a model; may be empty.
        remembered: what bears on the question, best first.
    """

    computed: str = ""
    remembered: tuple[RecalledLine, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.computed or self.remembered)


@dataclass(frozen=True)
class Query:
    """A question or instruction that enters the stream.

    Attributes:
        query_id: unique within a memory file.
        text: the user's words.
        stamp_ns: int64 nanoseconds, when it was asked.
        camera: the camera it is about; empty means every camera.
        is_watch: True for "tell me when": nothing is answered now, the stream goes on under this
            instruction until another replaces it.
        past: what was remembered about it when it was asked; a model that has a place for it reads
            as much as the settings allow.
    """

    query_id: str
    text: str
    stamp_ns: int
    camera: str = ""
    is_watch: bool = False
    past: RecalledContext = RecalledContext()


@dataclass(frozen=True)
class Limits:
    """What a step may cost at most while steps run over their time; the default holds nothing back.

    Attributes:
        picture_share: share in (0, 1] of the pixels that a picture may have; a model that takes
            pictures of one size only is not held to it.
        new_tokens: longest utterance in tokens; None for what the settings say.
    """

    picture_share: float = 1.0
    new_tokens: int | None = None


@dataclass(frozen=True)
class Tick:
    """One beat of the stream: the newest unseen frame of each camera, and the queries that came in
    since the last beat.

    A camera without a new frame is absent from `frames`. `index` counts from 0 within a session.
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
        probabilities: probability of each state; they sum to 1. A two-state model leaves STANDBY at
            0.
        text: the words that follow RESPONSE; empty for the other states.
        confidence: in [0, 1], the probability of `state` times, for a response, the mean
            probability of its words.
    """

    state: State
    probabilities: Mapping[State, float]
    text: str = ""
    confidence: float = 0.0


@dataclass(frozen=True)
class EventSpan:
    """Something that happened: what, from when to when, how sure.

    Attributes:
        event_id: unique within a memory file.
        camera: the camera that saw it.
        frame_id: optical frame of the evidence.
        stamp_ns: stamp of the evidence, the frame that showed it complete.
        label: what happened, in the model's words.
        start_ns, end_ns: from when to when, ns on the evidence's clock; `end_ns` is at most
            `stamp_ns` (`events.EventTracker`).
        confidence: in [0, 1].
    """

    event_id: str
    camera: str
    frame_id: str
    stamp_ns: int
    label: str
    start_ns: int
    end_ns: int
    confidence: float


@dataclass(frozen=True)
class Utterance:
    """Words the robot says, with the evidence they rest on.

    Attributes:
        camera, frame_id, stamp_ns: of the frame that made the model speak, never "now".
        text: whole words, never a cut one.
        confidence: in [0, 1].
        event_id: the event this reports, or empty.
        query_id: the question this answers, else the watch that is active, or empty when unasked.
    """

    camera: str
    frame_id: str
    stamp_ns: int
    text: str
    confidence: float
    event_id: str = ""
    query_id: str = ""


@dataclass(frozen=True)
class StepResult:
    """All that one tick led to.

    Attributes:
        session_id: the session the tick belongs to; a restart or a backward clock jump opens a new
            one.
        decisions: by camera name; a camera whose frame could not be used is absent and stands in
            `faults` instead.
        events: spans completed by this tick.
        under_way_since: by camera name, stamp (ns) of the first frame of an event that is not
            complete yet.
        faults: by camera name, one sentence that names the fault and its remedy.
        picture_vectors: by camera name, what the vision tower made of its picture as one vector,
            float32, (size,); absent where a model gives none.
        seconds: wall time spent by stage ("vision", "prefill", "decode", "step"), for diagnostics
            and benchmarks only.
    """

    session_id: str
    tick: Tick
    decisions: Mapping[str, Decision]
    utterances: tuple[Utterance, ...] = ()
    events: tuple[EventSpan, ...] = ()
    under_way_since: Mapping[str, int] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    picture_vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
