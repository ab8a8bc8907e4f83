"""Converts our types to ROS messages and back.

Every header has the stamp and the frame_id of the camera frame that the message is about.
"""

from __future__ import annotations

from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from stream_vlm.memory.answers.evidence import Answer
from stream_vlm.memory.maintenance.forget import Forget as ForgetQuery
from stream_vlm.memory.memory import StoredFrame
from stream_vlm.memory.search.query import Place, RecallError, RecallQuery, RecallRecord
from stream_vlm.types import EventSpan, Pose, State, StepResult, Utterance
from stream_vlm_ros.common.stamps import nanoseconds, stamp_message
from stream_vlm_ros.msg import EventGrounding, MemoryRecord, StreamState
from stream_vlm_ros.msg import Utterance as UtteranceMessage
from stream_vlm_ros.srv import Forget, Recall

STATE_CODES = {
    State.SILENCE: StreamState.SILENCE,
    State.STANDBY: StreamState.STANDBY,
    State.RESPONSE: StreamState.RESPONSE,
}


def header_message(stamp_ns: int, frame_id: str) -> Header:
    """A header with the stamp `stamp_ns` (ns)."""
    return Header(stamp=stamp_message(stamp_ns), frame_id=frame_id)


def pose_message(pose: Pose | None, stamp_ns: int) -> PoseStamped:
    """`pose` at `stamp_ns` (ns); an empty message if `pose` is None."""
    message = PoseStamped()
    if pose is None:
        return message
    message.header = header_message(stamp_ns, pose.frame_id)
    place, turn = message.pose.position, message.pose.orientation
    place.x, place.y, place.z = pose.x, pose.y, pose.z
    turn.x, turn.y, turn.z, turn.w = pose.qx, pose.qy, pose.qz, pose.qw
    return message


def utterance_message(utterance: Utterance, session_id: str) -> UtteranceMessage:
    """`utterance` of the session `session_id`."""
    return UtteranceMessage(
        header=header_message(utterance.stamp_ns, utterance.frame_id),
        camera=utterance.camera,
        session_id=session_id,
        text=utterance.text,
        confidence=utterance.confidence,
        event_id=utterance.event_id,
        query_id=utterance.query_id,
        instruction_id=utterance.instruction_id,
        answered_by=utterance.answered_by,
    )


def event_message(event: EventSpan, session_id: str, pose: Pose | None) -> EventGrounding:
    """`event` of the session `session_id`, with the robot's `pose` when it was reported."""
    return EventGrounding(
        header=header_message(event.stamp_ns, event.frame_id),
        event_id=event.event_id,
        camera=event.camera,
        session_id=session_id,
        label=event.label,
        start=stamp_message(event.start_ns),
        end=stamp_message(event.end_ns),
        confidence=event.confidence,
        instruction_id=event.instruction_id,
        pose_valid=pose is not None,
        pose=pose_message(pose, event.stamp_ns),
    )


def state_messages(result: StepResult) -> list[StreamState]:
    """One message for each frame that has a decision."""
    messages = []
    for frame in result.tick.frames:
        decision = result.decisions.get(frame.camera)
        if decision is None:
            continue
        since = result.under_way_since.get(frame.camera)
        messages.append(
            StreamState(
                header=header_message(frame.stamp_ns, frame.frame_id),
                camera=frame.camera,
                session_id=result.session_id,
                step=result.tick.index,
                state=STATE_CODES[decision.state],
                probabilities=[decision.probabilities.get(state, 0.0) for state in STATE_CODES],
                under_way=since is not None,
                under_way_since=stamp_message(since or 0),
                step_ms=1e3 * result.seconds.get("step", 0.0),
            )
        )
    return messages


def recall_query(request: Recall.Request) -> RecallQuery:
    """The query to the memory; a field that is zero or empty does not filter.

    Raises:
        RecallError: the request asks for several things at once, or has a value out of range.
    """
    start_ns, end_ns = nanoseconds(request.start), nanoseconds(request.end)
    asked = [
        name
        for name, given in (
            ("mode", request.mode),
            ("like_record", request.like_record),
            ("like", request.like.data),
        )
        if given
    ]
    if len(asked) > 1:
        raise RecallError(f"{' and '.join(asked)} ask for different things; give only one of them")
    return RecallQuery(
        text=request.text,
        start_ns=start_ns or None,
        end_ns=end_ns or None,
        place=_place(request),
        session_id=request.session_id,
        cameras=tuple(request.cameras),
        kinds=tuple(request.kinds),
        object_id=request.object_id,
        order=request.order or Recall.Request.RELEVANCE,
        limit=request.limit or RecallQuery.limit,
    )


def forget_query(request: Forget.Request) -> ForgetQuery:
    """What the memory is to forget; a field that is zero or empty does not filter.

    Raises:
        RecallError: the request has no filter, has a filter and `everything`, or has a value out of
            range.
    """
    start_ns, end_ns = nanoseconds(request.start) or None, nanoseconds(request.end) or None
    place, cameras, session_id = _place(request), tuple(request.cameras), request.session_id
    if not request.everything:
        return ForgetQuery(start_ns, end_ns, place, cameras, session_id)
    if start_ns is not None or end_ns is not None or place is not None or cameras or session_id:
        raise RecallError("forget: everything and a filter are given; leave one of them out")
    return ForgetQuery.everything()


def _place(request: Recall.Request | Forget.Request) -> Place | None:
    """The place of a request, or None.

    Raises:
        RecallError: the place is invalid, or part of one is given without `near`.
    """
    if request.near:
        return Place(request.x, request.y, request.radius, request.frame_id)
    given = [name for name in ("x", "y", "radius", "frame_id") if getattr(request, name)]
    if given:
        raise RecallError(
            f"{' and '.join(given)}: given without near, so no place would be searched; set near to"
            " true, or leave it out"
        )
    return None


def recall_response(answer: Answer, response: Recall.Response) -> Recall.Response:
    """`response`, filled with `answer` and the records that it is computed from."""
    response.success = True
    response.records = [record_message(record) for record in answer.records]
    response.total = answer.total
    response.took_ms = answer.took_ms
    response.mode = answer.mode
    response.answer = answer.text
    response.known = answer.known
    response.value = answer.value
    response.stamp = stamp_message(answer.stamp_ns)
    return response


def record_message(record: RecallRecord) -> MemoryRecord:
    """`record` as a message; the pose is empty if `pose_valid` is false."""
    return MemoryRecord(
        record_id=record.record_id,
        kind=record.kind,
        camera=record.camera,
        session_id=record.session_id,
        frame_id=record.frame_id,
        start=stamp_message(record.start_ns),
        end=stamp_message(record.end_ns),
        stamp=stamp_message(record.stamp_ns),
        text=record.text,
        state=record.state,
        confidence=record.confidence,
        event_id=record.event_id,
        query_id=record.query_id,
        model_id=record.model_id,
        has_frame=record.has_frame,
        pose_valid=record.pose is not None,
        pose=pose_message(record.pose, record.stamp_ns),
        object_id=record.object_id,
        object_confidence=record.object_confidence,
        missing_records=record.missing_records,
        score=record.score,
    )


def evidence_message(frame: StoredFrame) -> CompressedImage:
    """The stored JPEG of `frame`, with the stamp and the frame_id of its picture."""
    message = CompressedImage(header=header_message(frame.stamp_ns, frame.frame_id), format="jpeg")
    message.data.frombytes(frame.jpeg)
    return message
