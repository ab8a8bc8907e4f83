"""What the node says: published once a step is in the memory, in the order of the steps; and what
the memory answers to `~/query`.
"""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_msgs.msg import String

from stream_vlm.types import StepResult
from stream_vlm_ros.common.conversions import event_message, state_messages, utterance_message
from stream_vlm_ros.msg import EventGrounding, StreamState, Utterance

RELIABLE = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)


class Outputs:
    """The node's publishers."""

    def __init__(self, node: Node) -> None:
        self._node = node
        overridable = QoSOverridingOptions.with_default_policies()
        self._utterance = node.create_publisher(
            Utterance, "~/utterance", RELIABLE, qos_overriding_options=overridable
        )
        self._text = node.create_publisher(
            String, "~/utterance_text", RELIABLE, qos_overriding_options=overridable
        )
        self._event = node.create_publisher(
            EventGrounding, "~/event", RELIABLE, qos_overriding_options=overridable
        )
        self._state = node.create_publisher(
            StreamState, "~/state", RELIABLE, qos_overriding_options=overridable
        )

    def publish(self, result: StepResult) -> None:
        """Say what one step led to."""
        poses = {frame.camera: frame.pose for frame in result.tick.frames}
        for utterance in result.utterances:
            self.say(utterance_message(utterance, result.session_id))
        for event in result.events:
            self._event.publish(event_message(event, result.session_id, poses.get(event.camera)))
        for state in state_messages(result):
            self._state.publish(state)

    def say(self, utterance: Utterance) -> None:
        """Publish one utterance, and its words."""
        self._utterance.publish(utterance)
        self._text.publish(String(data=utterance.text))

    def destroy(self) -> None:
        for publisher in (self._utterance, self._text, self._event, self._state):
            self._node.destroy_publisher(publisher)
