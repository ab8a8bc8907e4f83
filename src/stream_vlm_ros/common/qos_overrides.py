"""QoS that a parameter overrides: qos_overrides.TOPIC.publisher.POLICY, or subscription.

rclpy reads such a parameter when it makes the publisher or subscription, and only for the policies
that the code allows. It ignores all others without a word.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

PREFIX = "qos_overrides."
PUBLISHER, SUBSCRIPTION = "publisher", "subscription"
OVERRIDABLE = QoSOverridingOptions(
    policy_kinds=(
        QoSPolicyKind.HISTORY,
        QoSPolicyKind.DEPTH,
        QoSPolicyKind.RELIABILITY,
        QoSPolicyKind.DURABILITY,
    )
)
"""The policies that can be overridden for the topics of `override_faults`."""

VALUES = {
    "history": HistoryPolicy,
    "depth": None,
    "reliability": ReliabilityPolicy,
    "durability": DurabilityPolicy,
}
"""The names of these policies, with the values of each; `depth` is a number."""


def values_at_start(node: Node) -> dict[str, Any]:
    """Return the values of parameters that were given at the start, whether declared or not."""
    return {name: given.value for name, given in node._parameter_overrides.items()}  # noqa: SLF001


def own_profile(qos: QoSProfile) -> QoSProfile:
    """Return a copy of `qos` for one topic.

    rclpy writes an override into the profile that it is given, so a shared one would change the
    topics that are made later.
    """
    return QoSProfile(
        history=qos.history,
        depth=qos.depth,
        reliability=qos.reliability,
        durability=qos.durability,
    )


def override_faults(given: Mapping[str, Any], entities: Mapping[str, str]) -> list[str]:
    """Return one sentence for each override that would have no effect or cannot be used.

    Args:
        given: values of parameters by name; names without `PREFIX` are skipped.
        entities: `PUBLISHER` or `SUBSCRIPTION` by resolved topic, for each topic whose QoS can be
            overridden.
    """
    return [
        f"{name}: {fault}"
        for name, value in sorted(given.items())
        if name.startswith(PREFIX) and (fault := _fault(name, value, entities))
    ]


def _fault(name: str, value: Any, entities: Mapping[str, str]) -> str:
    parts = name.removeprefix(PREFIX).rsplit(".", 2)
    if len(parts) != 3:
        return (
            "is not the name of an override; write qos_overrides.TOPIC.subscription.POLICY, or"
            " publisher"
        )
    topic, entity, policy = parts
    if topic not in entities:
        near = difflib.get_close_matches(topic, entities, 1)
        return (
            f"the QoS of '{topic}' cannot be overridden here, so it would have no effect; "
            + (f"perhaps {near[0]} is meant; " if near else "")
            + "it can be for these topics, named after namespace and remapping:"
            + f" {', '.join(sorted(entities))}"
        )
    if entity != entities[topic]:
        return f"this node has a {entities[topic]} on {topic}, not a {entity}"
    if policy not in VALUES:
        return (
            f"the policy {policy} cannot be overridden for {topic}, so it would have no effect;"
            f" {', '.join(VALUES)} can"
        )
    return _value_fault(policy, value)


def _value_fault(policy: str, value: Any) -> str:
    names = VALUES[policy]
    if names is None:
        is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        return "" if is_number else f"{value!r} is refused; give a whole number of 1 or more"
    allowed = [member.lower() for member in names.__members__ if member != "UNKNOWN"]
    if isinstance(value, str) and value.lower() in allowed:
        return ""
    return f"{value!r} is refused; choose among {', '.join(allowed)}"
