"""The subscription to a camera: each callback gives one message to the sampler and returns.

Nothing is queued and nothing is decoded here.
"""

from __future__ import annotations

import threading
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
from rclpy.topic_endpoint_info import TopicEndpointInfo
from sensor_msgs.msg import CompressedImage, Image

from stream_vlm.config.settings import Settings
from stream_vlm.loop.sampler import LatestFrames
from stream_vlm.sources.video_packets import LiveVideo, Packet, packet_codec
from stream_vlm.types import NANOSECONDS, StaleFrame
from stream_vlm_ros.common.health_counters import CameraHealth
from stream_vlm_ros.common.qos_overrides import OVERRIDABLE
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

The parameter qos_overrides.TOPIC.subscription.POLICY overrides a policy. A reliability that is not
overridden is that of the publishers, see `match_publishers`.
"""
COMPRESSED_DEPTH = 30
"""Messages kept for a compressed camera: a lost packet of a video spoils every picture up to the
next key frame. Of whole pictures the newest still replaces the others as soon as it is received.
"""
EXCEPT_RELIABILITY = QoSOverridingOptions(
    policy_kinds=[kind for kind in OVERRIDABLE.policy_kinds if kind != QoSPolicyKind.RELIABILITY]
)


@dataclass(frozen=True)
class CameraMessage:
    """A camera's message that is not decoded yet; the sampler holds these."""

    camera: str
    stamp_ns: int
    message: Image | CompressedImage
    video: LiveVideo | None = None
    """Has the picture if the message is a packet of a video."""


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
        self._video = LiveVideo(name)
        self.qos = QoSProfile(
            history=NEWEST_ONLY.history,
            depth=NEWEST_ONLY.depth if self._transport == "raw" else COMPRESSED_DEPTH,
            reliability=NEWEST_ONLY.reliability,
            durability=NEWEST_ONLY.durability,
        )
        # Complete before the subscription: its first message may arrive at once, on another thread.
        self.topic = node.resolve_topic_name(settings.camera[name].topic)
        self.health = CameraHealth(self.topic, node.get_logger().warning)
        override = f"qos_overrides.{self.topic}.subscription.reliability"
        self.is_overridden = override in node._parameter_overrides  # noqa: SLF001 (no other way)
        self._overridable = OVERRIDABLE if self.is_overridden else EXCEPT_RELIABILITY
        self.qos.reliability = self._reliability_to_request()
        self._reports_losses = True
        self._lock = threading.Lock()
        self._is_destroyed = False
        self._subscription = self._subscribe()

    def _subscribe(self) -> Subscription:
        if self._reports_losses:
            try:
                return self._create(message_lost=self._on_message_lost)
            except UnsupportedEventTypeError:
                self._reports_losses = False
                self._node.get_logger().info(
                    f"{self.topic}: this middleware does not report lost messages"
                )
        return self._create(message_lost=None)

    def _create(self, message_lost: Callable[[Any], None] | None) -> Subscription:
        return self._node.create_subscription(
            MESSAGE_TYPES[self._transport],
            self._settings.camera[self.name].topic,
            self._on_message,
            self.qos,
            callback_group=MutuallyExclusiveCallbackGroup(),
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=self._on_incompatible_qos, message_lost=message_lost
            ),
            qos_overriding_options=self._overridable,
        )

    def match_publishers(self) -> None:
        """Subscribe again if the publishers offer another reliability than before.

        A large picture travels in hundreds of parts. With best effort one lost part loses the
        picture; with reliable QoS it is sent again. A reliable subscription gets nothing from a
        best-effort publisher, so it is made only if every publisher offers it.
        """
        with self._lock:
            reliability = self._reliability_to_request()
            if self._is_destroyed or reliability == self.qos.reliability:
                return
            self.qos.reliability = reliability
            self._node.destroy_subscription(self._subscription)
            self.health.subscribed_again()
            self._subscription = self._subscribe()
        self._node.get_logger().info(
            f"{self.name}: subscribed to {self.topic} with {reliability.name} QoS, as its"
            " publishers offer"
        )

    def _reliability_to_request(self) -> ReliabilityPolicy:
        offered = {publisher.qos_profile.reliability for publisher in self._publishers()}
        if self.is_overridden or not offered:
            return self.qos.reliability
        return (
            ReliabilityPolicy.RELIABLE
            if offered == {ReliabilityPolicy.RELIABLE}
            else ReliabilityPolicy.BEST_EFFORT
        )

    def _publishers(self) -> list[TopicEndpointInfo]:
        """The publishers of the topic that publish pictures of this type."""
        return [
            publisher
            for publisher in self._node.get_publishers_info_by_topic(self.topic)
            if publisher.topic_type == TYPE_NAMES[self._transport]
        ]

    def destroy(self) -> None:
        """Destroy the subscription."""
        with self._lock:
            self._is_destroyed = True
            self._node.destroy_subscription(self._subscription)

    def _on_message(self, message: Image | CompressedImage) -> None:
        self.health.count_arrival()
        stamp_ns = message.header.stamp.sec * NANOSECONDS + message.header.stamp.nanosec
        codec = packet_codec(message) if self._transport == "compressed" else None
        if codec is not None:  # whatever its stamp is, later packets need it
            self._video.put(Packet(codec, bytes(message.data), stamp_ns))
        now_ns = self._node.get_clock().now().nanoseconds
        ahead_s = self._settings.diagnostics.future_tolerance_s
        if not 0 < stamp_ns <= now_ns + ahead_s * NANOSECONDS:
            self.health.refused.report(
                stamp_fault(self.name, "picture", self.topic, stamp_ns, now_ns, ahead_s)
            )
            return
        self._sessions.observe_stamp(self.name, stamp_ns)
        try:
            video = self._video if codec is not None else None
            self._sampler.put(CameraMessage(self.name, stamp_ns, message, video))
        except StaleFrame as error:
            self.health.refused.report(str(error))
            return
        self.health.newest_stamp_ns = stamp_ns

    def _on_incompatible_qos(self, event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        if policy == "RELIABILITY" and not self.is_overridden:
            return  # a publisher that came later; `match_publishers` follows it
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

    def loss_remedy(self) -> str:
        """Say what to do against pictures that are lost in transport."""
        offered = {publisher.qos_profile.reliability for publisher in self._publishers()}
        if self.qos.reliability == ReliabilityPolicy.RELIABLE:
            return "use a compressed topic or a faster network"
        if offered == {ReliabilityPolicy.RELIABLE}:
            return (
                f"remove qos_overrides.{self.topic}.subscription.reliability, so that the node"
                " subscribes reliably, as the driver publishes"
            )
        return (
            "let the driver publish with reliable QoS, or start it with the environment variable"
            " FASTRTPS_DEFAULT_PROFILES_FILE and config/large_pictures.xml of this package, or use"
            " a compressed topic"
        )

    def explain_silence(self) -> tuple[str, str]:
        """Say why no picture arrives, as far as the ROS graph shows it, and what to do.

        Returns:
            The kind of reason in a word or two, and the sentence.
        """
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        expected = TYPE_NAMES[self._transport]
        if not publishers:
            return "no publisher", (
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
            return "other type", (
                f"{self.topic} carries {', '.join(others)}, not {expected}; {remedy}"
            )
        mismatch = self.qos_mismatch() or self.health.incompatible_qos
        if mismatch:
            return "other QoS", mismatch
        return "no picture", (
            f"{len(publishers)} publisher(s) on {self.topic}, but no picture arrives; check that"
            " the driver runs and that the network is fast enough"
        )
