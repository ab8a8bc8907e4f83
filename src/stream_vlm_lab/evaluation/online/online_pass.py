"""One online pass: a watcher is shown each frame once, in order, and a question only at the tick at
which it is asked.
"""

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
    """A question put to the stream at `t` (seconds of stream).

    Attributes:
        answer: the right answer; empty where nobody knows it or a scorer of its own judges.
        kind: what sort of question it is, for figures by kind.
        is_watch: "tell me when": it is not answered at once but stays active.
        until: when a watch ends by itself, seconds of stream; None where it stays until another
            takes its place.
    """

    t: float
    text: str
    answer: str = ""
    kind: str = ""
    is_watch: bool = False
    until: float | None = None


@dataclass(frozen=True)
class Answer:
    """What was said to `question`, at `t` (seconds of stream)."""

    question: TimedQuestion
    t: float
    text: str


@dataclass(frozen=True)
class Look:
    """What a watcher made of one frame; times in seconds of stream.

    Attributes:
        answer: the words for the question that came with the frame, which are then not among
            `utterances`.
        fault: why the frame or the question could not be used; empty where it could.
        refused: True where the question was a watch and the watcher cannot wait.
    """

    state: str
    utterances: Sequence[TimedUtterance] = ()
    events: Sequence[TimedEvent] = ()
    answer: str = ""
    step_s: float = 0.0
    fault: str = ""
    refused: bool = False


class Watcher(Protocol):
    """Anything that can be shown a stream: the harness with a model, or a baseline."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def begin(self, session: str) -> None:
        """Forget everything; a new stream begins."""
        ...

    def look(self, index: int, t: float, frame: Frame, question: TimedQuestion | None) -> Look:
        """Take in the frame number `index`, taken `t` seconds into the stream, and the question
        that is asked now, if any.
        """
        ...


@dataclass
class Watched:
    """Everything one watcher made of one stream; times in seconds of stream.

    Attributes:
        utterances: what was said unasked.
        asked_at: ticks that carried a question, which no score of states looks at.
        unanswered: questions that came after the last frame.
        faults: how often each reason kept a frame or a question from being used.
        refused: watches that the watcher cannot be told, with the reason of each.
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
    """One pass of one watcher over one stream, a frame at a time, so that several watchers can be
    shown the same pictures as they come.
    """

    def __init__(self, watcher: Watcher, questions: Sequence[TimedQuestion], session: str) -> None:
        watcher.begin(session)
        self.watched = Watched()
        self._watcher = watcher
        self._waiting = deque(sorted(questions, key=lambda question: question.t))
        self._first_ns: int | None = None

    def show(self, frame: Frame) -> None:
        """Show the next frame.

        A question enters with the first frame at or after its time; of several, the later ones wait
        for the next frames.
        """
        self._first_ns = frame.stamp_ns if self._first_ns is None else self._first_ns
        t = seconds_of_stream(frame.stamp_ns, self._first_ns)
        question = (
            self._waiting.popleft() if self._waiting and self._waiting[0].t <= t + 1e-6 else None
        )
        watched = self.watched
        look = self._watcher.look(len(watched.states), t, frame, question)
        watched.states.append(TimedState(t, look.state))
        watched.utterances += look.utterances
        watched.events += look.events
        watched.step_s.append(look.step_s)
        if look.fault:
            watched.faults[look.fault] += 1
        if question is not None and look.refused:
            watched.refused.append((question, look.fault))
        if question is not None and not question.is_watch:
            watched.asked_at.add(t)
            watched.answers.append(Answer(question, t, look.answer))

    def end(self) -> Watched:
        """Everything that was made of the stream; what was never asked is in `unanswered`."""
        self.watched.unanswered = list(self._waiting)
        return self.watched


def watch_stream(
    watcher: Watcher, frames: Iterable[Frame], questions: Sequence[TimedQuestion], session: str
) -> Watched:
    """Show `frames` of one camera, in order of time, to one watcher; see `OnlinePass`."""
    return watch_together([watcher], frames, questions, session)[watcher.name]


def watch_together(
    watchers: Sequence[Watcher],
    frames: Iterable[Frame],
    questions: Sequence[TimedQuestion],
    session: str,
) -> dict[str, Watched]:
    """Show the same frames to several watchers, each of which knows nothing of the others; what
    they made of it, by name.
    """
    passes = {watcher.name: OnlinePass(watcher, questions, session) for watcher in watchers}
    for frame in frames:
        for each in passes.values():
            each.show(frame)
    return {name: each.end() for name, each in passes.items()}


class HarnessWatcher:
    """The harness that the node runs, with `model`, no memory and no look ahead.

    `name` is what reports call it; each stream is a session of its own.
    """

    def __init__(self, name: str, settings: Settings, model: Model) -> None:
        self.name = name
        self._harness = StreamingHarness(settings, model, "begin")
        self._first_ns = 0
        self._watch_until: float | None = None

    def begin(self, session: str) -> None:
        """Open a new session with an empty context, in which nothing is waited for."""
        self._end_watches()
        self._harness.open_session(session)

    def _end_watches(self) -> None:
        for watch in self._harness.watching:
            self._harness.end_watch(watch)
        self._watch_until = None

    def look(self, index: int, t: float, frame: Frame, question: TimedQuestion | None) -> Look:
        """Take one step; a frame that the model refuses counts as silence and is named."""
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
        result = self._harness.step(Tick(index, frame.stamp_ns, (frame,), queries))
        self._harness.prepare()
        utterances, events, states = records_of(result, self._first_ns)
        state = states[0].state if states and isinstance(states[0], TimedState) else "silence"
        said = [record for record in utterances if isinstance(record, TimedUtterance)]
        asked = question is not None and not question.is_watch
        return Look(
            state=state,
            utterances=() if asked else said,
            events=[record for record in events if isinstance(record, TimedEvent)],
            answer=said[0].text if asked and said else "",
            step_s=result.seconds["step"],
            fault=next(iter(result.faults.values()), ""),
            refused=question is not None
            and question.is_watch
            and f"q{index}" not in self._harness.watching,
        )
