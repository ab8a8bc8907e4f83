"""The model thread: at each tick it runs one step of the pipeline with the newest frames."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from stream_vlm.loop.load_governor import LoadGovernor
from stream_vlm.pipeline import Pipeline
from stream_vlm.sources.image_decoding import CameraEncodingError, decode_picture
from stream_vlm.sources.pose_buffer import PoseBuffer
from stream_vlm.types import Frame, Limits, Tick
from stream_vlm_ros.common.health_counters import CameraHealth, StepHealth
from stream_vlm_ros.common.process_end import STEP_S, ProcessEnd
from stream_vlm_ros.inputs.camera_subscription import CameraMessage
from stream_vlm_ros.inputs.image_decoding import decoders
from stream_vlm_ros.inputs.session_tracker import SessionTracker
from stream_vlm_ros.model_thread.idle_budget import IdleBudget
from stream_vlm_ros.requests.model_requests import ModelRequests
from stream_vlm_ros.requests.picture_query import serve_picture_query


class Worker:
    """Runs the steps of the pipeline, and the model's other work between two steps.

    All ticks that come during a step lead to a single step after it, so no work piles up. Between
    two steps the model embeds at most one picture of a query, or does one slice of a text if the
    slice is expected to end before the next tick. The governor limits the cost of each step, and
    says which ticks are processed.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        requests: ModelRequests,
        *,
        sessions: SessionTracker[CameraMessage],
        poses: PoseBuffer | None,
        cameras: Mapping[str, CameraHealth],
        steps: StepHealth,
        governor: LoadGovernor,
        log_error: Callable[[str], Any],
        end: ProcessEnd | None = None,
    ) -> None:
        """Make the thread; `start` starts it.

        Args:
            pipeline: a started pipeline; only this thread runs its steps.
            requests: questions, watches and picture queries for the model.
            sessions: has the newest message of each camera, and new sessions.
            poses: has the pose at a stamp; None if no odometry is set.
            cameras: counts the refused messages of each camera, by name.
            steps: counts the steps and their durations.
            governor: limits the cost of steps if they take too long.
            log_error: logs the traceback of a failed step.
            end: says when the process ends; a step that takes too long then is left.
        """
        self._pipeline = pipeline
        self._background = pipeline.background
        self._requests = requests
        self._sessions = sessions
        self._poses = poses
        self._cameras = cameras
        self._steps = steps
        self._governor = governor
        self._log_error = log_error
        self._condition = threading.Condition()
        self._ticks = 0
        self._ticks_at_last_step = 0
        self._stopping = False
        self._idle = IdleBudget()
        self._step_index = 0
        self._decoder = next(iter(decoders().values()))
        self._end = end or ProcessEnd()
        self._thread = threading.Thread(target=self._run, name="stream_vlm model", daemon=True)
        requests.pictures.listen(self.notify)
        self._background.listen(self.notify)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def tick(self) -> None:
        """Ask for a step. The node's timer calls it, in ROS time."""
        with self._condition:
            self._ticks += 1
            self._idle.tick()
            self._condition.notify()

    def notify(self) -> None:
        """Wake the thread, because there is work to do between two steps."""
        with self._condition:
            self._condition.notify()

    def stop(self) -> None:
        """Finish the present step and end the thread.

        If the process ends and the step takes longer than it may then, it is left: nothing of it
        is stored or published.
        """
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._end.join("the running step", self._thread, STEP_S)

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._is_something_due():
                    # A slice may fit later without a new notice, so ask again after a while.
                    waits = self._background.has_work
                    self._condition.wait(self._idle.wait_s() if waits else None)
                if self._stopping:
                    break
                step_due = self._is_step_due()
                plan = self._governor.next_step
                self._ticks_at_last_step = self._ticks if step_due else self._ticks_at_last_step
            # One picture query between two steps, so that neither blocks the other for ever.
            serve_picture_query(self._requests.pictures, self._pipeline.model)
            if not step_due:
                self._write_slice()
                continue
            self._idle.step_started()
            self._background.note_step()
            try:
                started = time.perf_counter()
                if not self._step(plan.limits):
                    # There was no new frame, so the next tick is processed, not the Nth.
                    self._ticks_at_last_step -= plan.stride - 1
                    continue
                self._note_duration(time.perf_counter() - started)
                if not (self._stopping or self._is_step_due()):
                    self._pipeline.prepare()
            except Exception as error:  # no step may end the thread
                self._log_error(f"a step failed; the node continues:\n{traceback.format_exc()}")
                self._steps.faults.report(
                    f"a step failed: {type(error).__name__}: {error}; see the log for where"
                )
                # The context may contain half a turn, so begin with an empty one.
                self._sessions.begin("after a failed step")
        self._background.stop()

    def _is_something_due(self) -> bool:
        return (
            self._stopping
            or self._is_step_due()
            or len(self._requests.pictures) > 0
            or self._is_slice_due()
        )

    def _is_step_due(self) -> bool:
        return self._ticks - self._ticks_at_last_step >= self._governor.next_step.stride

    def _is_slice_due(self) -> bool:
        """Whether a text waits and a slice of it is expected to delay no step."""
        return self._background.has_work and not self._is_step_due() and self._idle.has_room()

    def _write_slice(self) -> None:
        if self._is_slice_due():
            started = time.perf_counter()
            self._background.advance()
            self._idle.record(time.perf_counter() - started)

    def _step(self, limits: Limits) -> bool:
        """Run one step with the newest frames, within `limits`; return False if there are none."""
        messages, session = self._sessions.take()
        if session is not None:
            self._pipeline.begin_session(session.session_id, session.reason, messages[0].stamp_ns)
            self._step_index = 0
        frames = self._decode(messages)
        if not frames:
            return False
        with_frame = {frame.camera for frame in frames}
        showing = [name for name in self._cameras if name in with_frame]
        # Most steps have no new request and no watch.
        has_requests = self._requests.changed
        queries, ended = self._requests.begin(showing) if has_requests else ((), ())
        self._pipeline.end_watches(ended)
        tick = Tick(self._step_index, max(frame.stamp_ns for frame in frames), frames, queries)
        self._step_index += 1
        try:
            result = self._pipeline.step(tick, self._requests.report_partial, limits)
        except Exception as error:
            for query in queries:
                self._requests.questions.fail(query.query_id, f"the model failed: {error}")
            raise
        reported = frozenset[str]()
        if has_requests:
            reported = self._requests.end_unanswered(result, self._pipeline.watching)
        for camera, sentence in result.faults.items():
            # The caller of a refused watch gets the reason, and the frame was processed without it.
            if camera not in reported and camera not in result.decisions:
                self._cameras[camera].refused.report(sentence)
        for event in result.abandoned:
            self._cameras[event.camera].events_abandoned += 1
        for camera, count in result.unconfirmed.items():
            self._cameras[camera].reports_unconfirmed += count
        return True

    def _note_duration(self, seconds: float) -> None:
        if self._governor.observe(seconds):
            # Durations at another level are not comparable.
            self._steps.forget_durations()
        self._steps.record(seconds)

    def _decode(self, messages: list[CameraMessage]) -> tuple[Frame, ...]:
        frames = []
        max_age_s = self._pipeline.settings.pose.max_age_s
        for message in messages:
            try:
                if message.video is not None:
                    image = message.video.newest()
                else:
                    image = decode_picture(message.message, message.camera, self._decoder)
            except CameraEncodingError as error:
                self._cameras[message.camera].refused.report(str(error))
                continue
            pose = None
            if self._poses is not None:
                pose = self._poses.at(message.stamp_ns, max_age_s)
            frame_id = message.message.header.frame_id
            frames.append(Frame(message.camera, message.stamp_ns, frame_id, image, pose))
        return tuple(frames)
