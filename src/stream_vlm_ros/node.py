"""The lifecycle node: its transitions make and destroy the parts of each state.

The parts themselves are in `lifecycle/configured.py` and `lifecycle/active.py`.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import traceback
from collections.abc import Callable

import rclpy
from rclpy.exceptions import InvalidHandle
from rclpy.executors import MultiThreadedExecutor
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from stream_vlm.config.settings import Settings
from stream_vlm.model_protocol import DeviceModel
from stream_vlm.types import Instruction, StreamError
from stream_vlm_ros.common.process_end import SHUTDOWN_S, ProcessEnd, ProcessEnds
from stream_vlm_ros.common.ros_logging import RosLogHandler
from stream_vlm_ros.lifecycle.active import ActiveParts
from stream_vlm_ros.lifecycle.configured import ConfiguredParts, ModelLoader
from stream_vlm_ros.lifecycle.diagnostics import Diagnostics
from stream_vlm_ros.lifecycle.parameters import Parameters
from stream_vlm_ros.lifecycle.responsive_node import ResponsiveLifecycleNode

THREADS = 6
"""Threads of the executor. Few are enough: only a transition and services that ask the memory take
long, and each of them takes one thread at a time.
"""


DURING = {"configure": "configuring", "activate": "activating", "deactivate": "deactivating"}
"""The lifecycle state while a transition runs."""


class StreamVlmNode(ResponsiveLifecycleNode):
    """Processes camera streams, publishes utterances and events, and answers from the memory.

    configure opens the memory and loads the model. activate warms the model up and subscribes to
    the cameras. deactivate removes the subscriptions and keeps the model. cleanup frees everything.
    """

    def __init__(self, load: ModelLoader, end: ProcessEnd | None = None) -> None:
        super().__init__("stream_vlm")
        self._load = load
        self._end = end or ProcessEnd()
        self._configured: ConfiguredParts | None = None
        self._active: ActiveParts | None = None
        self._label = "unconfigured"
        self._fault = ""
        self._logged_instructions: tuple[Instruction, ...] = ()
        self._settings = Parameters(self, self._apply_settings, self._check_settings)
        self._diagnostics = Diagnostics(
            self, lambda: (self._label, self._fault), lambda: (self._configured, self._active)
        )
        if self._settings.autostart:
            self.between_transitions(self._autostart)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open the memory and load the model."""
        outcome = self._transition("configure", self._configure, then="inactive")
        if self._settings.autostart and outcome == TransitionCallbackReturn.SUCCESS:
            self.between_transitions(self._activate_at_once)
        return outcome

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the cameras and process frames."""
        return self._transition("activate", self._activate, then="active")

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Store and publish what waits, then end the subscriptions."""
        return self._transition("deactivate", self._deactivate, then="inactive")

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the memory."""
        return self._transition("cleanup", self._free, then="unconfigured")

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything; the node cannot be configured again."""
        return self._transition("shutdown", self._free, then="finalized")

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything and return to unconfigured; then the node can be configured again."""
        fault = self._fault
        outcome = self._transition("error handling", self._free, then="unconfigured")
        self._fault = self._fault or fault
        return outcome

    def shut_down(self) -> bool:
        """Shut down from any state. Results that wait are stored and published first.

        A transition that runs is waited for, but not longer than `ProcessEnd` allows.

        Returns:
            Whether the node is shut down.
        """
        done = threading.Event()

        def shut_down() -> None:
            try:
                if self._label != "finalized":
                    self.trigger_shutdown()
            finally:
                done.set()

        self.between_transitions(shut_down)
        return self._end.wait(done.wait, float("inf"), SHUTDOWN_S)

    def _transition(
        self, name: str, body: Callable[[], None], then: str
    ) -> TransitionCallbackReturn:
        # rclpy does not report an exception of a transition callback, so it is logged here.
        before, self._label = self._label, DURING.get(name, self._label)
        try:
            body()
        except ProcessEnds as left:
            self._label = before
            self.get_logger().info(f"{name}: {left}")
            return TransitionCallbackReturn.FAILURE
        except StreamError as error:
            self._label = before
            self._fault = f"{name} failed: {error}"
            self.get_logger().error(self._fault)
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            self._label = before
            self._fault = f"{name} failed: {type(error).__name__}: {error}; see the log for where"
            self.get_logger().error(f"{name} failed:\n{traceback.format_exc()}")
            return TransitionCallbackReturn.ERROR
        self._label, self._fault = then, ""
        self.get_logger().info(f"{name}: now {then}")
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        self._end.check()
        settings = self._settings.configure()
        try:
            self._configured = ConfiguredParts(self, settings, self._load, self._end)
        except BaseException:
            self._settings.unlock()
            raise
        self._diagnostics.set_period(settings.diagnostics.period_s)
        memory = self._configured.pipeline.memory
        self.get_logger().info(f"model {self._configured.model.model_id}, memory {memory.path}")
        self._log_instructions(self._configured)

    def _activate(self) -> None:
        self._end.check()
        if self._configured is None:
            raise RuntimeError("the node was activated before it was configured")
        self._active = ActiveParts(self, self._configured)
        topics = ", ".join(camera.topic for camera in self._active.cameras.values())
        self.get_logger().info(f"watching {topics}")

    def _deactivate(self) -> None:
        active, self._active = self._active, None
        if active is not None:
            active.close()

    def _free(self) -> None:
        self._deactivate()
        configured, self._configured = self._configured, None
        if configured is not None:
            configured.close()
        self._settings.unlock()

    def _check_settings(self, settings: Settings) -> None:
        if self._configured is not None:
            self._configured.pipeline.check(settings)

    def _apply_settings(self) -> None:
        if self._configured is not None:
            self._log_instructions(self._configured)
        if self._active is not None:
            self._active.apply_settings()

    def _log_instructions(self, configured: ConfiguredParts) -> None:
        """Log what the model follows, whenever that changes."""
        followed = configured.pipeline.followed
        if followed == self._logged_instructions:
            return
        self._logged_instructions = followed
        listed = "; ".join(f"{each.instruction_id} '{each.text}'" for each in followed)
        self.get_logger().info(f"standing instructions: {listed or 'none'}")

    def _autostart(self) -> None:
        if self._label == "unconfigured":
            self.trigger_configure()

    def _activate_at_once(self) -> None:
        if self._label == "inactive":
            self.trigger_activate()


def load_model(settings: Settings) -> DeviceModel:
    """Load the checkpoint of `model.directory`, or the one that comes with the package.

    Raises:
        StreamError: the checkpoint cannot be loaded.
    """
    # Imported here, because torch and transformers take seconds and an unconfigured node needs
    # neither.
    from stream_vlm import backbone

    return backbone.load_model(settings)


def main(load: ModelLoader = load_model) -> int:
    """Run the node until SIGINT or SIGTERM, then shut it down and return 0.

    The process ends within two seconds, whatever it does: work that takes longer is left, and then
    the process ends here, with 0 too. It is 1 if the memory could not be closed by then.

    Args:
        load: loads the model when the node is configured.
    """
    wait_for_signal = _catch_signals()
    # The signal handlers of rclpy would stop the middleware before the last results are published.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    end, stopped = ProcessEnd(), threading.Event()
    node = StreamVlmNode(load, end)
    library = logging.getLogger("stream_vlm")
    library.setLevel(logging.INFO)
    library.addHandler(RosLogHandler(node.get_logger()))
    executor = MultiThreadedExecutor(THREADS)
    executor.add_node(node)
    spinner = threading.Thread(
        target=_spin, args=(executor, node, stopped), name="stream_vlm executor", daemon=True
    )
    spinner.start()
    wait_for_signal()
    end.begin()
    # The executor still spins, so that waiting callers get a result.
    end.is_stored = node.shut_down()
    for what in end.left:
        node.get_logger().warning(f"the process ends without waiting for this: {what}")
    if end.left or not end.is_stored:
        end.leave(0 if end.is_stored else 1)
    stopped.set()
    executor.wake()
    spinner.join()
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()
    # Python gives the signals their default action back before it ends, which would kill it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    return 0


def _catch_signals() -> Callable[[], object]:
    """Catch SIGINT and SIGTERM; the result waits for the first of them."""
    # The kernel may give a signal to any thread, and Python's handlers run on the main thread only,
    # once it is awake. What the interpreter writes to the pipe wakes it.
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    return lambda: os.read(reading, 1)


def _spin(executor: MultiThreadedExecutor, node: StreamVlmNode, stopped: threading.Event) -> None:
    logged: Exception | None = None
    while not stopped.is_set():
        try:
            executor.spin_once()
        except InvalidHandle:
            # A transition destroyed the object whose callback was due.
            continue
        except Exception as error:  # one callback failed; the others must still be called
            if error is logged:  # the executor may raise the same exception again
                continue
            logged = error
            trace = "".join(traceback.format_exception(error))
            node.get_logger().error(f"a callback failed; the node continues:\n{trace}")
