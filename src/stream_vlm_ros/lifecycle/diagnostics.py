"""The node's health on /diagnostics.

The timer uses the computer's clock, so that messages also come while simulated time is paused.
"""

from __future__ import annotations

from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.timer import Timer

from stream_vlm.delegate import Delegate
from stream_vlm.loop.load_governor import LoadGovernor
from stream_vlm.model_protocol import ReportsHealth
from stream_vlm.types import NANOSECONDS
from stream_vlm_ros.inputs.camera_state import (
    GOOD,
    PAUSED,
    SHOWN_S,
    camera_state,
    picture_age_s,
)
from stream_vlm_ros.inputs.camera_subscription import CameraSubscription
from stream_vlm_ros.inputs.odometry_subscription import silent_sentence
from stream_vlm_ros.lifecycle.active import ActiveParts
from stream_vlm_ros.lifecycle.configured import ConfiguredParts

OK, WARN, ERROR, STALE = (
    DiagnosticStatus.OK,
    DiagnosticStatus.WARN,
    DiagnosticStatus.ERROR,
    DiagnosticStatus.STALE,
)
LEVELS = {GOOD: OK, PAUSED: STALE}
"""The level of each state of a camera; all others warn."""


class Diagnostics:
    """Publishes one status each for the node, every camera, the session, the model and the memory.

    If odometry is used, it also has a status.
    """

    def __init__(
        self,
        node: Node,
        state: Callable[[], tuple[str, str]],
        parts: Callable[[], tuple[ConfiguredParts | None, ActiveParts | None]],
    ) -> None:
        """Publish once a second, until `set_period` is called.

        Args:
            node: the node.
            state: returns the lifecycle state and the last fault, or an empty fault.
            parts: returns the parts that exist now; None for those that do not.
        """
        self._node = node
        self._state = state
        self._parts = parts
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._last_now_ns = -1
        self._timer: Timer | None = None
        self.set_period(1.0)

    def set_period(self, seconds: float) -> None:
        """Publish every `seconds` seconds from now on."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        self._timer = self._node.create_timer(
            seconds,
            self.publish,
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    def publish(self) -> None:
        """Publish all statuses now."""
        configured, active = self._parts()
        now_ns = self._node.get_clock().now().nanoseconds
        paused = now_ns == self._last_now_ns
        self._last_now_ns = now_ns
        statuses = [self._node_status(now_ns)]
        if active is not None and configured is not None:
            statuses += [
                self._camera_status(camera, configured, active, now_ns, paused)
                for camera in active.cameras.values()
            ]
            statuses.append(self._session_status(active, paused))
            if configured.settings.pose.odom_topic:
                statuses.append(self._odometry_status(configured, active, now_ns))
        if configured is not None:
            statuses.append(self._model_status(configured, active))
            statuses.append(self._memory_status(configured))
            if (delegate := configured.pipeline.delegate) is not None:
                statuses.append(self._delegate_status(delegate))
        message = DiagnosticArray(status=statuses)
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _status(
        self,
        name: str,
        level: bytes,
        message: str,
        values: dict[str, object],
        hardware_id: str = "",
    ) -> DiagnosticStatus:
        return DiagnosticStatus(
            # With the namespace, so that two robots do not collide.
            name=f"{self._node.get_fully_qualified_name()}: {name}",
            level=level,
            message=message,
            hardware_id=hardware_id or self._node.get_fully_qualified_name(),
            values=[
                KeyValue(key=key, value=f"{value:.3f}" if isinstance(value, float) else str(value))
                for key, value in values.items()
            ],
        )

    def _node_status(self, now_ns: int) -> DiagnosticStatus:
        state, fault = self._state()
        return self._status(
            "node",
            ERROR if fault else OK,
            fault or state,
            {"lifecycle state": state, "clock (s)": now_ns / NANOSECONDS},
        )

    def _camera_status(
        self,
        camera: CameraSubscription,
        configured: ConfiguredParts,
        active: ActiveParts,
        now_ns: int,
        paused: bool,
    ) -> DiagnosticStatus:
        health = camera.health
        state = camera_state(camera, configured.settings, now_ns, paused)
        values = {
            "topic": health.topic,
            "rate (Hz)": health.rate_hz(),
            "reliability": camera.qos.reliability.name.lower(),
            "age of newest picture (s)": picture_age_s(camera, now_ns),
            "frames received": active.sampler.received.get(camera.name, 0),
            "frames dropped": active.sampler.dropped.get(camera.name, 0),
            "frames refused": health.refused.count,
            "frames lost in transport": health.lost_in_transport,
            "events abandoned": health.events_abandoned,
            "reports not confirmed": health.reports_unconfirmed,
            "last fault": health.refused.last,
        }
        level = LEVELS.get(state.kind, WARN)
        return self._status(f"camera {camera.name}", level, state.sentence, values, health.topic)

    def _session_status(self, active: ActiveParts, paused: bool) -> DiagnosticStatus:
        sessions = active.sessions
        message = (
            "the clock stands still: no frame is processed until it moves"
            if paused
            else f"session {sessions.session_id}"
        )
        values = {"session": sessions.session_id, "sessions since activation": sessions.opened}
        return self._status("session", STALE if paused else OK, message, values)

    def _odometry_status(
        self, configured: ConfiguredParts, active: ActiveParts, now_ns: int
    ) -> DiagnosticStatus:
        topic = configured.settings.pose.odom_topic
        newest = active.poses.newest_stamp_ns()
        fault = active.odometry_faults.recent(SHOWN_S)
        age_s = (now_ns - newest) / NANOSECONDS if newest is not None else float("nan")
        level, message = OK, f"newest pose is {age_s:.2f} s old"
        if fault:
            level, message = WARN, fault
        elif newest is None or age_s > configured.settings.diagnostics.silent_after_s:
            level, message = WARN, silent_sentence(topic)
        return self._status(
            "odometry", level, message, {"topic": topic, "age of newest pose (s)": age_s}, topic
        )

    def _model_status(
        self, configured: ConfiguredParts, active: ActiveParts | None
    ) -> DiagnosticStatus:
        model = configured.model
        values: dict[str, object] = {
            "model": model.model_id,
            "device": model.device,
            "engine": model.engine,
            **{
                f"instruction {each.instruction_id}": each.text
                for each in configured.pipeline.followed
            },
            **configured.requests.questions.counts("questions"),
            **configured.requests.pictures.counts("pictures"),
        }
        level, message = OK, "idle"
        away = ""
        if isinstance(model, ReportsHealth):
            values |= model.figures
            away = model.fault
        if away:
            level, message = ERROR, away
        if active is not None:
            steps = active.steps
            period_ms = 1e3 / configured.settings.stream.tick_rate_hz
            p50, p95 = steps.percentile_ms(50), steps.percentile_ms(95)
            values |= {
                "sampling rate (Hz)": configured.settings.stream.tick_rate_hz,
                "steps": steps.steps,
                "step p50 (ms)": p50,
                "step p95 (ms)": p95,
                "last fault": steps.faults.last,
            }
            message = f"step p50 {p50:.0f} ms, p95 {p95:.0f} ms"
            values |= _degradation_values(active.governor)
            fault = steps.faults.recent(SHOWN_S)
            if away or fault:
                level, message = ERROR, away or fault
            elif active.governor.level:
                level, message = WARN, _explain_degradation(active.governor)
            elif p95 > period_ms:
                level = WARN
                message += (
                    f": longer than the sampling period of {period_ms:.0f} ms; lower"
                    " stream.rate_hz, or use a smaller model"
                )
        return self._status("model", level, message, values)

    def _delegate_status(self, delegate: Delegate) -> DiagnosticStatus:
        health = delegate.health
        values: dict[str, object] = {
            "model": delegate.model_id,
            "questions delegated": health.asked,
            "questions answered": health.answered,
            "questions refused": health.refused,
            "questions waiting": health.waiting,
            "last fault": health.fault,
        }
        message = health.fault or f"{health.answered} questions answered"
        return self._status("delegate", WARN if health.fault else OK, message, values)

    def _memory_status(self, configured: ConfiguredParts) -> DiagnosticStatus:
        health = configured.writer.health
        level, message = OK, f"{health.rows} records"
        if health.fault:
            level, message = ERROR, health.fault
        elif health.file_fault:
            level, message = ERROR, health.file_fault
        elif health.lost:
            level, message = WARN, f"{health.lost} steps were not stored; the log says why"
        elif health.idle_fault or health.idle.fault:
            level, message = WARN, health.idle_fault or health.idle.fault
        elif health.idle.captions.fault:
            level, message = WARN, health.idle.captions.fault
        values = {
            "path": configured.pipeline.memory.path,
            **configured.recalls.requests.counts("recalls"),
            "rows": health.rows,
            "backlog (steps)": health.backlog,
            "stored late (steps)": health.late,
            "lost (steps)": health.lost,
            "last commit (ms)": health.last_commit_ms,
            "last fault of the file": health.file_fault,
            "summaries by": health.idle.summarizer,
            "summaries made": health.idle.summarised,
            "summaries by a model": health.idle.written,
            "summaries waiting for a model": health.idle.waiting,
            "failed summary requests": health.idle.failures,
            "captions by": health.idle.captions.captioner,
            "captions written": health.idle.captions.written,
            "failed captions": health.idle.captions.failures,
            "last fault of captions": health.idle.captions.fault,
            **{
                f"{what} removed by retention": number
                for what, (number, _) in health.idle.dropped.items()
            },
            "last fault of maintenance": health.idle_fault or health.idle.fault,
        }
        return self._status("memory", level, message, values)


def _degradation_values(governor: LoadGovernor) -> dict[str, object]:
    degradation = governor.degradation
    return {
        "degraded (level)": governor.level,
        "worst level": governor.worst,
        "allowed step time (ms)": 1e3 * governor.allowance_s,
        "recent steps that took too long": governor.overruns,
        "utterance limit (tokens)": degradation.limits.new_tokens or "none",
        "share of pixels": degradation.limits.picture_share,
        "ticks per step": degradation.stride,
    }


def _explain_degradation(governor: LoadGovernor) -> str:
    """Say what is reduced, why, and what the user can do."""
    still = ", and still do" if governor.runs_over else ""
    return (
        f"degraded to level {governor.level} of {governor.worst}: {governor.degradation}; steps"
        f" took longer than {1e3 * governor.allowance_s:.0f} ms (load_shedding.budget of the"
        f" sampling period){still}; stop other programs on this computer, lower stream.rate_hz, or"
        " use a smaller model"
    )
