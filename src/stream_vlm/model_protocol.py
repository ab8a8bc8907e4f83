"""What a model must be so that the harness can conduct it: streams that it opens, and turns that it
takes in them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from stream_vlm.types import Decision, Frame, Limits, Query, State, StreamError

SILENT = Decision(State.SILENCE, dict.fromkeys(State, 0.0) | {State.SILENCE: 1.0}, confidence=1.0)
"""The decision where the model is not asked."""


class WatchRefused(StreamError):
    """A watch that the model cannot follow; the message names the model or the limit."""


class ModelStream(Protocol):
    """One camera's running context over a model."""

    def reset(self) -> None:
        """Forget everything seen."""
        ...

    def prepare(self) -> None:
        """Do a little of what a later step will need; called between steps, never needed for a
        right answer.
        """
        ...


def unchanged(decision: Decision) -> Decision:
    """A gate that lets every decision through."""
    return decision


@dataclass(frozen=True)
class Turn:
    """What one stream is to do in a step.

    Attributes:
        stream: a stream that the model opened.
        frame: the frame that it sees.
        query: a question to be answered now.
        watch: what the camera watches for at this tick. The stream writes it into its context where
            it is not there yet, and drops one that is over.
        gate: may change the decided state before any text is written.
        on_text: hears the text so far while it is written.
        limits: what the step may cost.
        memory: gives what happened before, one line each, oldest first. It is called when a context
            is begun anew. None where nothing is to be read.
        with_vector: whether the outcome is to carry the picture's vector.
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


@dataclass(frozen=True)
class Outcome:
    """What one turn led to.

    Attributes:
        decision: the decision, after the turn's gate, with its words.
        picture_vector: the picture as one vector, float32, (size,), length 1; None where the turn
            did not ask for it or the model has none.
    """

    decision: Decision
    picture_vector: NDArray[np.float32] | None = None


Upcoming = Callable[[], Sequence[Turn]]
"""Gives the turns of the next step, where they are known already."""


class Model(Protocol):
    """A loaded model that any number of cameras share."""

    @property
    def model_id(self) -> str: ...

    @property
    def reads_memory(self) -> bool:
        """Whether it reads what a question brings of the past (`stream.RecalledContext`); others are asked
        without.
        """
        ...

    @property
    def activity_threshold(self) -> float:
        """Probability of anything happening (standby or response) below which it had better not
        speak unasked, 0..1; 0 where nobody found out.
        """
        ...

    @property
    def seconds(self) -> Mapping[str, float]:
        """Wall time of the last step by stage."""
        ...

    def open_stream(self, camera: str) -> ModelStream: ...

    def unknown_words(self, text: str) -> Sequence[str]:
        """Words of a question that it cannot know, because it has no token for them.

        Any thread may ask.
        """
        ...

    def step(
        self, turns: Sequence[Turn], upcoming: Upcoming | None = None
    ) -> list[Outcome | StreamError]:
        """Take one turn in each of several different streams, together where the model can.

        Args:
            upcoming: asked at most once, while words are written; a model may begin with these
                turns' pictures.

        Returns:
            For each turn its outcome, or why its frame cannot be used; the other streams go on.
        """
        ...


class Writing(Protocol):
    """A text while a model writes it, beside its streams."""

    @property
    def text(self) -> str:
        """What is written of it, by whole words."""
        ...

    @property
    def is_over(self) -> bool: ...

    def advance(self) -> None:
        """Do the next slice of the work, no longer than about a token takes; waits until the device
        has done it.

        Raises:
            StreamError: the model's numbers are not finite, or memory ran out; the text is lost,
                the streams are as they were.
        """
        ...


class TextWriter(Protocol):
    """Writes texts for one task."""

    def begin(self, lines: Sequence[str]) -> Writing:
        """A text about `lines`, of which the newest are read where they are too many."""
        ...


@runtime_checkable
class WritesTexts(Protocol):
    """A model that can also be told in words what to write, between its steps and on the same
    thread.
    """

    @property
    def model_id(self) -> str: ...

    def text_writer(self, task: str, most_read: int, most_written: int) -> TextWriter:
        """A writer for `task`, an instruction in plain words.

        Args:
            most_read: tokens of lines that it reads for a text.
            most_written: tokens of a text at most.

        Raises:
            StreamError: this model was not made to follow instructions, or reads too little; the
                message says which and the remedy.
        """
        ...


def one_by_one(
    turns: Sequence[Turn], take: Callable[[Turn], Outcome]
) -> list[Outcome | StreamError]:
    """`Model.step` for a model without a forward pass for several streams: one turn at a time."""
    outcomes: list[Outcome | StreamError] = []
    for turn in turns:
        try:
            outcomes.append(take(turn))
        except StreamError as error:
            outcomes.append(error)
    return outcomes
