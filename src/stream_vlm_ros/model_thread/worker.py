"""The one thread that owns the model: when it is time it decodes the newest picture of every
camera, no other, and steps the harness.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stream_vlm.loop.harness import StreamingHarness
from stream_vlm.loop.load_governor import LoadGovernor
from stream_vlm.memory.recording.background_writer import MemoryWriter
from stream_vlm.memory.summaries.by_model import ModelSummarizer
from stream_vlm.sources.pose_buffer import PoseBuffer
from stream_vlm.types import Frame, StepResult, Tick
from stream_vlm_ros.common.health_counters import CameraHealth, StepHealth
from stream_vlm_ros.inputs.camera_subscription import CameraMessage
from stream_vlm_ros.inputs.image_decoding import CameraEncodingError, decode_image
from stream_vlm_ros.inputs.session_tracker import Sessions
from stream_vlm_ros.model_thread.idle_budget import IdleBudget
from stream_vlm_ros.requests.picture_query import PictureQuery, serve_picture_query
from stream_vlm_ros.requests.question import Question, begin_questions
from stream_vlm_ros.requests.request_queue import RequestQueue
from stream_vlm_ros.requests.watch_registry import WatchRegistry


@dataclass
class Stream:
    """The parts that one stream of pictures runs through, from the sampler to the memory.

    Attributes:
        summaries: what the model writes between two looks, where it is to.
    """

    harness: StreamingHarness
    sessions: Sessions[CameraMessage]
    questions: RequestQueue[Question]
    watches: WatchRegistry
    picture_queries: RequestQueue[PictureQuery]
    poses: PoseBuffer
    cameras: dict[str, CameraHealth]
    steps: StepHealth
    governor: LoadGovernor
    writer: MemoryWriter
    summaries: ModelSummarizer | None = None


class Worker:
    """Runs `Stream` on a thread of its own.

    Beats that come during a step lead to one look after it, however many come: nothing piles up.

    What else the model is for is done between two looks: a picture that is asked about, then a
    summary, a slice at a time and only while a slice is over before the next beat.

    The governor says what each look may cost, and how many beats lie between two.
    """

    def __init__(self, stream: Stream, log_error: Callable[[str], Any]) -> None:
        self._stream = stream
        self._log_error = log_error
        self._woken = threading.Condition()
        self._ticks = 0
        self._ticks_at_last_step = 0
        """How many beats had come at the last look."""
        self._stopping = False
        self._spare = IdleBudget()
        self._index = 0
        self._thread = threading.Thread(target=self._run, name="stream_vlm model")

    def start(self) -> None:
        self._thread.start()

    def tick(self) -> None:
        """It is time to look: called by the node's timer, at the sampling rate, in ROS time."""
        with self._woken:
            self._ticks += 1
            self._spare.tick()
            self._woken.notify()

    def notify(self) -> None:
        """Something waits that can be done between two looks."""
        with self._woken:
            self._woken.notify()

    def stop(self) -> None:
        """Finish the step that runs and end the thread."""
        with self._woken:
            self._stopping = True
            self._woken.notify()
        self._thread.join()

    def _run(self) -> None:
        summaries = self._stream.summaries
        while True:
            with self._woken:
                while not self._is_something_due():
                    # A summary waits for a moment that is long enough, all else for a notice.
                    self._woken.wait(
                        self._spare.wait_s()
                        if summaries is not None and summaries.has_work
                        else None
                    )
                if self._stopping:
                    break
                looks = self._is_time()
                stride = self._stream.governor.next_step.stride
                self._ticks_at_last_step = self._ticks if looks else self._ticks_at_last_step
            # One between any two looks, so that neither waits for the other for ever.
            serve_picture_query(self._stream.picture_queries, self._stream.harness.model)
            if not looks:
                self._write_a_slice()
                continue
            self._spare.step_started()
            if summaries is not None:
                summaries.note_step()
            try:
                if not self._look():
                    # Nothing to see yet: the next beat looks again.
                    self._ticks_at_last_step -= stride - 1
                elif not (self._stopping or self._is_time()):
                    self._stream.harness.prepare()
            except Exception as error:  # the node goes on whatever a step runs into
                self._log_error(f"a step failed, the node goes on:\n{traceback.format_exc()}")
                self._stream.steps.faults.report(
                    f"a step failed: {type(error).__name__}: {error}; see the log for where"
                )
                # What the model had seen may be half written: begin with a clean context.
                self._stream.sessions.begin("after a failed step")
        if summaries is not None:
            summaries.stop()

    def _is_something_due(self) -> bool:
        return (
            self._stopping
            or self._is_time()
            or len(self._stream.picture_queries) > 0
            or self._is_time_to_write()
        )

    def _is_time_to_write(self) -> bool:
        """Whether a summary waits and no beat would wait for a slice of it."""
        summaries = self._stream.summaries
        return (
            summaries is not None
            and summaries.has_work
            and not self._is_time()
            and self._spare.has_room()
        )

    def _write_a_slice(self) -> None:
        if not self._is_time_to_write():
            return
        assert self._stream.summaries is not None
        started = time.perf_counter()
        self._stream.summaries.advance()
        self._spare.record(time.perf_counter() - started)

    def _is_time(self) -> bool:
        """Whether a beat waits that is to be looked at."""
        return self._ticks - self._ticks_at_last_step >= self._stream.governor.next_step.stride

    def _look(self) -> bool:
        """Step with the newest pictures; False when there are none."""
        started = time.perf_counter()
        stream = self._stream
        messages, session = stream.sessions.take()
        if session is not None:
            stream.harness.open_session(session.session_id)
            stream.writer.begin_session(
                session.session_id,
                stream.harness.model.model_id,
                session.reason,
                messages[0].stamp_ns,
            )
            self._index = 0
        frames = self._decode(messages)
        if not frames:
            return False
        for query_id in stream.watches.take_ended():
            stream.harness.end_watch(query_id)
        with_frame = {frame.camera for frame in frames}
        showing = [camera for camera in stream.cameras if camera in with_frame]
        queries = (*stream.watches.begin(showing), *begin_questions(stream.questions, showing))
        tick = Tick(self._index, max(frame.stamp_ns for frame in frames), frames, queries)
        self._index += 1
        try:
            result = stream.harness.step(tick, self._tell_partial, stream.governor.next_step.limits)
        except Exception as error:
            for query in queries:
                stream.questions.fail(query.query_id, f"the model failed: {error}")
            raise
        stream.writer.submit(result)
        self._report(result)
        seconds = time.perf_counter() - started
        if stream.governor.observe(seconds):
            # What steps took at another level says nothing about this one.
            stream.steps.forget_durations()
        stream.steps.took(seconds)
        return True

    def _decode(self, messages: list[CameraMessage]) -> tuple[Frame, ...]:
        frames = []
        max_age_s = self._stream.harness.settings.pose.max_age_s
        for message in messages:
            try:
                image = decode_image(message.message, message.camera)
            except CameraEncodingError as error:
                self._stream.cameras[message.camera].refused.report(str(error))
                continue
            pose = self._stream.poses.at(message.stamp_ns, max_age_s)
            frames.append(
                Frame(
                    message.camera, message.stamp_ns, message.message.header.frame_id, image, pose
                )
            )
        return tuple(frames)

    def _tell_partial(self, query_id: str, text: str) -> None:
        question = self._stream.questions.find(query_id)
        if question is not None:
            question.on_text(text)

    def _report(self, result: StepResult) -> None:
        told = self._stream.watches.end_refused(self._stream.harness.watching, result.faults)
        for camera, sentence in result.faults.items():
            if camera not in told:  # what a watch was refused for, its goal says
                self._stream.cameras[camera].refused.report(sentence)
        for event in result.abandoned:
            self._stream.cameras[event.camera].events_abandoned += 1
        spoken = {utterance.query_id for utterance in result.utterances}
        for query in result.tick.queries:
            if not query.is_watch and query.query_id not in spoken:
                self._stream.questions.fail(
                    query.query_id,
                    result.faults.get(query.camera, "the model found no words; ask otherwise"),
                )
