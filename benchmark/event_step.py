"""Makes the result of a step in which an event ends and is reported, as by a perfect model."""

from __future__ import annotations

from stream_vlm.types import Decision, EventSpan, Frame, State, StepResult, Tick, Utterance


def event_step(session: str, number: int, frame: Frame, said: str, began_ns: int) -> StepResult:
    """Step `number` of `session`, in which an event ends and `said` reports it.

    Args:
        session: id of the session.
        number: number of the step.
        frame: the frame that shows the end of the event.
        said: the reported words.
        began_ns: start of the event in ns.
    """
    event = EventSpan(
        f"{session}-{number}",
        frame.camera,
        frame.frame_id,
        frame.stamp_ns,
        said,
        began_ns,
        frame.stamp_ns,
        0.9,
    )
    spoken = Utterance(frame.camera, frame.frame_id, frame.stamp_ns, said, 0.9, event.event_id)
    decision = Decision(State.RESPONSE, {State.RESPONSE: 1.0}, said, 0.9)
    return StepResult(
        session,
        Tick(number, frame.stamp_ns, (frame,)),
        {frame.camera: decision},
        (spoken,),
        (event,),
    )
