"""The state of a camera, or of odometry, in a word and a sentence: for /diagnostics and the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from stream_vlm.config.settings import Settings
from stream_vlm.types import NANOSECONDS
from stream_vlm_ros.inputs.camera_subscription import CameraSubscription

SHOWN_S = 10.0
"""A fault is shown for this many seconds after it happened last."""
MAX_AGE_S = 10.0
"""A picture that is older than this many seconds on arrival has a stamp of another clock."""
WATCH_S = 0.5
"""Time between two looks at every camera, seconds."""
GOOD, PAUSED, REFUSED = "good", "paused", "refused"


@dataclass(frozen=True)
class CameraState:
    """What can be said of a camera, or of odometry, now.

    Attributes:
        kind: the same word as long as the same is wrong; `GOOD` if nothing is.
        sentence: what is wrong and what to do, or the rate.
    """

    kind: str
    sentence: str


def camera_state(
    camera: CameraSubscription, settings: Settings, now_ns: int, paused: bool
) -> CameraState:
    """Return the state of `camera`.

    Args:
        camera: the camera's subscription.
        settings: the settings, read now.
        now_ns: time of the node's clock, ns.
        paused: whether the node's clock stands still.
    """
    health = camera.health
    own_s = settings.camera[camera.name].silent_after_s
    is_silent = health.silent_s() > (own_s or settings.diagnostics.silent_after_s)
    rate = f"{health.rate_hz():.1f} Hz"
    if is_silent and paused and health.has_arrivals:
        return CameraState(PAUSED, "the clock stands still (is a bag or simulation paused?)")
    is_lossy = health.lost_within(SHOWN_S)
    if is_silent and is_lossy:
        return CameraState(
            "lost",
            f"{camera.name}: the pictures on {health.topic} are lost in transport, and none has"
            f" arrived for {health.silent_s():.1f} s; {camera.loss_remedy()}",
        )
    if is_silent:
        reason, sentence = camera.explain_silence()
        return CameraState(f"silent, {reason}", f"silent for {health.silent_s():.1f} s: {sentence}")
    if fault := health.refused.recent(SHOWN_S):
        return CameraState(REFUSED, fault)
    if health.incompatible_qos and camera.qos_mismatch():
        # Pictures arrive from one publisher, but another one has QoS that does not match.
        return CameraState("other QoS", health.incompatible_qos)
    age_s = picture_age_s(camera, now_ns)
    if age_s > MAX_AGE_S:
        return CameraState(
            "old",
            f"{camera.name}: pictures on {health.topic} are {age_s:.0f} s older than the node's"
            " clock; synchronise the clocks, or set use_sim_time for a bag or a simulation",
        )
    if is_lossy:
        return CameraState(
            "lossy",
            f"{rate}, but pictures on {health.topic} are lost in transport; {camera.loss_remedy()}",
        )
    return CameraState(GOOD, rate)


def picture_age_s(camera: CameraSubscription, now_ns: int) -> float:
    """Return the age of the newest picture, seconds; not a number if there is none."""
    newest_ns = camera.health.newest_stamp_ns
    return (now_ns - newest_ns) / NANOSECONDS if newest_ns is not None else float("nan")


class CameraLog:
    """Logs each change of a camera's state once, and when it is good again."""

    def __init__(self, warn: Callable[[str], object], tell: Callable[[str], object]) -> None:
        self._warn, self._tell = warn, tell
        self._kinds: dict[str, str] = {}

    def note(self, name: str, state: CameraState) -> None:
        """Log `state` of the camera `name` if it is another one than before."""
        before = self._kinds.get(name, GOOD)
        if state.kind in (before, PAUSED):
            return
        self._kinds[name] = state.kind
        if state.kind == GOOD:
            self._tell(f"{name}: good again after '{before}': {state.sentence}")
        elif state.kind != REFUSED:  # the refusal of a picture is logged where it happens
            label = "" if state.sentence.startswith(f"{name}:") else f"{name}: "
            self._warn(label + state.sentence)


class CameraWatch:
    """Looks at every camera regularly: follows its publishers, and logs how its state changes.

    Args:
        node: the node.
        settings: its settings.
        cameras: the subscriptions to the cameras, by name.
        odometry: returns the state of odometry, given whether the node's clock stands still; None
            if no odometry is used.
    """

    def __init__(
        self,
        node: Node,
        settings: Settings,
        cameras: Mapping[str, CameraSubscription],
        odometry: Callable[[bool], CameraState] | None = None,
    ) -> None:
        self._node, self._settings, self._cameras = node, settings, cameras
        self._odometry = odometry
        self._log = CameraLog(node.get_logger().warning, node.get_logger().info)
        self._last_now_ns = -1
        self._timer = node.create_timer(
            WATCH_S,
            self._look,
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    def destroy(self) -> None:
        """End the watch."""
        self._node.destroy_timer(self._timer)

    def _look(self) -> None:
        now_ns = self._node.get_clock().now().nanoseconds
        paused, self._last_now_ns = now_ns == self._last_now_ns, now_ns
        for name, camera in self._cameras.items():
            camera.match_publishers()
            self._log.note(name, camera_state(camera, self._settings, now_ns, paused))
        if self._odometry is not None:
            self._log.note("odometry", self._odometry(paused))
