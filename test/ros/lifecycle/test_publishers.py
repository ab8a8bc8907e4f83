"""Utterances and events over DDS: also for subscribers that join late."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_fixtures import BRIGHT, DARK, Camera, Robot
from std_msgs.msg import String
from stream_vlm_ros.msg import EventGrounding, StreamState, Utterance

LATE = QoSProfile(
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


def listen(robot: Robot, kind: type, topic: str, qos: QoSProfile | int) -> list[Any]:
    heard: list[Any] = []
    robot.on_spinner(
        lambda: robot.node.create_subscription(kind, f"stream_vlm/{topic}", heard.append, qos)
    )
    return heard


def _has_events(robot: Robot, count: int) -> bool:
    return len(robot.events) == count


def change_light(robot: Robot, times: int) -> Camera:
    """Let the node say `times` times that the light changed; return the camera."""
    camera = robot.camera()
    robot.wait(lambda: robot.states, "a state")
    for number in range(times):
        camera.brightness = DARK if number % 2 else BRIGHT
        robot.wait(partial(_has_events, robot, number + 1), "the event")
    robot.wait(lambda: len(robot.utterances) == len(robot.texts) == times, "every utterance")
    return camera


def test_a_late_subscriber_hears_the_last_utterance_and_event(robot: Robot) -> None:
    robot.start_node()
    camera = change_light(robot, 3)
    said, words, events = (
        listen(robot, Utterance, "utterance", LATE),
        listen(robot, String, "utterance_text", LATE),
        listen(robot, EventGrounding, "event", LATE),
    )
    robot.wait(lambda: len(said) == len(words) == len(events) == 3, "what was said before")
    assert said == robot.utterances
    assert events == robot.events
    assert [message.data for message in words] == robot.texts
    # The camera still changes nothing: what is volatile hears only what follows.
    volatile = listen(robot, Utterance, "utterance", 10)
    camera.brightness = DARK
    robot.wait(lambda: len(robot.utterances) == 4, "another utterance")
    robot.wait(lambda: volatile, "the same for the volatile subscriber")
    assert volatile == robot.utterances[3:]
    robot.wait(lambda: len(said) == 4, "the same for the late subscriber")


def test_a_parameter_says_how_many_a_late_subscriber_hears(robot: Robot) -> None:
    robot.start_node(output__depth=1)
    camera = change_light(robot, 3)
    said, events = (
        listen(robot, Utterance, "utterance", LATE),
        listen(robot, EventGrounding, "event", LATE),
    )
    robot.wait(lambda: said and events, "what was said last")
    assert (said[0], events[0]) == (robot.utterances[-1], robot.events[-1])
    # The next ones arrive after all that was kept.
    camera.brightness = DARK
    robot.wait(lambda: len(robot.utterances) == 4 and said[-1] == robot.utterances[-1], "the next")
    assert said == robot.utterances[2:]


def test_states_are_not_kept_and_an_override_makes_utterances_volatile(robot: Robot) -> None:
    topic = f"{robot.namespace}/stream_vlm/utterance"
    override: dict[str, Any] = {f"qos_overrides.{topic}.publisher.durability": "volatile"}
    robot.start_node(**override)
    change_light(robot, 1)
    for kind, name in ((Utterance, "utterance"), (StreamState, "state")):
        (publisher,) = robot.node.get_publishers_info_by_topic(
            f"{robot.namespace}/stream_vlm/{name}"
        )
        assert publisher.qos_profile.durability == DurabilityPolicy.VOLATILE, kind
    (event,) = robot.node.get_publishers_info_by_topic(f"{robot.namespace}/stream_vlm/event")
    assert event.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        (
            {"qos_overrides./diagnostics.publisher.durability": "transient_local"},
            "the QoS of '/diagnostics' cannot be overridden here",
        ),
        ({"stream.rate_hzz": 5.0}, "stream.rate_hzz: no such parameter"),
        ({"cameras": ["left", "right"]}, "cameras 'left' and 'right' both watch"),
    ],
)
def test_a_node_that_would_ignore_a_value_is_not_configured_and_says_why(
    robot: Robot, parameters: dict[str, Any], says: str
) -> None:
    robot.start_node(**parameters)
    robot.wait_for_diagnostic("node", says)
    assert robot.lifecycle_state() == "unconfigured"
    assert says in robot.log
