"""The loop: sample → context → backbone → decision → events → memory. It only conducts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from stream_vlm.config import Settings
from stream_vlm.decision import SpeechGate
from stream_vlm.events import EventTracker
from stream_vlm.stream import Decision, EventSpan, Frame, Query, State, StepResult, StreamError, Tick, Utterance

PartialText = Callable[[str, str], None]
"""Called with (query_id, text so far) while an answer is being written."""


class ModelStream(Protocol):
    """One camera's running context over a model: what was seen stays in its KV cache until the context policy lets it go."""

    def step(
        self,
        frame: Frame,
        query: Query | None,
        gate: Callable[[Decision], Decision],
        on_text: Callable[[str], None] | None = None,
    ) -> Decision:
        """Look at `frame`, answer `query` if there is one, else decide; `gate` may turn the decided state before any text is written.

        Raises:
            StreamError: the frame cannot be used; the stream is unchanged.
        """
        ...

    def reset(self) -> None:
        """Forget everything seen."""
        ...

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time of the last step by stage."""
        ...


class Model(Protocol):
    """A loaded model that any number of cameras share."""

    @property
    def model_id(self) -> str: ...

    def open_stream(self, camera: str) -> ModelStream: ...


class StepSink(Protocol):
    """Takes step results in order: the memory's writer."""

    def submit(self, result: StepResult) -> None: ...


class StreamingHarness:
    """Conducts ticks through the model, turns decisions into utterances and events and hands each result to the memory.

    `step` is synchronous and deterministic given its inputs; everything asynchronous is a thin thread around it. One thread owns a harness.
    """

    def __init__(self, settings: Settings, model: Model, session_id: str, memory: StepSink | None = None) -> None:
        self.settings = settings
        self.model = model
        self._memory = memory
        self._streams: dict[str, ModelStream] = {}
        self.open_session(session_id)

    def open_session(self, session_id: str) -> None:
        """Begin a new session: every camera's context, open event and refractory time are forgotten, the memory is not."""
        self.session_id = session_id
        self._trackers: dict[str, EventTracker] = {}
        self._gates: dict[str, SpeechGate] = {}
        for stream in self._streams.values():
            stream.reset()

    def step(self, tick: Tick, on_partial: PartialText | None = None) -> StepResult:
        """Look at every frame of `tick`, camera by camera, and hand the outcome to the memory.

        A camera whose frame the model refuses is reported in `faults`; the others go on.
        """
        started = time.perf_counter()
        decisions: dict[str, Decision] = {}
        utterances: list[Utterance] = []
        events: list[EventSpan] = []
        faults: dict[str, str] = {}
        seconds: dict[str, float] = {}
        for frame in tick.frames:
            query = next((query for query in tick.queries if query.camera in ("", frame.camera)), None)
            try:
                decision = self._decide(frame, query, on_partial)
            except StreamError as error:
                faults[frame.camera] = str(error)
                continue
            finally:
                for stage, spent in self.stream(frame.camera).seconds.items():
                    seconds[stage] = seconds.get(stage, 0.0) + spent
            decisions[frame.camera] = decision
            event = None if query else self._tracker(frame.camera).observe(frame, decision)
            if event:
                events.append(event)
            if decision.state is State.RESPONSE and decision.text:
                utterances.append(_utterance(frame, decision, event, query))
        seconds["step"] = time.perf_counter() - started
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
            seconds=seconds,
        )
        if self._memory is not None:
            self._memory.submit(result)
        return result

    def _decide(self, frame: Frame, query: Query | None, on_partial: PartialText | None) -> Decision:
        gate = self._gates.setdefault(frame.camera, SpeechGate(self.settings.decision))
        on_text = None
        if query is not None and on_partial is not None:
            query_id = query.query_id

            def on_text(text: str) -> None:
                on_partial(query_id, text)

        return self.stream(frame.camera).step(
            frame, query, lambda decision: gate.admit(decision, frame.stamp_ns, asked=query is not None), on_text
        )

    def stream(self, camera: str) -> ModelStream:
        """The model's running context for `camera`, opened when it is first asked for."""
        if camera not in self._streams:
            self._streams[camera] = self.model.open_stream(camera)
        return self._streams[camera]

    def _tracker(self, camera: str) -> EventTracker:
        if camera not in self._trackers:
            self._trackers[camera] = EventTracker(self.session_id, camera, self.settings.events)
        return self._trackers[camera]


def _utterance(frame: Frame, decision: Decision, event: EventSpan | None, query: Query | None) -> Utterance:
    return Utterance(
        camera=frame.camera,
        frame_id=frame.frame_id,
        stamp_ns=frame.stamp_ns,
        text=decision.text,
        confidence=decision.confidence,
        event_id=event.event_id if event else "",
        query_id=query.query_id if query else "",
    )
