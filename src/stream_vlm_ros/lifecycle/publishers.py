"""The node's publishers.

A step is published after the memory stored it, so the messages come in the order of the steps.
"""

from __future__ import annotations

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from stream_vlm.types import StepResult
from stream_vlm_ros.common.conversions import event_message, state_messages, utterance_message
from stream_vlm_ros.common.qos_overrides import OVERRIDABLE, own_profile
from stream_vlm_ros.msg import EventGrounding, StreamState, Utterance

STATE_DEPTH = 50


class Publishers:
    """Publishes utterances, events and states."""

    def __init__(self, node: Node, depth: int) -> None:
        """Make the publishers.

        A subscription that asks for durability transient local gets the newest utterances and
        events when it joins, however late. One that is volatile gets only what follows.

        Args:
            node: the node.
            depth: how many utterances and events are kept for that, see `output.depth`.
        """
        self._node = node
        kept = QoSProfile(
            depth=depth,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        )
        self._utterance = self._make(Utterance, "~/utterance", kept)
        self._text = self._make(String, "~/utterance_text", kept)
        self._event = self._make(EventGrounding, "~/event", kept)
        reliable = QoSProfile(depth=STATE_DEPTH, reliability=ReliabilityPolicy.RELIABLE)
        self._state = self._make(StreamState, "~/state", reliable)

    def _make(self, kind: type, topic: str, qos: QoSProfile) -> Publisher:
        return self._node.create_publisher(
            kind, topic, own_profile(qos), qos_overriding_options=OVERRIDABLE
        )

    def publish(self, result: StepResult) -> None:
        """Publish the utterances, events and states of one step."""
        frames = {frame.camera: frame for frame in result.tick.frames}
        for utterance in result.utterances:
            self.publish_utterance(utterance_message(utterance, result.session_id))
        for event in result.events:
            frame = frames.get(event.camera)
            # An event of an instruction ends at a later frame than the one it was reported at.
            is_now = frame is not None and frame.stamp_ns == event.stamp_ns
            pose = frame.pose if frame is not None and is_now else event.pose
            self._event.publish(event_message(event, result.session_id, pose))
        for state in state_messages(result):
            self._state.publish(state)

    def publish_utterance(self, utterance: Utterance) -> None:
        """Publish an utterance on `~/utterance`, and its text on `~/utterance_text`."""
        self._utterance.publish(utterance)
        self._text.publish(String(data=utterance.text))

    def destroy(self) -> None:
        """Destroy all publishers."""
        for publisher in (self._utterance, self._text, self._event, self._state):
            self._node.destroy_publisher(publisher)
