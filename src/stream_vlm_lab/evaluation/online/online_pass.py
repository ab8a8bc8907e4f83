"""One online pass: a model gets each frame once, in order, and each question at its own time."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from stream_vlm.config.settings import Settings
from stream_vlm.loop.harness import StreamingHarness
from stream_vlm.model_protocol import Model
from stream_vlm.run_records import (
    TimedEvent,
    TimedState,
    TimedUtterance,
    records_of,
    seconds_of_stream,
)
from stream_vlm.types import Frame, Query, Tick


@dataclass(frozen=True)
class TimedQuestion:
    """A question that is asked at `t` seconds of stream time.

    Attributes:
        t: when it is asked, in seconds of stream time.
        text: the question.
        answer: the correct answer; empty if it is unknown or scored elsewhere.
        kind: kind of question, for scores by kind.
        is_watch: True for "tell me when": the question stays active instead of being answered at
            once.
        until: when a watch ends, in seconds of stream time; None if it stays active until the next
            one.
    """

    t: float
    text: str
    answer: str = ""
    kind: str = ""
    is_watch: bool = False
    until: float | None = None


@dataclass(frozen=True)
class Answer:
    """The answer to `question`, said at `t` seconds of stream time."""

    question: TimedQuestion
    t: float
    text: str


@dataclass(frozen=True)
class FrameResult:
    """What a model said about one frame; times in seconds of stream time.

    Attributes:
        state: the decided state, as a lower-case word.
        utterances: what was said without a question.
        events: events that ended with this frame.
        answer: the answer to the question of this frame; it is not among `utterances`.
        step_s: duration of the step in seconds of wall time.
        fault: why the frame or the question could not be used; empty if it could.
        refused: True if the question was a watch and the model does not support watches.
    """

    state: str
    utterances: Sequence[TimedUtterance] = ()
    events: Sequence[TimedEvent] = ()
    answer: str = ""
    step_s: float = 0.0
    fault: str = ""
    refused: bool = False


class ExaminedModel(Protocol):
    """Interface of everything that can be examined: the harness with a model, or a baseline."""

    @property
    def name(self) -> str:
        """Name in reports."""
        ...

    def start_stream(self, session: str) -> None:
        """Start a new stream and forget the previous one."""
        ...

    def step(
        self, index: int, t: float, frame: Frame, question: TimedQuestion | None
    ) -> FrameResult:
        """Process one frame.

        Args:
            index: number of the frame in the stream.
            t: time of the frame in seconds of stream time.
            frame: the frame.
            question: the question that is asked now, or None.
        """
        ...


@dataclass
class StreamResult:
    """Everything that one model said about one stream; times in seconds of stream time.

    Attributes:
        states: the decided state of each frame.
        utterances: what was said without a question.
        events: the reported events.
        answers: the answers to questions.
        asked_at: times of frames with a question; scores of states leave them out.
        unanswered: questions that came after the last frame.
        step_s: duration of each step in seconds of wall time.
        faults: how often each reason kept a frame or a question from being used.
        refused: watches that the model does not support, with the reason for each.
    """

    states: list[TimedState] = field(default_factory=list)
    utterances: list[TimedUtterance] = field(default_factory=list)
    events: list[TimedEvent] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    asked_at: set[float] = field(default_factory=set)
    unanswered: list[TimedQuestion] = field(default_factory=list)
    step_s: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[TimedQuestion, str]] = field(default_factory=list)


class OnlinePass:
    """One pass of one model over one stream.

    Frames are given one at a time, so that several models can run on the same frames.
    """

    def __init__(
        self, model: ExaminedModel, questions: Sequence[TimedQuestion], session: str
    ) -> None:
        model.start_stream(session)
        self.result = StreamResult()
        self._model = model
        self._waiting = deque(sorted(questions, key=lambda question: question.t))
        self._first_ns: int | None = None

    def show(self, frame: Frame) -> None:
        """Give the next frame to the model.

        A question is asked with the first frame at or after its time. If several questions are due,
        the later ones wait for the next frames.
        """
        self._first_ns = frame.stamp_ns if self._first_ns is None else self._first_ns
        t = seconds_of_stream(frame.stamp_ns, self._first_ns)
        question = (
            self._waiting.popleft() if self._waiting and self._waiting[0].t <= t + 1e-6 else None
        )
        result = self.result
        output = self._model.step(len(result.states), t, frame, question)
        result.states.append(TimedState(t, output.state))
        result.utterances += output.utterances
        result.events += output.events
        result.step_s.append(output.step_s)
        if output.fault:
            result.faults[output.fault] += 1
        if question is not None and output.refused:
            result.refused.append((question, output.fault))
        if question is not None and not question.is_watch:
            result.asked_at.add(t)
            result.answers.append(Answer(question, t, output.answer))

    def end(self) -> StreamResult:
        """Finish the pass; questions that were never asked are in `unanswered` of the result."""
        self.result.unanswered = list(self._waiting)
        return self.result


def run_stream(
    model: ExaminedModel, frames: Iterable[Frame], questions: Sequence[TimedQuestion], session: str
) -> StreamResult:
    """Run one model over the `frames` of one camera, in order of time; see `OnlinePass`."""
    return run_together([model], frames, questions, session)[model.name]


def run_together(
    models: Sequence[ExaminedModel],
    frames: Iterable[Frame],
    questions: Sequence[TimedQuestion],
    session: str,
) -> dict[str, StreamResult]:
    """Run several models over the same frames, independently of each other.

    Returns:
        The result of each model by its name.
    """
    passes = {model.name: OnlinePass(model, questions, session) for model in models}
    for frame in frames:
        for online_pass in passes.values():
            online_pass.show(frame)
    return {name: online_pass.end() for name, online_pass in passes.items()}


class HarnessModel:
    """A model in the harness that the node uses, without memory and without prefetching.

    Every stream is a session of its own. `name` is the name in reports.
    """

    def __init__(self, name: str, settings: Settings, model: Model) -> None:
        self.name = name
        self.harness = StreamingHarness(settings, model, "begin")
        self._first_ns = 0
        self._watch_until: float | None = None

    def start_stream(self, session: str) -> None:
        """Open a new session with an empty context and no watch."""
        self._end_watches()
        self.harness.open_session(session)

    def last_events(self) -> list[TimedEvent]:
        """End the events that were reported and still go on, because no frame follows."""
        result = self.harness.finish()
        if result is None:
            return []
        _, events, _ = records_of(result, self._first_ns)
        return [record for record in events if isinstance(record, TimedEvent)]

    def _end_watches(self) -> None:
        for watch in self.harness.watching:
            self.harness.end_watch(watch)
        self._watch_until = None

    def step(
        self, index: int, t: float, frame: Frame, question: TimedQuestion | None
    ) -> FrameResult:
        """Run one step; a frame that the model refuses counts as silence and sets `fault`."""
        if index == 0:
            self._first_ns = frame.stamp_ns
        if self._watch_until is not None and t > self._watch_until:
            self._end_watches()
        if question is not None and question.is_watch:
            self._watch_until = question.until
        queries = (
            (Query(f"q{index}", question.text, frame.stamp_ns, frame.camera, question.is_watch),)
            if question
            else ()
        )
        result = self.harness.step(Tick(index, frame.stamp_ns, (frame,), queries))
        self.harness.prepare()
        utterances, events, states = records_of(result, self._first_ns)
        state = states[0].state if states and isinstance(states[0], TimedState) else "silence"
        said = [record for record in utterances if isinstance(record, TimedUtterance)]
        asked = question is not None and not question.is_watch
        return FrameResult(
            state=state,
            utterances=() if asked else said,
            events=[record for record in events if isinstance(record, TimedEvent)],
            answer=said[0].text if asked and said else "",
            step_s=result.seconds["step"],
            fault=next(iter(result.faults.values()), ""),
            refused=question is not None
            and question.is_watch
            and f"q{index}" not in self.harness.watching,
        )
