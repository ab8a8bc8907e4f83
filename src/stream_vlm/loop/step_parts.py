"""Collects what one step gives: each outcome of the model becomes utterances and events."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from stream_vlm.loop.camera_state import CameraState
from stream_vlm.loop.event_tracker import Observation
from stream_vlm.model_protocol import SILENT, Outcome
from stream_vlm.types import (
    AbandonedEvent,
    Decision,
    EventSpan,
    Frame,
    Query,
    State,
    Utterance,
)

URGENCY = {State.SILENCE: 0, State.STANDBY: 1, State.RESPONSE: 2}
"""Of the decisions about several instructions the most urgent one stands for the picture."""


@dataclass
class StepParts:
    """The parts of a `StepResult` while the cameras are processed one after the other.

    Attributes: as those of `StepResult`.
    """

    decisions: dict[str, Decision] = field(default_factory=dict)
    utterances: list[Utterance] = field(default_factory=list)
    events: list[EventSpan] = field(default_factory=list)
    abandoned: list[AbandonedEvent] = field(default_factory=list)
    vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    unconfirmed: dict[str, int] = field(default_factory=dict)

    def take_observed(
        self,
        camera: CameraState,
        frame: Frame,
        decision: Decision,
        question: Query | None,
        observed: Observation,
        standing: Query | None,
    ) -> None:
        """Take in what the one decision of a tuned model about `frame` changed.

        Args:
            camera: the camera of the frame.
            frame: the frame.
            decision: the decision, with its words.
            question: the question that it answers, if any.
            observed: the events that it completed or abandoned.
            standing: the standing instructions as one watch, if they are followed.
        """
        about = standing.query_id if standing is not None and question is None else ""
        event = observed.completed
        if event is not None:
            watched = camera.watch.query_id if camera.watch is not None else about
            event = replace(event, instruction_id=watched)
            self.events.append(event)
        if observed.abandoned is not None:
            self.abandoned.append(observed.abandoned)
        event_id = event.event_id if event is not None else ""
        query = question or camera.watch
        self._say(camera, frame, decision, question, query, event_id=event_id, about=about)

    def take_judged(
        self, camera: CameraState, frame: Frame, outcome: Outcome, question: Query | None
    ) -> None:
        """Take in the decisions about each instruction, and the answer to `question`, if any."""
        self.events += camera.ended
        camera.ended.clear()
        decisions = []
        if question is not None:
            decisions.append(outcome.decision)
            self._say(camera, frame, outcome.decision, question, question)
        for name, decision in outcome.judged.items():
            state = camera.instructions.get(name)
            if state is None:
                continue
            taken = state.take(frame, decision, camera.new_event_id)
            decisions.append(taken.decision)
            self.events += [taken.completed] if taken.completed is not None else []
            self.abandoned += [taken.abandoned] if taken.abandoned is not None else []
            if taken.is_unconfirmed:
                self.unconfirmed[frame.camera] = self.unconfirmed.get(frame.camera, 0) + 1
            if taken.event_id:
                watch = camera.watch if state.is_watch else None
                about = "" if state.is_watch else name
                self._say(
                    camera, frame, taken.decision, None, watch, event_id=taken.event_id, about=about
                )
        self.decisions[frame.camera] = max(
            decisions, key=lambda one: (URGENCY[one.state], one.confidence), default=SILENT
        )

    def _say(
        self,
        camera: CameraState,
        frame: Frame,
        decision: Decision,
        question: Query | None,
        query: Query | None,
        *,
        event_id: str = "",
        about: str = "",
    ) -> None:
        if decision.state is not State.RESPONSE or not decision.text:
            return
        utterance = Utterance(
            camera=frame.camera,
            frame_id=frame.frame_id,
            stamp_ns=frame.stamp_ns,
            text=decision.text,
            confidence=decision.confidence,
            event_id=event_id,
            query_id=query.query_id if query else "",
            instruction_id=about,
        )
        camera.note_utterance(utterance, question)
        self.utterances.append(utterance)
