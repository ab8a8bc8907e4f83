"""The loop of one step: frames go to the model, decisions become utterances and events."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from stream_vlm.config.settings import Settings
from stream_vlm.loop.camera_state import CameraState
from stream_vlm.loop.event_tracker import EventTracker, Observation
from stream_vlm.loop.speech_gate import SpeechGate
from stream_vlm.model_protocol import Model, ModelStream, Outcome, Turn, Upcoming, WatchRefused
from stream_vlm.types import (
    AbandonedEvent,
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
"""Gives the lines that summarise what a camera saw before, oldest first.

It is called within a step, so it must not wait for a disk.
"""


class StreamingHarness:
    """Steps the model on ticks and turns its decisions into utterances and events.

    `step` is synchronous, and deterministic given its inputs. It stores nothing: the caller hands
    the result to the memory. One thread owns a harness.
    """

    def __init__(
        self,
        settings: Settings,
        model: Model,
        session_id: str,
        summaries: Summaries | None = None,
    ) -> None:
        """Begin with the session `session_id`.

        Args:
            settings: read at every step, so a changed value is used from the next step on.
            model: the loaded model.
            session_id: name of the first session.
            summaries: gives the lines that a new context begins with if `memory.in_prompt` is
                recall. Without it, or if it gives no lines, a new context begins with the
                utterances of the session.
        """
        self.settings = settings
        self.model = model
        self.session_id = session_id
        self._summaries = summaries
        self._cameras: dict[str, CameraState] = {}

    def open_session(self, session_id: str) -> None:
        """Begin a new session: contexts, open events and refractory times are forgotten.

        Watches stay active.
        """
        self.session_id = session_id
        for camera, state in self._cameras.items():
            state.begin_session(self._new_gate(), self._new_tracker(camera))

    def step(
        self,
        tick: Tick,
        on_partial: PartialText | None = None,
        limits: Limits = NO_LIMITS,
        upcoming: Tick | None = None,
    ) -> StepResult:
        """Process every frame of `tick`, all cameras in one forward pass if the model can.

        A camera whose frame the model refuses is reported in `faults`; the other cameras are not
        affected. A watch among the queries is active from this tick on. It ends when another watch
        replaces it for its camera, by `end_watch`, or when the model refuses it; then it is in
        `faults`, too, and the frame is processed without it.

        Args:
            tick: the newest frame of each camera, and the new queries.
            on_partial: called with the answer so far while it is written.
            limits: limits of the step.
            upcoming: the next tick, if it is already known. The model may encode its pictures while
                it decodes words.
        """
        started = time.perf_counter()
        self._begin_watches(tick.queries)
        questions = {
            frame.camera: _question_for(frame.camera, tick.queries) for frame in tick.frames
        }
        turns = [
            self._turn(frame, questions[frame.camera], on_partial, limits) for frame in tick.frames
        ]
        outcomes = self.model.step(turns, self._upcoming(upcoming, limits)) if turns else []
        faults = self._end_refused_watches(tick.frames, outcomes)
        if faults:
            # A refused watch leaves the stream unchanged. It must not cost the camera its frame,
            # nor a question its answer.
            again = [index for index, frame in enumerate(tick.frames) if frame.camera in faults]
            without = [
                self._turn(frame, questions[frame.camera], on_partial, limits)
                for frame in (tick.frames[index] for index in again)
            ]
            repeated = dict(zip(again, self.model.step(without), strict=True))
            outcomes = [repeated.get(index, outcome) for index, outcome in enumerate(outcomes)]
        decisions: dict[str, Decision] = {}
        utterances: list[Utterance] = []
        events: list[EventSpan] = []
        abandoned: list[AbandonedEvent] = []
        vectors: dict[str, NDArray[np.float32]] = {}
        for frame, outcome in zip(tick.frames, outcomes, strict=True):
            camera = self._camera(frame.camera)
            if isinstance(outcome, StreamError):
                refused = faults.get(frame.camera)
                faults[frame.camera] = f"{refused}; {outcome}" if refused else str(outcome)
                continue
            if outcome.picture_vector is not None:
                vectors[frame.camera] = outcome.picture_vector
            decision, observed, utterance = _apply(
                camera, frame, outcome.decision, questions[frame.camera]
            )
            decisions[frame.camera] = decision
            if observed.completed is not None:
                events.append(observed.completed)
            if observed.abandoned is not None:
                abandoned.append(observed.abandoned)
            if utterance is not None:
                utterances.append(utterance)
        return StepResult(
            session_id=self.session_id,
            tick=tick,
            decisions=decisions,
            utterances=tuple(utterances),
            events=tuple(events),
            abandoned=tuple(abandoned),
            under_way_since={
                name: camera.tracker.under_way_since
                for name, camera in self._cameras.items()
                if camera.tracker.under_way_since is not None
            },
            faults=faults,
            picture_vectors=vectors,
            seconds={**self.model.seconds, "step": time.perf_counter() - started},
        )

    @property
    def watching(self) -> frozenset[str]:
        """Query ids of the watches that are active at any camera."""
        return frozenset(
            camera.watch.query_id for camera in self._cameras.values() if camera.watch is not None
        )

    def end_watch(self, query_id: str) -> None:
        """End the watch `query_id` at all its cameras; an ended or unknown watch is ignored."""
        for camera in self._cameras.values():
            if camera.watch is not None and camera.watch.query_id == query_id:
                camera.watch = None

    def _end_refused_watches(
        self, frames: Sequence[Frame], outcomes: Sequence[Outcome | StreamError]
    ) -> dict[str, str]:
        """End the watches that the model refused; return why, by camera."""
        refused = {
            frame.camera: outcome
            for frame, outcome in zip(frames, outcomes, strict=True)
            if isinstance(outcome, WatchRefused)
        }
        for name in refused:
            watch = self._camera(name).watch
            if watch is not None:  # it was not ended for another camera already
                self.end_watch(watch.query_id)
        return {name: str(reason) for name, reason in refused.items()}

    def prepare(self) -> None:
        """Use the time until the next tick for work that later steps need.

        If this is never called, some steps take a little longer.
        """
        for camera in self._cameras.values():
            camera.stream.prepare()

    def stream(self, camera: str) -> ModelStream:
        """The model's running context for `camera`, opened when it is first asked for."""
        return self._camera(camera).stream

    def _camera(self, name: str) -> CameraState:
        if name not in self._cameras:
            self._cameras[name] = CameraState(
                self.model.open_stream(name), self._new_gate(), self._new_tracker(name)
            )
        return self._cameras[name]

    def _new_gate(self) -> SpeechGate:
        return SpeechGate(self.settings.decision, self.model.activity_threshold)

    def _new_tracker(self, camera: str) -> EventTracker:
        return EventTracker(self.session_id, camera, self.settings.events)

    def _begin_watches(self, queries: Sequence[Query]) -> None:
        for query in queries:
            if query.is_watch:
                for name in [query.camera] if query.camera else self.settings.cameras:
                    self._camera(name).watch = query

    def _turn(
        self, frame: Frame, query: Query | None, on_partial: PartialText | None, limits: Limits
    ) -> Turn:
        camera = self._camera(frame.camera)
        watched = camera.watch is not None

        def gate(decision: Decision) -> Decision:
            return camera.gate.gate_state(
                decision, frame.stamp_ns, asked=query is not None, watched=watched
            )

        on_text = None
        if query is not None and on_partial is not None:
            query_id = query.query_id

            def on_text(text: str) -> None:
                on_partial(query_id, text)

        return Turn(
            camera.stream,
            frame,
            query=query,
            watch=camera.watch,
            gate=gate,
            on_text=on_text,
            limits=limits,
            memory=self._context_beginning(frame.camera, camera),
            with_vector=self.settings.memory.picture_vectors,
        )

    def _context_beginning(
        self, name: str, camera: CameraState
    ) -> Callable[[], Sequence[str]] | None:
        """Gives the lines that a new context of the camera begins with; None for no lines."""
        in_prompt, summaries = self.settings.memory.in_prompt, self._summaries
        if in_prompt == "off":
            return None
        if in_prompt == "full_history" or summaries is None:
            return lambda: list(camera.lines)
        return lambda: summaries(name) or list(camera.lines)

    def _upcoming(self, tick: Tick | None, limits: Limits) -> Upcoming | None:
        if tick is None:
            return None
        return lambda: [self._turn(frame, None, None, limits) for frame in tick.frames]


def _question_for(camera: str, queries: Sequence[Query]) -> Query | None:
    """The first question among `queries` that is about `camera`, or about any camera."""
    return next(
        (query for query in queries if not query.is_watch and query.camera in ("", camera)), None
    )


def _apply(
    camera: CameraState, frame: Frame, decision: Decision, question: Query | None
) -> tuple[Decision, Observation, Utterance | None]:
    """Apply repeat suppression and event tracking to `decision`, and make its utterance."""
    query = question or camera.watch
    if query is None:
        decision = camera.gate.suppress_repeat(decision, frame.stamp_ns)
    observed = Observation() if question else camera.tracker.observe(frame, decision)
    if camera.first_ns is None:
        camera.first_ns = frame.stamp_ns
    if decision.state is not State.RESPONSE or not decision.text:
        return decision, observed, None
    utterance = Utterance(
        camera=frame.camera,
        frame_id=frame.frame_id,
        stamp_ns=frame.stamp_ns,
        text=decision.text,
        confidence=decision.confidence,
        event_id=observed.completed.event_id if observed.completed else "",
        query_id=query.query_id if query else "",
    )
    camera.note_utterance(utterance, question)
    return decision, observed, utterance
