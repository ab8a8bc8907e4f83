"""The subscription to odometry: each callback puts one pose into the buffer and returns."""

from __future__ import annotations

import time
from collections.abc import Callable

from nav_msgs.msg import Odometry
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data

from stream_vlm.config.settings import Settings
from stream_vlm.sources.pose_buffer import PoseBuffer, PoseError, odometry_pose
from stream_vlm.types import Pose
from stream_vlm_ros.common.health_counters import FaultLog
from stream_vlm_ros.common.qos_overrides import OVERRIDABLE, own_profile
from stream_vlm_ros.common.stamps import nanoseconds, stamp_fault
from stream_vlm_ros.inputs.camera_state import GOOD, PAUSED, CameraState
from stream_vlm_ros.inputs.odometry_jumps import OdometryJumps


def silent_sentence(topic: str) -> str:
    """What is wrong if no odometry arrives on `topic`, and what to do."""
    return (
        f"no odometry on {topic}, so records have no pose; start the localisation, or correct"
        " pose.odom_topic"
    )


class OdometrySubscription:
    """Puts the poses of the topic `pose.odom_topic` into `poses`, and counts faults in `faults`."""

    def __init__(
        self,
        node: Node,
        settings: Settings,
        poses: PoseBuffer,
        faults: FaultLog,
        begin_session: Callable[[str], None],
    ) -> None:
        """Subscribe.

        Args:
            node: the node.
            settings: its settings.
            poses: gets the poses.
            faults: gets the faults.
            begin_session: called with the reason when odometry began anew. Positions before and
                after have different origins, and a session has one.
        """
        self._node = node
        self._settings = settings
        self._poses = poses
        self._faults = faults
        self._begin_session = begin_session
        self._topic = node.resolve_topic_name(settings.pose.odom_topic)
        self._heard_s = time.monotonic()
        self._jumps = OdometryJumps(self._topic, settings.memory.map_frames)
        self._subscription = node.create_subscription(
            Odometry,
            settings.pose.odom_topic,
            self._on_message,
            own_profile(qos_profile_sensor_data),
            callback_group=MutuallyExclusiveCallbackGroup(),
            qos_overriding_options=OVERRIDABLE,
        )

    def state(self, paused: bool) -> CameraState:
        """Return whether messages arrive; `paused` is whether the node's clock stands still."""
        silent_s = time.monotonic() - self._heard_s
        if silent_s <= self._settings.diagnostics.silent_after_s:
            return CameraState(GOOD, f"messages arrive on {self._topic}")
        if paused:
            return CameraState(PAUSED, "the clock stands still (is a bag or simulation paused?)")
        return CameraState("silent", silent_sentence(self._topic))

    def destroy(self) -> None:
        """Destroy the subscription."""
        self._node.destroy_subscription(self._subscription)

    def _on_message(self, message: Odometry) -> None:
        self._heard_s = time.monotonic()
        stamp_ns = nanoseconds(message.header.stamp)
        fault = stamp_fault(
            "odometry",
            "pose",
            self._topic,
            stamp_ns,
            self._node.get_clock().now().nanoseconds,
            self._settings.diagnostics.future_tolerance_s,
        )
        if fault:
            self._faults.report(fault)
            return
        try:
            self._take(stamp_ns, odometry_pose(message))
        except PoseError as error:
            self._faults.report(str(error))

    def _take(self, stamp_ns: int, pose: Pose) -> None:
        if len(self._poses) == 0:
            # The first one, or time jumped back and all poses were deleted.
            self._jumps.forget()
        jump = self._jumps.observe(stamp_ns, pose)
        if jump is not None and jump.is_new_origin:
            # No pose between the two origins may be interpolated.
            self._poses.clear()
            self._begin_session(jump.reason)
        elif jump is not None:
            self._faults.report(jump.reason)
        self._poses.put(stamp_ns, pose)
