"""The robot around the node: clock, cameras, odometry, listeners and users."""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock as ClockMessage
from stream_vlm_ros.msg import EventGrounding, StreamState, Utterance

from endurance.cameras import NANOSECONDS, Camera
from endurance.ledger import Ledger
from endurance.scenario import TICK_S
from endurance.users import Requests
from stream_vlm_ros.common.stamps import stamp_message

NAMESPACE = "/robot"
START_S = 1_800_000_000
"""The simulated time at which the day begins, seconds since 1970."""
SURPRISE = 0.02
"""Probability, for each camera and simulated second, that its look changes, or that it goes."""
DEADLINE_S = 120.0
"""Longest wait for a transition or for the start of the node, seconds."""
FOUND_S = 2.0
"""How long requests wait after a start, so that the middleware finds the node's services."""


class Robot:
    """Everything around the node; `close` ends it.

    Attributes:
        now_s: the simulated time; `elapsed_s` counts on when it jumps back.
        statuses: the newest diagnostics by the last part of their names.
        faults: messages of level ERROR, with their numbers.
        errors: tracebacks of the driver's own callbacks.
        repeated_until_ns: stamps up to this one were published before the clock jumped back, too.
        gone: when the node had no services, as times of `time.monotonic`.
    """

    def __init__(self, seed: int, request_period_s: float) -> None:
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node("driver", namespace=NAMESPACE, context=self._context)
        self.ledger = Ledger()
        self.statuses: dict[str, DiagnosticStatus] = {}
        self.faults: Counter[str] = Counter()
        self.errors: list[str] = []
        self.gone: list[tuple[float, float]] = []
        rng = random.Random(seed)
        for kind, topic, callback in (
            (StreamState, "stream_vlm/state", self.ledger.on_state),
            (EventGrounding, "stream_vlm/event", self.ledger.on_event),
            (Utterance, "stream_vlm/utterance", self.ledger.on_utterance),
            (DiagnosticArray, "diagnostics", self._on_diagnostics),
        ):
            self.node.create_subscription(kind, topic, callback, QoSProfile(depth=1000))
        self._clock = self.node.create_publisher(ClockMessage, "/clock", 1)
        self._odometry = self.node.create_publisher(Odometry, "odom", qos_profile_sensor_data)
        self.cameras = [
            Camera(self.node, "front", compressed=False, seed=seed),
            Camera(self.node, "rear", compressed=True, seed=seed),
        ]
        self.users = Requests(
            self.node,
            rng,
            request_period_s,
            on_records=self.ledger.note_read,
            on_answer=self.ledger.note_answer,
        )
        self._change_state = self.node.create_client(ChangeState, "stream_vlm/change_state")
        self.odometry_on = True
        self.repeated_until_ns = 0
        self.surprise = SURPRISE
        self.now_s, self.elapsed_s = START_S, 0
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._closed = False
        self._spinner = threading.Thread(target=self._spin, daemon=True)
        self._spinner.start()

    def close(self) -> None:
        """End all threads."""
        self._closed = True
        self._spinner.join(10.0)
        rclpy.shutdown(context=self._context)

    def second(self) -> None:
        """Let a simulated second pass: clock, odometry and cameras."""
        self.now_s += 1
        self.elapsed_s += 1
        self.ledger.newest_ns = self.now_s * NANOSECONDS
        self.publish_clock()
        if self.odometry_on:
            self._publish_pose()
        for camera in self.cameras:
            camera.second(self.now_s, self.elapsed_s // TICK_S, self.surprise)

    def publish_clock(self) -> None:
        """Publish the simulated time."""
        self._clock.publish(ClockMessage(clock=stamp_message(self.now_s * NANOSECONDS)))

    def jump_back(self, seconds: int) -> None:
        """Set the clock back, as a recording does that begins again."""
        self.repeated_until_ns = self.now_s * NANOSECONDS
        self.now_s -= seconds
        for camera in self.cameras:
            camera.forget()
        self.ledger.begin_clock(self.now_s * NANOSECONDS)
        self.publish_clock()

    def transition(self, label: str) -> bool:
        """Call a lifecycle transition of the node; whether it succeeded."""
        sent = self.on_spinner(
            lambda: self._change_state.call_async(
                ChangeState.Request(transition=Transition(label=label))
            )
        )
        self.wait(sent.done, f"the transition {label}")
        return bool(sent.result().success)

    def value(self, status: str, key: str) -> str:
        """The newest value of a diagnostic; empty if there is none."""
        found = self.statuses.get(status)
        values = found.values if found is not None else []
        return next((each.value for each in values if each.key == key), "")

    def newest_received_ns(self, camera: str) -> int:
        """Stamp (ns) of the newest picture that the node says it received; -1 if none."""
        age, clock = (
            self.value(f"camera {camera}", "age of newest picture (s)"),
            self.value("node", "clock (s)"),
        )
        if not age or not clock or age == "nan":
            return -1
        return round(float(clock) - float(age)) * NANOSECONDS  # all stamps are whole seconds

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = DEADLINE_S) -> None:
        """Wait until `condition` is true.

        Raises:
            TimeoutError: it stays false.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                shown = "; ".join(f"{name}: {each.message}" for name, each in self.statuses.items())
                raise TimeoutError(f"not seen within {seconds:g} s: {what}; diagnostics: {shown}")
            time.sleep(0.01)

    def wait_for_state(self, state: str) -> None:
        """Wait until diagnostics that come from now on say that the node is in `state`."""
        self.statuses = {}
        self.wait(lambda: self.value("node", "lifecycle state") == state, f"a node that is {state}")

    def on_spinner(self, call: Callable[[], Any]) -> Any:
        """Call `call` on the spinning thread: rclpy can lose a response to another thread."""
        done = threading.Event()
        results: list[Any] = []

        def run() -> None:
            try:
                results.append(call())
            finally:
                done.set()

        self._executor.create_task(run)
        if not done.wait(DEADLINE_S) or not results:
            raise TimeoutError(f"the spinning thread did not run a call: {self.errors[-1:]}")
        return results[0]

    def _publish_pose(self) -> None:
        message = Odometry()
        message.header.stamp = stamp_message(self.now_s * NANOSECONDS)
        message.header.frame_id, message.child_frame_id = "map", "base_link"
        message.pose.pose.position.x = float(self.now_s % 60) / 10.0
        message.pose.pose.orientation.w = 1.0
        self._odometry.publish(message)

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            self.statuses[status.name.rpartition(": ")[2]] = status
            if status.level == DiagnosticStatus.ERROR:
                self.faults[status.message] += 1

    def _spin(self) -> None:
        while not self._closed:
            try:
                self._executor.spin_once(0.1)
            except ExternalShutdownException:
                return
            except Exception:  # the day goes on; the report tells
                self.errors.append(traceback.format_exc())
