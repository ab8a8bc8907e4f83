"""The one thread that owns the model: at each beat it decodes the newest picture of every camera, no other, and steps the harness."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stream_vlm.harness import StreamingHarness
from stream_vlm.memory.writer import MemoryWriter
from stream_vlm.stream import Frame, StepResult, Tick
from stream_vlm_ros.cameras import CameraMessage
from stream_vlm_ros.health import CameraHealth, StepHealth
from stream_vlm_ros.images import CameraEncodingError, decode_image
from stream_vlm_ros.odometry import PoseBuffer
from stream_vlm_ros.questions import Questions
from stream_vlm_ros.session import Sessions


@dataclass
class Stream:
    """The parts that one stream of pictures runs through, from the sampler to the memory."""

    harness: StreamingHarness
    sessions: Sessions[CameraMessage]
    questions: Questions
    poses: PoseBuffer
    cameras: dict[str, CameraHealth]
    steps: StepHealth
    writer: MemoryWriter


class Worker:
    """Runs `Stream` on a thread of its own. A beat that comes during a step is one beat, however many come: nothing piles up."""

    def __init__(self, stream: Stream, log_error: Callable[[str], Any]) -> None:
        self._stream = stream
        self._log_error = log_error
        self._beat = threading.Event()
        self._stopping = False
        self._index = 0
        self._thread = threading.Thread(target=self._run, name="stream_vlm model")

    def start(self) -> None:
        self._thread.start()

    def beat(self) -> None:
        """It is time to look: called by the node's timer, at the sampling rate, in ROS time."""
        self._beat.set()

    def stop(self) -> None:
        """Finish the step that runs and end the thread."""
        self._stopping = True
        self._beat.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._beat.wait()
            self._beat.clear()
            if self._stopping:
                return
            try:
                self._look()
            except Exception as error:  # the node goes on whatever a step runs into
                self._log_error(f"a step failed, the node goes on:\n{traceback.format_exc()}")
                self._stream.steps.faults.report(f"a step failed: {type(error).__name__}: {error}; see the log for where")
                # What the model had seen may be half written: begin with a clean context.
                self._stream.sessions.begin("after a failed step")

    def _look(self) -> None:
        started = time.perf_counter()
        stream = self._stream
        messages, session = stream.sessions.take()
        if session is not None:
            stream.harness.open_session(session.session_id)
            stream.writer.begin_session(session.session_id, stream.harness.model.model_id, session.reason, messages[0].stamp_ns)
            self._index = 0
        frames = self._decode(messages)
        if not frames:
            return
        queries = stream.questions.take([frame.camera for frame in frames])
        tick = Tick(self._index, max(frame.stamp_ns for frame in frames), frames, queries)
        self._index += 1
        try:
            result = stream.harness.step(tick, stream.questions.partial)
        except Exception as error:
            for query in queries:
                stream.questions.failed(query.query_id, f"the model failed: {error}")
            raise
        self._report(result)
        stream.steps.took(time.perf_counter() - started)

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
            frames.append(Frame(message.camera, message.stamp_ns, message.message.header.frame_id, image, pose))
        return tuple(frames)

    def _report(self, result: StepResult) -> None:
        for camera, sentence in result.faults.items():
            self._stream.cameras[camera].refused.report(sentence)
        spoken = {utterance.query_id for utterance in result.utterances}
        for query in result.tick.queries:
            if query.query_id not in spoken:
                self._stream.questions.failed(query.query_id, result.faults.get(query.camera, "the model found no words; ask otherwise"))
