"""The interface between the loop and a model: streams, turns and their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from stream_vlm.types import Decision, Frame, Instruction, Limits, Query, State, StreamError

SILENT = Decision(State.SILENCE, dict.fromkeys(State, 0.0) | {State.SILENCE: 1.0}, confidence=1.0)
"""The decision where the model is not asked."""


class WatchRefused(StreamError):
    """The model cannot follow a watch; the message names the model or the limit."""


class ModelAway(StreamError):
    """The model cannot be asked now and may be asked later, because it runs on a server."""


class ModelStream(Protocol):
    """The context of one camera in a model."""

    def reset(self) -> None:
        """Clear the context."""
        ...

    def prepare(self) -> None:
        """Do a small part of the work of a later step in advance.

        It is called between steps. It never changes a result, only the duration of a later step.
        """
        ...


def unchanged(decision: Decision) -> Decision:
    """A gate that lets every decision through."""
    return decision


@dataclass(frozen=True)
class Judgement:
    """An instruction that the model judges at a turn.

    Attributes:
        instruction: what to report.
        reported: what was reported about it last; empty if nothing was.
        reported_ns: stamp of the frame of that report, int64 ns.
        gate: may change the state before any text is written.
        verify: whether a response gets a second look: the model is asked whether its words are
            true, and `types.Decision.verified` of the outcome is the probability of yes.
    """

    instruction: Instruction
    reported: str = ""
    reported_ns: int = 0
    gate: Callable[[Decision], Decision] = unchanged
    verify: bool = False


@dataclass(frozen=True)
class Turn:
    """The input of one stream in a step.

    Attributes:
        stream: a stream that the model opened.
        frame: the new frame of the camera.
        query: a question that must be answered at this frame.
        watch: the watch that is active for the camera. The stream adds it to its context if it is
            not there yet, and removes a watch that has ended.
        gate: may change the state of the decision before any text is written.
        on_text: called with the text so far, again and again while the text is written.
        limits: limits of the step.
        memory: gives what happened before, one line for each entry, oldest first. It is called when
            a new context or a new chunk begins. None if the model is to read nothing of it.
        with_vector: whether the outcome must contain the picture's vector.
        judgements: the instructions that are judged at this turn, each on its own; only for a model
            that is `JudgesInstructions`. Such a model gets no `watch`: a watch is one of these.
    """

    stream: ModelStream
    frame: Frame
    _: KW_ONLY
    query: Query | None = None
    watch: Query | None = None
    gate: Callable[[Decision], Decision] = unchanged
    on_text: Callable[[str], None] | None = None
    limits: Limits = Limits()
    memory: Callable[[], Sequence[str]] | None = None
    with_vector: bool = False
    judgements: tuple[Judgement, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """The result of one turn.

    Attributes:
        decision: the decision after the turn's gate, with its words. For a model that is
            `JudgesInstructions` it is the answer to the turn's question, else `SILENT`.
        picture_vector: the picture as one vector, float32, (size,), length 1; None if the turn did
            not ask for it or the model has none.
        judged: the decision about each judgement of the turn, after its gate, by instruction id.
    """

    decision: Decision
    picture_vector: NDArray[np.float32] | None = None
    judged: Mapping[str, Decision] = field(default_factory=dict)


Upcoming = Callable[[], Sequence[Turn]]
"""Gives the turns of the next step, if they are already known."""


class Model(Protocol):
    """A loaded model that any number of cameras share."""

    @property
    def model_id(self) -> str:
        """Name and digest of the model, as memory records name it."""
        ...

    @property
    def reads_memory(self) -> bool:
        """Whether its prompt has a place for what the memory found (`types.RecalledContext`)."""
        ...

    @property
    def activity_threshold(self) -> float:
        """Calibrated minimum of P(standby) + P(response) to speak unprompted; 0 if uncalibrated."""
        ...

    @property
    def seconds(self) -> Mapping[str, float]:
        """Wall time of the last step by stage, seconds."""
        ...

    def open_stream(self, camera: str) -> ModelStream:
        """A new stream for `camera`, with an empty context."""
        ...

    def unknown_words(self, text: str) -> Sequence[str]:
        """Words of a question that the model cannot know, because it has no token for them.

        Any thread may call this.
        """
        ...

    def step(
        self, turns: Sequence[Turn], upcoming: Upcoming | None = None
    ) -> list[Outcome | StreamError]:
        """Run one step: one turn in each of several streams, in one forward pass if possible.

        Args:
            turns: the turns, each of a different stream.
            upcoming: called at most once, while words are decoded. The model may encode the
                pictures of these turns in advance.

        Returns:
            For each turn its outcome, or the error of its stream. An error of one stream does not
            affect the other streams.
        """
        ...


class DeviceModel(Model, Protocol):
    """A model that also reports its device and whether smaller pictures cost less."""

    @property
    def device(self) -> str:
        """The device, for example "cpu" or "cuda:0"."""
        ...

    @property
    def takes_any_size(self) -> bool:
        """Whether smaller pictures cost less; False for a model with one fixed picture size."""
        ...

    @property
    def engine(self) -> str:
        """A description of the model and its context, for people."""
        ...


class Writing(Protocol):
    """A text that a model writes between the steps of its streams, one slice of work at a time."""

    @property
    def text(self) -> str:
        """The whole words that are written so far."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether the text is complete."""
        ...

    def advance(self) -> None:
        """Do the next slice of work, about as long as the decoding of one token.

        It returns when the device has finished the slice.

        Raises:
            StreamError: the model's logits are not finite, or memory ran out. The text is lost; the
                streams are unchanged.
        """
        ...


