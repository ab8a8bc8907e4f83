"""Overrides of QoS that would have no effect are found, and each gets one sentence."""

from __future__ import annotations

from typing import Any

import pytest
from rclpy.qos import ReliabilityPolicy, qos_profile_sensor_data

from stream_vlm_ros.common.qos_overrides import (
    PUBLISHER,
    SUBSCRIPTION,
    override_faults,
    own_profile,
)

ENTITIES = {"/r1/image_raw": SUBSCRIPTION, "/r1/stream_vlm/event": PUBLISHER}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("/r1/image_raw.subscription.reliability", "reliable"),
        ("/r1/image_raw.subscription.reliability", "BEST_EFFORT"),
        ("/r1/image_raw.subscription.durability", "transient_local"),
        ("/r1/image_raw.subscription.history", "keep_all"),
        ("/r1/stream_vlm/event.publisher.depth", 3),
        ("/r1/stream_vlm/event.publisher.durability", "volatile"),
    ],
)
def test_an_override_that_has_an_effect_is_no_fault(name: str, value: Any) -> None:
    assert override_faults({f"qos_overrides.{name}": value, "stream.rate_hz": 2.0}, ENTITIES) == []


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("/r1/image_raw.subscription.deadline", 5, "the policy deadline cannot be overridden"),
        ("/r1/image_raw.subscription.lifespan", 5, "history, depth, reliability, durability can"),
        ("/r1/image_raw.subscription.durabilty", "volatile", "the policy durabilty cannot"),
        ("/r1/image_raw.publisher.depth", 5, "has a subscription on /r1/image_raw, not a pub"),
        ("/r1/stream_vlm/event.subscription.depth", 5, "has a publisher on"),
        ("/r1/image_raw.subscription_left.depth", 5, "not a subscription_left"),
        ("image_raw.subscription.depth", 5, "perhaps /r1/image_raw is meant"),
        ("/r1/imag_raw.subscription.depth", 5, "perhaps /r1/image_raw is meant"),
        ("/clock.subscription.depth", 5, "the QoS of '/clock' cannot be overridden here"),
        ("depth", 5, "is not the name of an override"),
        ("/r1/image_raw.subscription.depth", 0, "0 is refused; give a whole number"),
        ("/r1/image_raw.subscription.depth", "ten", "'ten' is refused; give a whole number"),
        ("/r1/image_raw.subscription.depth", True, "True is refused"),
        ("/r1/image_raw.subscription.reliability", "relaible", "choose among "),
        ("/r1/image_raw.subscription.durability", 1, "1 is refused; choose among "),
        ("/r1/image_raw.subscription.reliability", "unknown", "choose among "),
    ],
)
def test_an_override_without_an_effect_gets_one_sentence_with_its_name(
    name: str, value: Any, says: str
) -> None:
    (fault,) = override_faults({f"qos_overrides.{name}": value}, ENTITIES)
    assert fault.startswith(f"qos_overrides.{name}: ")
    assert says in fault


def test_a_copy_of_a_profile_is_changed_alone() -> None:
    own_profile(qos_profile_sensor_data).reliability = ReliabilityPolicy.RELIABLE
    assert qos_profile_sensor_data.reliability == ReliabilityPolicy.BEST_EFFORT
