"""The node as a real process over real DDS, and a test robot around it.

The test robot publishes pictures, subscribes to the node's topics and calls its services.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from stream_vlm_ros.msg import EventGrounding, StreamState, Utterance

from stream_vlm_ros.common.stamps import stamp_message

DEADLINE_S = 30.0
"""Longest wait for anything, seconds; long, because a test machine may be busy.

A test that passes waits much shorter.
"""
RESPONSE_LOST = "client will not receive response"
"""rclpy's warning if a response cannot be delivered to its client."""
BRIGHTNESS_NODE = (sys.executable, str(Path(__file__).with_name("brightness_model.py")))
"""Command of the node with a fast fake model, see brightness_model.py."""
DARK, HALF_LIGHT, BRIGHT = 20, 128, 230
_namespaces = itertools.count(1)


def image(brightness: int, stamp_ns: int, frame_id: str = "front_optical") -> Image:
    """A uniform picture of 64 x 48 pixels."""
    message = Image(height=48, width=64, encoding="rgb8", step=192)
    message.header.stamp, message.header.frame_id = stamp_message(stamp_ns), frame_id
    message.data.frombytes(bytes([brightness]) * (48 * 192))
    return message


def compressed_image(
    brightness: int, stamp_ns: int, frame_id: str = "front_optical"
) -> CompressedImage:
    """The same picture as a JPEG."""
    message = CompressedImage(format="jpeg")
    message.header.stamp, message.header.frame_id = stamp_message(stamp_ns), frame_id
    message.data.frombytes(
        cv2.imencode(".jpg", np.full((48, 64, 3), brightness, np.uint8))[1].tobytes()
    )
    return message


MAKERS: dict[str, Callable[..., Any]] = {"raw": image, "compressed": compressed_image}
KINDS: dict[str, type] = {"raw": Image, "compressed": CompressedImage}


class Camera:
    """A camera driver that publishes a uniform picture twenty times a second."""

    def __init__(
        self,
        robot: Robot,
        topic: str,
        transport: str = "raw",
        qos: QoSProfile = qos_profile_sensor_data,
    ) -> None:
        self.brightness = DARK
        self.publisher = robot.node.create_publisher(KINDS[transport], topic, qos)
        self._make = MAKERS[transport]
        self._robot = robot
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def publish(self, message: Any) -> None:
        self.publisher.publish(message)

    def _run(self) -> None:
        while not self._stopped.wait(0.05):
            self.publisher.publish(self._make(self.brightness, self._robot.now_ns()))


