"""The loop: sample → context → backbone → decision → events → memory. It only conducts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream_vlm.config.settings import Settings
from stream_vlm.loop.event_tracker import EventTracker
from stream_vlm.loop.history import History
from stream_vlm.loop.speech_gate import SpeechGate
from stream_vlm.model_protocol import Model, ModelStream, Turn, Upcoming, WatchRefused
from stream_vlm.types import (
    Decision,
    EventSpan,
    Frame,
    Limits,
    Query,
    State,
    StepResult,
    StreamError,
    Tick,
    Utterance,
)

PartialText = Callable[[str, str], None]
"""Called with (query_id, text so far) while an answer is being written."""

NO_LIMITS = Limits()

Summaries = Callable[[str], Sequence[str]]
"""Gives the lines of what a camera saw before, oldest first.

Asked within steps: it must not wait for a disk.
"""


class StepSink(Protocol):
    """Takes step results in order: the memory's writer."""

    def submit(self, result: StepResult) -> None: ...


class StreamingHarness:
    """Conducts ticks through the model, turns decisions into utterances and events and hands each
    result to the memory.

    `step` is synchronous and deterministic given its inputs; everything asynchronous is a thin
    thread around it. One thread owns a harness.
    """

    def __init__(
        self,
        settings: Settings,
        model: Model,
        session_id: str,
        memory: StepSink | None = None,
        summaries: Summaries | None = None,
    ) -> None:
        """Args: summaries: what a new context begins with, where `memory.in_prompt` is recall;
        while it gives nothing, or without it, what was said.
        """
        self.settings = settings
        self._summaries = summaries
        self.model = model
        self._memory = memory
        self._streams: dict[str, ModelStream] = {}
        self._watches: dict[str, Query] = {}
        self.open_session(session_id)

    def open_session(self, session_id: str) -> None:
        """Begin a new session: every camera's context, open event and refractory time are
        forgotten; the memory and the watches are not.
        """
        self.session_id = session_id
        self._trackers: dict[str, EventTracker] = {}
        self._gates: dict[str, SpeechGate] = {}
        self._histories: dict[str, History] = {}
        for stream in self._streams.values():
            stream.reset()

    def step(
        self,
        tick: Tick,
        on_partial: PartialText | None = None,
        limits: Limits = NO_LIMITS,
        upcoming: Tick | None = None,
    ) -> StepResult:
        """Look at every frame of `tick`, all cameras in one forward where the model can, and hand
        the outcome to the memory.

        A camera whose frame the model refuses is reported in `faults`; the others go on. A watch
        among the queries is active from this tick on, until another takes its camera, `end_watch`,
        or the model refuses it: then it is in `faults` too.

        Args:
            limits: what the step may cost.
            upcoming: the next tick, where it is known already: the model may begin with its
                pictures while it writes words.
        """
        started = time.perf_counter()
        questions = [query for query in tick.queries if not query.is_watch]
        queries = {
            frame.camera: next(
                (query for query in questions if query.camera in ("", frame.camera)), None
            )
            for frame in tick.frames
        }
        self._begin_watches(query for query in tick.queries if query.is_watch)
        looks: dict[str, NDArray[np.float32]] = {}
        turns = [
            self._turn(frame, queries[frame.camera], on_partial, limits, looks)
            for frame in tick.frames
        ]
        outcomes = self.model.step(turns, self._upcoming(upcoming, limits)) if turns else []
        decisions: dict[str, Decision] = {}
        utterances: list[Utterance] = []
        events: list[EventSpan] = []
        faults: dict[str, str] = {}
        for frame, decision in zip(tick.frames, outcomes, strict=True):
            if isinstance(decision, StreamError):
                faults[frame.camera] = str(decision)
                watch = self.watch(frame.camera)
                if watch is not None and isinstance(decision, WatchRefused):
                    self.end_watch(watch.query_id)
                continue
            query = queries[frame.camera]
            if query is None and self.watch(frame.camera) is None:
                decision = self._gate(frame.camera).suppress_repeat(decision, frame.stamp_ns)
            decisions[frame.camera] = decision
            event = None if query else self._tracker(frame.camera).observe(frame, decision)
            if event:
                events.append(event)
            self._history(frame.camera).saw(frame.stamp_ns)
            if decision.state is State.RESPONSE and decision.text:
                utterances.append(
                    _utterance(frame, decision, event, query or self.watch(frame.camera))
                )
                self._history(frame.camera).said(utterances[-1], query)
        result = StepResult(
            session_id=self.session_id,
            tick=tick,
            decisions=decisions,
            utterances=tuple(utterances),
            events=tuple(events),
            under_way_since={
                camera: tracker.under_way_since
                for camera, tracker in self._trackers.items()
                if tracker.under_way_since is not None
            },
            faults=faults,
            picture_vectors=looks,
            seconds={**self.model.seconds, "step": time.perf_counter() - started},
        )
        if self._memory is not None:
            self._memory.submit(result)
        return result

    def watch(self, camera: str) -> Query | None:
        """What is waited for at `camera`."""
        return self._watches.get(camera)

    @property
    def watching(self) -> frozenset[str]:
        """Query ids of the watches that are active at any camera."""
        return frozenset(watch.query_id for watch in self._watches.values())

    def end_watch(self, name: str) -> None:
        """End the watch of the camera `name`, or the watch whose query id is `name` on all its
        cameras; one that is over already is left alone.
        """
        self._watches = {
            camera: watch
            for camera, watch in self._watches.items()
            if name not in (camera, watch.query_id)
        }

    def _begin_watches(self, watches: Iterable[Query]) -> None:
        for watch in watches:
            for camera in [watch.camera] if watch.camera else self.settings.cameras:
                self._watches[camera] = watch

    def prepare(self) -> None:
        """Use the time until the next tick for what later steps will need; what is never called
        costs its step a little more.
        """
        for stream in self._streams.values():
            stream.prepare()

    def _turn(
        self,
        frame: Frame,
        query: Query | None,
        on_partial: PartialText | None,
        limits: Limits,
        looks: dict[str, NDArray[np.float32]] | None = None,
    ) -> Turn:
        watch = self.watch(frame.camera)
        gate = self._gate(frame.camera)
        on_text = None
        if query is not None and on_partial is not None:
            query_id = query.query_id

            def on_text(text: str) -> None:
                on_partial(query_id, text)

        on_looks = None
        if looks is not None and self.settings.memory.picture_vectors:

            def on_looks(vector: NDArray[np.float32]) -> None:
                looks[frame.camera] = vector

        return Turn(
            self.stream(frame.camera),
            frame,
            query,
            lambda decision: gate.gate_state(
                decision, frame.stamp_ns, asked=query is not None, watched=watch is not None
            ),
            on_text,
            limits,
            self._before(frame.camera),
            watch,
            on_looks,
        )

    def _before(self, camera: str) -> Callable[[], Sequence[str]] | None:
        """What a new context of `camera` begins with."""
        in_prompt, said, summaries = (
            self.settings.memory.in_prompt,
            self._history(camera).lines,
            self._summaries,
        )
        if in_prompt == "off":
            return None
        if in_prompt == "full_history" or summaries is None:
            return said
        return lambda: summaries(camera) or said()

    def stream(self, camera: str) -> ModelStream:
        """The model's running context for `camera`, opened when it is first asked for."""
        if camera not in self._streams:
            self._streams[camera] = self.model.open_stream(camera)
        return self._streams[camera]

    def _upcoming(self, tick: Tick | None, limits: Limits) -> Upcoming | None:
        if tick is None:
            return None
        return lambda: [self._turn(frame, None, None, limits) for frame in tick.frames]

    def _gate(self, camera: str) -> SpeechGate:
        if camera not in self._gates:
            self._gates[camera] = SpeechGate(self.settings.decision, self.model.activity_threshold)
        return self._gates[camera]

    def _history(self, camera: str) -> History:
        return self._histories.setdefault(camera, History())

    def _tracker(self, camera: str) -> EventTracker:
        if camera not in self._trackers:
            self._trackers[camera] = EventTracker(self.session_id, camera, self.settings.events)
        return self._trackers[camera]


def _utterance(
    frame: Frame, decision: Decision, event: EventSpan | None, query: Query | None
) -> Utterance:
    return Utterance(
        camera=frame.camera,
        frame_id=frame.frame_id,
        stamp_ns=frame.stamp_ns,
        text=decision.text,
        confidence=decision.confidence,
        event_id=event.event_id if event else "",
        query_id=query.query_id if query else "",
    )
