"""The subscription to odometry: each callback puts one pose into the buffer and returns."""

from __future__ import annotations

from nav_msgs.msg import Odometry
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data

from stream_vlm.config.settings import Settings
from stream_vlm.sources.pose_buffer import PoseBuffer, PoseError, odometry_pose
from stream_vlm_ros.common.health_counters import FaultLog
from stream_vlm_ros.common.qos_overrides import OVERRIDABLE, own_profile
from stream_vlm_ros.common.stamps import nanoseconds, stamp_fault


class OdometrySubscription:
    """Puts the poses of the topic `pose.odom_topic` into `poses`, and counts faults in `faults`."""

    def __init__(self, node: Node, settings: Settings, poses: PoseBuffer, faults: FaultLog) -> None:
        self._node = node
        self._settings = settings
        self._poses = poses
        self._faults = faults
        self._topic = node.resolve_topic_name(settings.pose.odom_topic)
        self._subscription = node.create_subscription(
            Odometry,
            settings.pose.odom_topic,
            self._on_message,
            own_profile(qos_profile_sensor_data),
            callback_group=MutuallyExclusiveCallbackGroup(),
            qos_overriding_options=OVERRIDABLE,
        )

    def destroy(self) -> None:
        """Destroy the subscription."""
        self._node.destroy_subscription(self._subscription)

    def _on_message(self, message: Odometry) -> None:
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
            self._poses.put(stamp_ns, odometry_pose(message))
        except PoseError as error:
            self._faults.report(str(error))
