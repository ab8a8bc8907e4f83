"""A ROS node that watches the watcher: brings it up, hears what it says, records the camera and
asks the memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from stream_vlm_ros.msg import EventGrounding, MemoryRecord, StreamState, Utterance
from stream_vlm_ros.srv import Recall

from stream_vlm.run_records import TimedEvent, TimedState, TimedUtterance, seconds_of_stream
from stream_vlm.types import NANOSECONDS
from stream_vlm_lab.demo.processes import DemoError, Stage
from stream_vlm_ros.common.conversions import nanoseconds
from stream_vlm_ros.inputs.image_decoding import CameraEncodingError, decode_image

WATCHER = "stream_vlm"
RECORDED_HZ = 10.0
"""Pictures kept for the clip."""
STATE_NAMES = {
    StreamState.SILENCE: "silence",
    StreamState.STANDBY: "standby",
    StreamState.RESPONSE: "response",
}
FRAMES_DROPPED = "frames dropped"


class Audience(Node):
    """Everything that was said and seen is kept; `on_utterance` and `on_event` hear of it at once.

    Attributes:
        first_ns: stamp (ns) of the stream's first picture, once known; times in seconds of stream
            count from it.
    """

    def __init__(self, topics: dict[str, str], transport: str, stage: Stage) -> None:
        super().__init__("audience")
        self._stage = stage
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        self.utterances: list[Utterance] = []
        self.events: list[EventGrounding] = []
        self.states: list[StreamState] = []
        self.on_utterance: Callable[[Utterance], None] = lambda message: None
        self.on_event: Callable[[EventGrounding], None] = lambda message: None
        self.diagnosed: dict[str, dict[str, str]] = {}
        self._pictures: dict[str, list[tuple[int, bytes]]] = {camera: [] for camera in topics}
        self.create_subscription(
            Utterance, f"{WATCHER}/utterance", self._hear_utterance, QoSProfile(depth=100)
        )
        self.create_subscription(
            EventGrounding, f"{WATCHER}/event", self._hear_event, QoSProfile(depth=100)
        )
        self.create_subscription(
            StreamState, f"{WATCHER}/state", self.states.append, QoSProfile(depth=1000)
        )
        self.create_subscription(DiagnosticArray, "/diagnostics", self._hear_diagnostics, 10)
        for camera, topic in topics.items():
            kind = CompressedImage if transport == "compressed" else Image
            self.create_subscription(
                kind,
                topic,
                lambda message, camera=camera: self._record(camera, message),
                qos_profile_sensor_data,
            )

    def close(self) -> None:
        """Leave the domain."""
        self._executor.shutdown()
        self.destroy_node()

    def spin_until(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Listen until `done` or until `timeout_s` seconds are over; True when done.

        Raises:
            DemoError: a process of the demo ended with an error.
        """
        deadline = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > deadline:
                return False
            self._stage.running("node")
            self._executor.spin_once(timeout_sec=0.05)
        return True

    def bring_up(self, timeout_s: float) -> None:
        """Configure and activate the node through its lifecycle services.

        Raises:
            DemoError: it does not appear, or refuses; with the end of its log.
        """
        for transition, goal in (
            (Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE),
            (Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE),
        ):
            request = ChangeState.Request(transition=Transition(id=transition))
            self._call(ChangeState, "change_state", request, timeout_s)
            state = self._call(GetState, "get_state", GetState.Request(), timeout_s).current_state
            if state.id != goal:
                raise self._stage.failure("node", f"stayed {state.label}")

    def recall(self, request: Recall.Request, timeout_s: float = 10.0) -> list[MemoryRecord]:
        """Ask the node's memory by service call.

        Raises:
            DemoError: no answer in time, or the question was refused.
        """
        response = self._call(Recall, "recall", request, timeout_s)
        if not response.success:
            raise DemoError(f"~/recall refused the question: {response.message}")
        return list(response.records)

    def newest_state_ns(self) -> int:
        """Stamp (ns) of the newest picture that was decided about, or 0."""
        return max((nanoseconds(state.header.stamp) for state in self.states), default=0)

    def diagnosed_number(self, key: str) -> int:
        """The last reported value of `key`, summed over the statuses that report it."""
        return sum(int(values[key]) for values in self.diagnosed.values() if key in values)

    def timed_events(self, first_ns: int) -> list[TimedEvent]:
        """What was grounded, in seconds of stream."""
        return [
            TimedEvent(
                event.label,
                _seconds(event.start, first_ns),
                _seconds(event.end, first_ns),
                event.confidence,
                event.camera,
            )
            for event in self.events
        ]

    def timed_utterances(self, first_ns: int) -> list[TimedUtterance]:
        """What was said, in seconds of stream."""
        return [
            TimedUtterance(
                _seconds(said.header.stamp, first_ns), said.text, said.confidence, said.camera
            )
            for said in self.utterances
        ]

    def timed_states(self, first_ns: int) -> list[TimedState]:
        """What was decided, in seconds of stream."""
        return [
            TimedState(
                _seconds(state.header.stamp, first_ns),
                STATE_NAMES[state.state],
                max(state.probabilities),
                state.camera,
            )
            for state in self.states
        ]

    def pictures(self, camera: str, first_ns: int) -> list[tuple[float, NDArray[np.uint8]]]:
        """What the camera showed: seconds of stream and uint8 RGB, (H, W, 3)."""
        shown = []
        for stamp_ns, jpeg in self._pictures[camera]:
            picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
            if picture is not None:
                shown.append(
                    (
                        seconds_of_stream(stamp_ns, first_ns),
                        np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8),
                    )
                )
        return shown

    def _hear_utterance(self, message: Utterance) -> None:
        self.utterances.append(message)
        self.on_utterance(message)

    def _hear_event(self, message: EventGrounding) -> None:
        self.events.append(message)
        self.on_event(message)

    def _hear_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.diagnosed[status.name] = {value.key: value.value for value in status.values}

    def _record(self, camera: str, message: Image | CompressedImage) -> None:
        kept = self._pictures[camera]
        stamp_ns = nanoseconds(message.header.stamp)
        if kept and stamp_ns - kept[-1][0] < 0.9 * NANOSECONDS / RECORDED_HZ:
            return
        if isinstance(message, CompressedImage):
            kept.append((stamp_ns, bytes(message.data)))
            return
        try:
            image = decode_image(message, camera)
        except CameraEncodingError as error:
            self.get_logger().warning(str(error))
            return
        _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        kept.append((stamp_ns, jpeg.tobytes()))

    def _call(self, kind: Any, name: str, request: Any, timeout_s: float) -> Any:
        client = self.create_client(kind, f"{WATCHER}/{name}")
        try:
            if not self.spin_until(client.service_is_ready, timeout_s):
                raise self._stage.failure(
                    "node", f"does not offer ~/{name} after {timeout_s:.0f} s"
                )
            future = client.call_async(request)
            if not self.spin_until(future.done, timeout_s):
                raise self._stage.failure(
                    "node", f"does not answer ~/{name} within {timeout_s:.0f} s"
                )
            return future.result()
        finally:
            self.destroy_client(client)


def _seconds(stamp: Time, first_ns: int) -> float:
    return seconds_of_stream(nanoseconds(stamp), first_ns)