class TextWriter(Protocol):
    """Writes texts with one instruction."""

    def begin(self, lines: Sequence[str]) -> Writing:
        """Begin a text about `lines`; if they do not all fit, only the newest are read."""
        ...


class PictureWriter(Protocol):
    """Writes texts about pictures with one instruction."""

    def begin(self, frame: Frame) -> Writing:
        """Begin a text about `frame`.

        Raises:
            StreamError: the picture cannot be processed.
        """
        ...


@runtime_checkable
class KnowsItsRate(Protocol):
    """A model that knows how many ticks a second it was trained with.

    A model of your own that does not say it runs at 2 Hz where `stream.rate_hz` is 0.
    """

    @property
    def rate_hz(self) -> float:
        """Ticks a second in training; the setting `stream.rate_hz` 0 means this rate."""
        ...


@runtime_checkable
class FollowsWatches(Protocol):
    """A model that says whether it can be told what to watch for.

    A model of your own that does not say so can.
    """

    @property
    def follows_watches(self) -> bool:
        """Whether its prompt has a place for a watch; if not, every `Turn.watch` is refused."""
        ...


@runtime_checkable
class JudgesInstructions(Protocol):
    """A model that decides about each standing instruction on its own.

    An instruct model that was not tuned for streams does so. A model that was tuned with state
    markers makes one decision for each picture.
    """

    @property
    def judges_instructions(self) -> bool:
        """Whether the loaded checkpoint does so."""
        ...


def judges_instructions(model: Model) -> bool:
    """Whether `model` decides about each instruction on its own."""
    return isinstance(model, JudgesInstructions) and model.judges_instructions


@runtime_checkable
class ReportsHealth(Protocol):
    """A model that tells how it does, for /diagnostics. Any thread may ask."""

    @property
    def fault(self) -> str:
        """Why the model cannot be asked now, one sentence with the remedy; or empty."""
        ...

    @property
    def figures(self) -> Mapping[str, object]:
        """Counts and times by name."""
        ...


@runtime_checkable
class WritesTexts(Protocol):
    """A model that can also write texts by instruction, between its steps and on their thread."""

    @property
    def model_id(self) -> str:
        """Name and digest of the model, as memory records name it."""
        ...

    def text_writer(self, task: str, most_read: int, most_written: int) -> TextWriter:
        """A writer for one instruction.

        Args:
            task: the instruction in plain words.
            most_read: the most tokens of lines that are read for a text.
            most_written: the most tokens of a text.

        Raises:
            StreamError: the model does not follow instructions, or its context is too short; the
                message says which, and the remedy.
        """
        ...


@runtime_checkable
class DescribesPictures(Protocol):
    """A model that can write texts about a picture, between its steps and on their thread."""

    @property
    def model_id(self) -> str:
        """Name and digest of the model, as memory records name it."""
        ...

    def picture_writer(self, task: str, most_written: int) -> PictureWriter:
        """A writer for one instruction.

        Args:
            task: the instruction in plain words.
            most_written: the most tokens of a text.

        Raises:
            StreamError: the model does not follow instructions; the message says why, and the
                remedy.
        """
        ...


def one_by_one(
    turns: Sequence[Turn], take: Callable[[Turn], Outcome]
) -> list[Outcome | StreamError]:
    """`Model.step` for a model that cannot batch streams: one turn after the other."""
    outcomes: list[Outcome | StreamError] = []
    for turn in turns:
        try:
            outcomes.append(take(turn))
        except StreamError as error:
            outcomes.append(error)
    return outcomes
