"""The subscription to a camera: each callback gives one message to the sampler and returns.

Nothing is queued and nothing is decoded here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from stream_vlm.config.settings import Settings
from stream_vlm.loop.sampler import LatestFrames
from stream_vlm.types import NANOSECONDS, StaleFrame
from stream_vlm_ros.common.health_counters import CameraHealth
from stream_vlm_ros.common.stamps import stamp_fault
from stream_vlm_ros.inputs.session_tracker import SessionTracker

MESSAGE_TYPES = {"raw": Image, "compressed": CompressedImage}
TYPE_NAMES = {"raw": "sensor_msgs/msg/Image", "compressed": "sensor_msgs/msg/CompressedImage"}
NEWEST_ONLY = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
"""The QoS of a camera: only the newest message counts.

The parameter qos_overrides.TOPIC.subscription.POLICY overrides a policy.
"""
OVERRIDABLE = QoSOverridingOptions(
    policy_kinds=(
        QoSPolicyKind.HISTORY,
        QoSPolicyKind.DEPTH,
        QoSPolicyKind.RELIABILITY,
        QoSPolicyKind.DURABILITY,
    )
)


@dataclass(frozen=True)
class CameraMessage:
    """A camera's message that is not decoded yet; the sampler holds these."""

    camera: str
    stamp_ns: int
    message: Image | CompressedImage


class CameraSubscription:
    """The subscription of one camera. It gives messages to the sampler and counts faults."""

    def __init__(
        self,
        node: Node,
        name: str,
        settings: Settings,
        sampler: LatestFrames[CameraMessage],
        sessions: SessionTracker[CameraMessage],
    ) -> None:
        self.name = name
        self._node = node
        self._settings = settings
        self._sampler = sampler
        self._sessions = sessions
        self._transport = settings.camera[name].transport
        self.qos = QoSProfile(
            history=NEWEST_ONLY.history,
            depth=NEWEST_ONLY.depth,
            reliability=NEWEST_ONLY.reliability,
            durability=NEWEST_ONLY.durability,
        )
        # Complete before the subscription: its first message may arrive at once, on another thread.
        self.topic = node.resolve_topic_name(settings.camera[name].topic)
        self.health = CameraHealth(self.topic, node.get_logger().warning)
        try:
            self._subscription = self._subscribe(message_lost=self._on_message_lost)
        except UnsupportedEventTypeError:
            node.get_logger().info(
                f"{settings.camera[name].topic}: this middleware does not report lost messages"
            )
            self._subscription = self._subscribe(message_lost=None)

    def _subscribe(self, message_lost: Callable[[Any], None] | None) -> Subscription:
        return self._node.create_subscription(
            MESSAGE_TYPES[self._transport],
            self._settings.camera[self.name].topic,
            self._on_message,
            self.qos,
            callback_group=MutuallyExclusiveCallbackGroup(),
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=self._on_incompatible_qos, message_lost=message_lost
            ),
            qos_overriding_options=OVERRIDABLE,
        )

    def destroy(self) -> None:
        """Destroy the subscription."""
        self._node.destroy_subscription(self._subscription)

    def _on_message(self, message: Image | CompressedImage) -> None:
        self.health.count_arrival()
        stamp_ns = message.header.stamp.sec * NANOSECONDS + message.header.stamp.nanosec
        now_ns = self._node.get_clock().now().nanoseconds
        ahead_s = self._settings.diagnostics.future_tolerance_s
        if not 0 < stamp_ns <= now_ns + ahead_s * NANOSECONDS:
            self.health.refused.report(
                stamp_fault(self.name, "picture", self.topic, stamp_ns, now_ns, ahead_s)
            )
            return
        self._sessions.observe_stamp(self.name, stamp_ns)
        try:
            self._sampler.put(CameraMessage(self.name, stamp_ns, message))
        except StaleFrame as error:
            self.health.refused.report(str(error))
            return
        self.health.newest_stamp_ns = stamp_ns

    def _on_incompatible_qos(self, event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        self.health.incompatible_qos = self._qos_remedy(policy)
        self._node.get_logger().warning(self.health.incompatible_qos)

    def _on_message_lost(self, event: Any) -> None:
        self.health.note_lost(event.total_count)

    def _qos_remedy(self, policy: str) -> str:
        return (
            f"{self.name}: a publisher on {self.topic} offers another {policy} than this node"
            f" requests, so its pictures do not arrive; set the same {policy} on both sides: in the"
            f" driver, or here with qos_overrides.{self.topic}.subscription.{policy.lower()}"
        )

    def qos_mismatch(self) -> str:
        """Say what to do if a publisher's QoS does not match ours; empty if all match.

        Only the policies that an override can make stricter are compared. Every publisher satisfies
        the others.
        """
        for publisher in self._node.get_publishers_info_by_topic(self.topic):
            offered = publisher.qos_profile
            if (
                self.qos.reliability == ReliabilityPolicy.RELIABLE
                and offered.reliability == ReliabilityPolicy.BEST_EFFORT
            ):
                return self._qos_remedy("RELIABILITY")
            if (
                self.qos.durability == DurabilityPolicy.TRANSIENT_LOCAL
                and offered.durability == DurabilityPolicy.VOLATILE
            ):
                return self._qos_remedy("DURABILITY")
        return ""

    def explain_silence(self) -> str:
        """Say why no picture arrives, as far as the ROS graph shows it, and what to do."""
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        expected = TYPE_NAMES[self._transport]
        if not publishers:
            return (
                f"nothing publishes on {self.topic}; start the camera's driver, or set"
                f" camera.{self.name}.topic (ros2 topic list -t shows all topics)"
            )
        others = sorted({publisher.topic_type for publisher in publishers} - {expected})
        if others and len(others) == len({publisher.topic_type for publisher in publishers}):
            other_transport = next(
                (transport for transport, name in TYPE_NAMES.items() if name in others), None
            )
            remedy = (
                f"set camera.{self.name}.transport to {other_transport}"
                if other_transport
                else f"set camera.{self.name}.topic"
            )
            return f"{self.topic} carries {', '.join(others)}, not {expected}; {remedy}"
        mismatch = self.qos_mismatch() or self.health.incompatible_qos
        if mismatch:
            return mismatch
        return (
            f"{len(publishers)} publisher(s) on {self.topic}, but no picture arrives; check that"
            " the driver runs and that the network is fast enough"
        )
