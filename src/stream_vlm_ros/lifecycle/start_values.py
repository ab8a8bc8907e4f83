"""Refuses values given at the start that would have no effect, and cameras that share a topic.

rclpy ignores the value of a parameter that is never declared, for example a misspelt name.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection

from rclpy.node import Node

from stream_vlm.config.field import SettingError
from stream_vlm.config.settings import Settings, describe_settings
from stream_vlm_ros.common.qos_overrides import (
    PREFIX,
    PUBLISHER,
    SUBSCRIPTION,
    override_faults,
    values_at_start,
)

PUBLISHED = ("~/utterance", "~/utterance_text", "~/event", "~/state")
"""The topics of `Publishers`."""
OF_RCLPY = ("use_sim_time", "start_type_description_service")
"""Parameters that rclpy declares."""
CAMERA = "camera"
COMPRESSED = "/compressed"
"""How image_transport names the compressed topic of a camera, after the topic of its images."""


def check_start_values(node: Node, settings: Settings, known: Collection[str]) -> None:
    """Refuse names of parameters that nothing reads, and overrides of QoS that have no effect.

    A name that is not like any of ours is only logged, because a file for several nodes (`/**`) may
    have parameters of the others.

    Args:
        node: the node.
        settings: the settings that it is configured with.
        known: the names of all parameters of the node.

    Raises:
        SettingError: one sentence for each of them.
    """
    given = values_at_start(node)
    faults = override_faults(given, _overridable(node, settings))
    names = {*known, *OF_RCLPY}
    for name in sorted(set(given) - names):
        if name.startswith(PREFIX):
            continue
        fault = _unknown(name, names, settings.cameras)
        if fault:
            faults.append(fault)
        else:
            node.get_logger().warning(
                f"{name}: no such parameter, so its value has no effect; 'ros2 param list' shows"
                " the parameters"
            )
    if faults:
        raise SettingError("; ".join(faults))


def check_camera_topics(node: Node, settings: Settings) -> None:
    """Refuse two cameras that get the same pictures, after namespace and remapping.

    Raises:
        SettingError: the sentence names both cameras and the topic, or a name that is no topic.
    """
    seen: dict[str, tuple[str, str]] = {}
    for name in settings.cameras:
        camera = settings.camera[name]
        topic = _resolved(node, f"camera.{name}.topic", camera.topic)
        images = topic.removesuffix(COMPRESSED) if camera.transport == "compressed" else topic
        if images not in seen:
            seen[images] = (name, topic)
            continue
        other, other_topic = seen[images]
        same = (
            f"both watch {topic}"
            if topic == other_topic
            else f"watch {other_topic} and {topic}, which are two forms of the same pictures"
        )
        raise SettingError(
            f"cameras '{other}' and '{name}' {same}; set camera.{name}.topic to the topic of"
            f" another camera, or leave '{name}' out of cameras"
        )


def _overridable(node: Node, settings: Settings) -> dict[str, str]:
    """Return the topics whose QoS can be overridden: publisher or subscription, by topic."""
    watched = {f"camera.{name}.topic": settings.camera[name].topic for name in settings.cameras}
    if settings.pose.odom_topic:
        watched["pose.odom_topic"] = settings.pose.odom_topic
    entities = {_resolved(node, name, topic): SUBSCRIPTION for name, topic in watched.items()}
    entities[node.resolve_topic_name("~/query")] = SUBSCRIPTION
    return entities | {node.resolve_topic_name(topic): PUBLISHER for topic in PUBLISHED}


def _resolved(node: Node, name: str, topic: str) -> str:
    try:
        return str(node.resolve_topic_name(topic))
    except RuntimeError as error:  # rclpy's RCLError is one
        # "failed to resolve name: topic name must not end with a forward slash, at FILE:LINE"
        reason = str(error).removeprefix("failed to resolve name: ").partition(", at ")[0]
        raise SettingError(
            f"{name}: '{topic}' is not the name of a topic: {reason}; correct it"
        ) from error


def _unknown(name: str, known: Collection[str], cameras: Collection[str]) -> str:
    """Return one sentence about a name that is misspelt; empty if it need not be ours."""
    group, _, rest = name.partition(".")
    if group == CAMERA and "." in rest:
        camera, _, leaf = rest.partition(".")
        if camera not in cameras and leaf in _camera_settings():
            # A file may have the settings of cameras that are not watched this time.
            return ""
    near = difflib.get_close_matches(name, known, 1, 0.8)
    groups = {other.partition(".")[0] for other in known if "." in other}
    if not near and group not in groups:
        return ""
    near = near or difflib.get_close_matches(name, known, 1, 0.0)
    return (
        f"{name}: no such parameter, so its value would have no effect; perhaps {near[0]} is meant"
        " (correct the name where the node is started)"
    )


def _camera_settings() -> set[str]:
    prefix = f"{CAMERA}.x."
    return {
        info.name.removeprefix(prefix)
        for info in describe_settings(["x"])
        if info.name.startswith(prefix)
    }
