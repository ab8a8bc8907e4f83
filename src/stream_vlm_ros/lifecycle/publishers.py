"""The node's publishers.

A step is published after the memory stored it, so the messages come in the order of the steps.
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


class Publishers:
    """Publishes utterances, events and states."""

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
        """Publish the utterances, events and states of one step."""
        poses = {frame.camera: frame.pose for frame in result.tick.frames}
        for utterance in result.utterances:
            self.publish_utterance(utterance_message(utterance, result.session_id))
        for event in result.events:
            self._event.publish(event_message(event, result.session_id, poses.get(event.camera)))
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
