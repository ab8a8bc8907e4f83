"""The scores of the ground truth itself at the tick rate: the best that any model can reach."""

from __future__ import annotations

import numpy as np

from stream_vlm.config.model_settings import EventSettings
from stream_vlm.loop.event_tracker import EventTracker
from stream_vlm.run_records import TimedEvent, TimedUtterance
from stream_vlm.types import NANOSECONDS, Decision, Frame, State
from stream_vlm_lab.evaluation.online.online_pass import Answer, StreamResult
from stream_vlm_lab.evaluation.scoring.scores import GroundTruth

CEILING = "ground truth at this rate"

NO_PICTURE = np.zeros((1, 1, 3), dtype=np.uint8)


def result_of_labels(truth: GroundTruth, settings: EventSettings) -> StreamResult:
    """The result of a model that decides every tick as the labels do.

    Its decisions become events by the same rule as a model's (`EventTracker`). What is lost between
    two ticks is therefore lost here too.
    """
    result = StreamResult(
        states=list(truth.states), asked_at={question.t for question in truth.questions}
    )
    result.answers = [Answer(question, question.t, question.answer) for question in truth.questions]
    tracker = EventTracker("labels", "camera", settings)
    captions = {}
    for event in truth.events:
        later = [state.t for state in truth.states if state.t >= event.t_end]
        if later:
            captions[later[0]] = event.label
    for label in truth.states:
        state = State(label.state)
        decision = Decision(
            state, {each: float(each is state) for each in State}, captions.get(label.t, ""), 1.0
        )
        span = tracker.observe(
            Frame("camera", round(label.t * NANOSECONDS), "camera_optical_frame", NO_PICTURE),
            decision,
        ).completed
        if state is State.RESPONSE:
            result.utterances.append(TimedUtterance(label.t, decision.text))
        if span is not None:
            result.events.append(
                TimedEvent(span.label, span.start_ns / NANOSECONDS, span.end_ns / NANOSECONDS)
            )
    return result
