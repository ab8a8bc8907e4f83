"""The loop of one step: frames go to the model, decisions become utterances and events."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from stream_vlm.config.settings import Settings
from stream_vlm.loop.camera_state import CameraState
from stream_vlm.loop.event_tracker import NOTHING, EventTracker
from stream_vlm.loop.followed import finish_all, follow_instructions, refusals
from stream_vlm.loop.speech_gate import SpeechGate
from stream_vlm.loop.standing_instructions import (
    followed,
    standing_instructions,
    standing_watch,
)
from stream_vlm.loop.step_parts import StepParts
from stream_vlm.model_protocol import (
    Judgement,
    Model,
    ModelStream,
    Turn,
    Upcoming,
    WatchRefused,
    judges_instructions,
)
from stream_vlm.types import Decision, Frame, Limits, Query, State, StepResult, StreamError, Tick

_log = logging.getLogger(__name__)

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
        self._judges = judges_instructions(model)
        self._last_tick: Tick | None = None

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
        faults: dict[str, str] = {}
        while any(isinstance(outcome, WatchRefused) for outcome in outcomes):
            refused = refusals(turns, outcomes)
            if not refused:
                break
            # A refusal leaves the stream unchanged. It must not cost the camera its frame, nor a
            # question its answer.
            for index, (query_id, reason) in refused.items():
                self._leave_out(tick.frames[index].camera, query_id, reason)
                faults[tick.frames[index].camera] = reason
            without = {
                index: self._turn(frame, questions[frame.camera], on_partial, limits)
                for index, frame in enumerate(tick.frames)
                if index in refused
            }
            repeated = self.model.step(list(without.values()))
            for (index, turn), outcome in zip(without.items(), repeated, strict=True):
                turns[index], outcomes[index] = turn, outcome
        parts = StepParts()
        for frame, outcome in zip(tick.frames, outcomes, strict=True):
            camera, question = self._camera(frame.camera), questions[frame.camera]
            if isinstance(outcome, StreamError):
                before = faults.get(frame.camera)
                faults[frame.camera] = f"{before}; {outcome}" if before else str(outcome)
                continue
            if outcome.picture_vector is not None:
                parts.vectors[frame.camera] = outcome.picture_vector
            if camera.first_ns is None:
                camera.first_ns = frame.stamp_ns
            if self._judges:
                parts.take_judged(camera, frame, outcome, question)
            else:
                self._take_decision(parts, camera, frame, outcome.decision, question)
        self._last_tick = tick
        return StepResult(
            session_id=self.session_id,
            tick=tick,
            decisions=parts.decisions,
            utterances=tuple(parts.utterances),
            events=tuple(parts.events),
            abandoned=tuple(parts.abandoned),
            under_way_since=self._under_way_since(),
            faults=faults,
            picture_vectors=parts.vectors,
            seconds={**self.model.seconds, "step": time.perf_counter() - started},
            unconfirmed=parts.unconfirmed,
        )

    def finish(self) -> StepResult | None:
        """End the events that were reported and still go on, because no frame follows.

        Returns:
            A step without frames that has these events; None if there are none.
        """
        events = [event for camera in self._cameras.values() for event in finish_all(camera)]
        if not events or self._last_tick is None:
            return None
        last = Tick(self._last_tick.index + 1, self._last_tick.stamp_ns, ())
        return StepResult(self.session_id, last, {}, events=tuple(events))

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

    def _leave_out(self, name: str, query_id: str, reason: str) -> None:
        """End the watch that the model refused, or follow a standing instruction no longer."""
        standing = {each.instruction_id for each in followed(self.settings, self.model)}
        if query_id in standing:
            self._camera(name).refused.add(query_id)
            _log.warning("%s: an instruction is not followed: %s", name, reason)
        else:
            self.end_watch(query_id)

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
        watch = camera.watch or self._standing_watch(camera)
        watched = watch is not None

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
            watch=None if self._judges else watch,
            gate=gate,
            on_text=on_text,
            limits=limits,
            memory=self._context_beginning(frame.camera, camera),
            with_vector=self.settings.memory.picture_vectors,
            judgements=self._judgements(camera, frame) if self._judges else (),
        )

    def _take_decision(
        self,
        parts: StepParts,
        camera: CameraState,
        frame: Frame,
        decision: Decision,
        question: Query | None,
    ) -> None:
        """Apply repeat suppression and event tracking to the decision of a tuned model."""
        standing = self._standing_watch(camera)
        if question is None and camera.watch is None and standing is None:
            decision = camera.gate.suppress_repeat(decision, frame.stamp_ns)
        observed = NOTHING if question else camera.tracker.observe(frame, decision)
        parts.decisions[frame.camera] = decision
        if decision.state is State.RESPONSE or observed != NOTHING:
            parts.take_observed(camera, frame, decision, question, observed, standing)

    def _under_way_since(self) -> dict[str, int]:
        """By camera, the beginning of its oldest event that is under way, int64 ns."""
        since = {
            name: (camera.under_way_since if self._judges else camera.tracker.under_way_since)
            for name, camera in self._cameras.items()
        }
        return {name: start_ns for name, start_ns in since.items() if start_ns is not None}

    def _judgements(self, camera: CameraState, frame: Frame) -> tuple[Judgement, ...]:
        settings = self.settings
        follow_instructions(
            camera, settings, standing_instructions(settings, self.model), self._new_gate
        )
        verify = settings.decision.verify != "off"
        return tuple(
            state.judgement(frame.stamp_ns, verify=verify) for state in camera.instructions.values()
        )

    def _standing_watch(self, camera: CameraState) -> Query | None:
        """The standing watch of a tuned model, while no other watch is active."""
        if self._judges or camera.watch is not None or not self.settings.instructions:
            return None
        watch = standing_watch(self.settings, self.model)
        return None if watch is None or watch.query_id in camera.refused else watch

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
