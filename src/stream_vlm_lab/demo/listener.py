"""A ROS node for the demo: starts the node, records its messages, asks its memory."""

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
from stream_vlm_lab.demo.processes import DemoError, DemoProcesses
from stream_vlm_ros.common.stamps import nanoseconds
from stream_vlm_ros.inputs.image_decoding import CameraEncodingError, decode_image

NODE = "stream_vlm"
RECORDED_HZ = 10.0
"""Pictures a second that are recorded for the clip."""
STATE_NAMES = {
    StreamState.SILENCE: "silence",
    StreamState.STANDBY: "standby",
    StreamState.RESPONSE: "response",
}
FRAMES_DROPPED = "frames dropped"


class Listener(Node):
    """Records all messages of the node.

    Attributes:
        utterances: the received utterances.
        events: the received events.
        states: the received states.
        diagnostics: the newest values by status name.
        on_utterance: called with every utterance.
        on_event: called with every event.
    """

    def __init__(self, topics: dict[str, str], transport: str, processes: DemoProcesses) -> None:
        super().__init__("demo_listener")
        self._processes = processes
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        self.utterances: list[Utterance] = []
        self.events: list[EventGrounding] = []
        self.states: list[StreamState] = []
        self.on_utterance: Callable[[Utterance], None] = lambda message: None
        self.on_event: Callable[[EventGrounding], None] = lambda message: None
        self.diagnostics: dict[str, dict[str, str]] = {}
        self._pictures: dict[str, list[tuple[int, bytes]]] = {camera: [] for camera in topics}
        self.create_subscription(
            Utterance, f"{NODE}/utterance", self._on_utterance_message, QoSProfile(depth=100)
        )
        self.create_subscription(
            EventGrounding, f"{NODE}/event", self._on_event_message, QoSProfile(depth=100)
        )
        self.create_subscription(
            StreamState, f"{NODE}/state", self.states.append, QoSProfile(depth=1000)
        )
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        for camera, topic in topics.items():
            kind = CompressedImage if transport == "compressed" else Image
            self.create_subscription(
                kind,
                topic,
                lambda message, camera=camera: self._record(camera, message),
                qos_profile_sensor_data,
            )

    def close(self) -> None:
        """Destroy the ROS node."""
        self._executor.shutdown()
        self.destroy_node()

    def spin_until(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Process messages until `done` returns True, for at most `timeout_s` seconds.

        Returns:
            Whether `done` returned True.

        Raises:
            DemoError: a process of the demo ended with an error.
        """
        deadline = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > deadline:
                return False
            self._processes.running("node")
            self._executor.spin_once(timeout_sec=0.05)
        return True

    def bring_up(self, timeout_s: float) -> None:
        """Configure and activate the node through its lifecycle services.

        Raises:
            DemoError: the node does not appear or refuses; the message has the end of its log.
        """
        for transition, goal in (
            (Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE),
            (Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE),
        ):
            request = ChangeState.Request(transition=Transition(id=transition))
            self._call(ChangeState, "change_state", request, timeout_s)
            state = self._call(GetState, "get_state", GetState.Request(), timeout_s).current_state
            if state.id != goal:
                raise self._processes.failure("node", f"stayed {state.label}")

    def recall(self, request: Recall.Request, timeout_s: float = 10.0) -> list[MemoryRecord]:
        """Ask the node's memory with the recall service.

        Raises:
            DemoError: there was no answer in time, or the question was refused.
        """
        response = self._call(Recall, "recall", request, timeout_s)
        if not response.success:
            raise DemoError(f"~/recall failed: {response.message}")
        return list(response.records)

    def newest_state_ns(self) -> int:
        """Stamp (ns) of the newest picture with a decision, or 0."""
        return max((nanoseconds(state.header.stamp) for state in self.states), default=0)

    def diagnostic_number(self, key: str) -> int:
        """The newest value of `key`, summed over all statuses that report it."""
        return sum(int(values[key]) for values in self.diagnostics.values() if key in values)

    def timed_events(self, first_ns: int) -> list[TimedEvent]:
        """The received events, in seconds of stream time."""
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
        """The received utterances, in seconds of stream time."""
        return [
            TimedUtterance(
                _seconds(said.header.stamp, first_ns), said.text, said.confidence, said.camera
            )
            for said in self.utterances
        ]

    def timed_states(self, first_ns: int) -> list[TimedState]:
        """The received states, in seconds of stream time."""
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
        """The recorded pictures: seconds of stream time and uint8 RGB, (H, W, 3)."""
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

    def _on_utterance_message(self, message: Utterance) -> None:
        self.utterances.append(message)
        self.on_utterance(message)

    def _on_event_message(self, message: EventGrounding) -> None:
        self.events.append(message)
        self.on_event(message)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.diagnostics[status.name] = {value.key: value.value for value in status.values}

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
        client = self.create_client(kind, f"{NODE}/{name}")
        try:
            if not self.spin_until(client.service_is_ready, timeout_s):
                raise self._processes.failure(
                    "node", f"has no service ~/{name} after {timeout_s:.0f} s"
                )
            future = client.call_async(request)
            if not self.spin_until(future.done, timeout_s):
                raise self._processes.failure(
                    "node", f"did not answer ~/{name} within {timeout_s:.0f} s"
                )
            return future.result()
        finally:
            self.destroy_client(client)


def _seconds(stamp: Time, first_ns: int) -> float:
    return seconds_of_stream(nanoseconds(stamp), first_ns)
