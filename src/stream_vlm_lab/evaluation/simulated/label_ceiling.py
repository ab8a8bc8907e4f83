"""What the labels themselves would score at the tick rate: no watcher that looks this often can do
better.
"""

from __future__ import annotations

import numpy as np

from stream_vlm.config.model_settings import EventSettings
from stream_vlm.loop.event_tracker import EventTracker
from stream_vlm.run_records import TimedEvent, TimedUtterance
from stream_vlm.types import NANOSECONDS, Decision, Frame, State
from stream_vlm_lab.evaluation.online.online_pass import Answer, Watched
from stream_vlm_lab.evaluation.scoring.scores import Truth

CEILING = "the labels at this rate"

NO_PICTURE = np.zeros((1, 1, 3), dtype=np.uint8)


def labels_watched(truth: Truth, settings: EventSettings) -> Watched:
    """A watcher that decides every tick as the labels do: right as soon as a tick shows it, and no
    sooner.

    Its decisions become events by the same rule as a model's (`EventTracker`), so what is lost
    between two ticks is lost here too.
    """
    watched = Watched(
        states=list(truth.states), asked_at={question.t for question in truth.questions}
    )
    watched.answers = [
        Answer(question, question.t, question.answer) for question in truth.questions
    ]
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
        )
        if state is State.RESPONSE:
            watched.utterances.append(TimedUtterance(label.t, decision.text))
        if span is not None:
            watched.events.append(
                TimedEvent(span.label, span.start_ns / NANOSECONDS, span.end_ns / NANOSECONDS)
            )
    return watched
