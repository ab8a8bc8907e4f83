"""A step of a benchmark's stream in which a camera sees something end and says so, as a faultless
model would.
"""

from __future__ import annotations

from stream_vlm.types import Decision, EventSpan, Frame, State, StepResult, Tick, Utterance


def reported(session: str, number: int, frame: Frame, said: str, began_ns: int) -> StepResult:
    """Step `number` of `session`: what began at `began_ns` (int64 ns) is over in `frame`, and
    `said` reports it.
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