class Robot:
    """Everything around one node under test, in its own namespace."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.memory = directory / "memory.db"
        self.namespace = f"/robot{os.getpid()}_{next(_namespaces)}"
        self._context = Context()
        rclpy.init(context=self._context)
        self.node = Node("test_robot", namespace=self.namespace, context=self._context)
        self.utterances: list[Utterance] = []
        self.texts: list[str] = []
        self.events: list[EventGrounding] = []
        self.states: list[StreamState] = []
        self._diagnostics: list[DiagnosticArray] = []
        for kind, topic, callback in (
            (Utterance, "stream_vlm/utterance", self.utterances.append),
            (String, "stream_vlm/utterance_text", lambda message: self.texts.append(message.data)),
            (EventGrounding, "stream_vlm/event", self.events.append),
            (StreamState, "stream_vlm/state", self.states.append),
            (DiagnosticArray, "diagnostics", self._diagnostics.append),
        ):
            self.node.create_subscription(kind, topic, callback, 100)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._spinner = threading.Thread(target=self._spin, daemon=True)
        self._spinner.start()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._cameras: list[Camera] = []

    def now_ns(self) -> int:
        return int(self.node.get_clock().now().nanoseconds)

    def start_node(
        self,
        *,
        command: tuple[str, ...] = BRIGHTNESS_NODE,
        environment: dict[str, str] | None = None,
        **parameters: Any,
    ) -> None:
        """Start the node; `parameters` are ROS parameters, with __ for the dot.

        Its tick rate is high, so tests are fast.
        """
        given = {
            "memory.path": self.memory,
            "stream.rate_hz": 10.0,
            "diagnostics.period_s": 0.2,
            "autostart": True,
        }
        given |= {name.replace("__", "."): value for name, value in parameters.items()}
        words = [
            word for name, value in given.items() for word in ("-p", f"{name}:={_yaml(value)}")
        ]
        remaps = [
            "-r",
            f"__ns:={self.namespace}",
            "-r",
            f"/diagnostics:={self.namespace}/diagnostics",
        ]
        self.start_process([*command, "--ros-args", *remaps, *words], environment)

    def start_process(
        self, command: Sequence[str], environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process that starts the node.

        It is ended with the test, and so are its child processes.
        """
        with (self.directory / "node.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | (environment or {}),
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that was started last."""
        return self._processes[-1]

    @property
    def log(self) -> str:
        """The output of all processes of this test."""
        return (self.directory / "node.log").read_text(errors="replace")

    def end_node(self, number: int = signal.SIGINT) -> int:
        """Send a signal to the process that was started last and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)

    def camera(self, topic: str = "image_raw", transport: str = "raw", **options: Any) -> Camera:
        """Start a camera on `topic`."""
        camera = Camera(self, topic, transport, **options)
        self._cameras.append(camera)
        return camera

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """Return the first true value of `condition`.

        The test fails with `what` and the node's log if the condition stays false or the node ends.
        """
        deadline = time.monotonic() + DEADLINE_S
        while True:
            value = condition()
            if value:
                return value
            if self._processes and self.process.poll() is not None:
                raise AssertionError(
                    f"the node ended with {self.process.returncode} before {what}; its"
                    f" log:\n{self.log}"
                )
            if time.monotonic() > deadline:
                last = self._diagnostics[-1].status if self._diagnostics else []
                shown = "\n".join(f"  {status.name}: {status.message}" for status in last)
                raise AssertionError(
                    f"not seen: {what}; diagnostics:\n{shown}\nthe node's log:\n{self.log}"
                )
            time.sleep(0.02)

    def wait_for_text(self, text: str, count: int = 1) -> Utterance:
        """Return the `count`-th utterance with `text`; wait for it."""
        found: list[Utterance] = self.wait(
            lambda: [each for each in list(self.utterances) if each.text == text][count - 1 :],
            f"utterance {count} with '{text}'",
        )
        return found[0]

    def wait_for_diagnostic(
        self, name: str, message: str, level: bytes | None = None
    ) -> DiagnosticStatus:
        """Wait for a status whose name ends in `name` and whose message contains `message`."""

        def found() -> DiagnosticStatus | None:
            statuses = list(self._diagnostics[-1].status) if self._diagnostics else []
            for status in statuses:
                if (
                    status.name.endswith(f": {name}")
                    and message in status.message
                    and level in (None, status.level)
                ):
                    return status
            return None

        return self.wait(found, f"diagnostic '{name}' with '{message}'")

    def diagnostics(self) -> list[DiagnosticArray]:
        """All diagnostics of the node."""
        return list(self._diagnostics)

    def forget_diagnostics(self) -> None:
        """Forget earlier diagnostics, so only later ones count."""
        self._diagnostics.clear()

    def wait_for_active(self) -> None:
        self.wait_for_diagnostic("node", "active", DiagnosticStatus.OK)
        self.wait(lambda: self.lifecycle_state() == "active", "an active node")

    def call(self, kind: Any, name: str, **fields: Any) -> Any:
        """Call a service of the node and return its response.

        On a busy machine a new client can miss a response, because the node's middleware has not
        discovered the client in time. The node's log says so, and only then the call is repeated.
        """
        client = self.node.create_client(kind, f"stream_vlm/{name}")
        try:
            assert client.wait_for_service(DEADLINE_S), (
                f"no service {name}; the node's log:\n{self.log}"
            )
            lost = self.log.count(RESPONSE_LOST)
            future = client.call_async(kind.Request(**fields))
            self.wait(
                lambda: future.done() or self.log.count(RESPONSE_LOST) > lost,
                f"a response of {name}",
            )
            if not future.done():
                future = client.call_async(kind.Request(**fields))
                self.wait(future.done, f"a response of {name}")
            return future.result()
        finally:
            self.node.destroy_client(client)

    def on_spinner(self, call: Callable[[], Any]) -> Any:
        """Call `call` on the spinning thread and return its result.

        rclpy loses a response that comes before the calling thread has stored its request.
        """
        task = self._executor.create_task(call)
        self.wait(task.done, "the spinning thread")
        return task.result()

    def lifecycle_state(self) -> str:
        return str(self.call(GetState, "get_state").current_state.label)

    def transition(self, label: str) -> bool:
        """Request a lifecycle transition; returns whether it succeeded."""
        return bool(
            self.call(ChangeState, "change_state", transition=Transition(label=label)).success
        )

    def close(self) -> None:
        for process in self._processes:
            # Kill the whole process group, because a killed launch does not end its nodes.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for camera in self._cameras:
            camera.stop()
        rclpy.shutdown(context=self._context)
        self._spinner.join()
        self._executor.shutdown()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_yaml(item) for item in value)}]"
    return str(value) if isinstance(value, (int, float)) else f"'{value}'"


@contextmanager
def robot_in(directory: Path) -> Iterator[Robot]:
    """A test robot; its processes are always ended at the end of the block."""
    robot = Robot(directory)
    try:
        yield robot
    finally:
        robot.close()
