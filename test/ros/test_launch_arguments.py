"""Launch arguments become parameters. These tests run without a ROS distribution."""

from __future__ import annotations

import pytest

from stream_vlm_ros.launch_arguments import camera_parameters, instruction_parameters, is_true


def parameters_of(cameras: str = "", topics: str = "", transports: str = "") -> dict[str, object]:
    return camera_parameters({"cameras": cameras, "topics": topics, "transports": transports})


def test_an_empty_argument_sets_no_parameter() -> None:
    assert parameters_of() == {}
    assert parameters_of(cameras="front, rear") == {"cameras": ["front", "rear"]}
    assert parameters_of(cameras="front", topics="/front/image_raw") == {
        "cameras": ["front"],
        "camera.front.topic": "/front/image_raw",
    }
    assert parameters_of(cameras="front", transports="compressed") == {
        "cameras": ["front"],
        "camera.front.transport": "compressed",
    }


def test_a_single_transport_is_used_for_all_cameras() -> None:
    assert parameters_of(cameras="front,rear", topics="/a,/b", transports="compressed") == {
        "cameras": ["front", "rear"],
        "camera.front.topic": "/a",
        "camera.rear.topic": "/b",
        "camera.front.transport": "compressed",
        "camera.rear.transport": "compressed",
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"cameras": "front,rear", "topics": "/a"}, "topics:=/a names 1 for 2 cameras"),
        (
            {"cameras": "front", "transports": "raw,raw"},
            "transports:=raw,raw names 2 for 1 cameras",
        ),
        ({"topics": "/a"}, "give cameras:="),
        ({"transports": "raw"}, "give cameras:="),
    ],
)
def test_lists_of_different_lengths_are_refused(arguments: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parameters_of(**arguments)


def test_only_true_and_false_are_accepted_as_a_switch() -> None:
    assert is_true("autostart", "True")
    assert not is_true("autostart", "false")
    with pytest.raises(ValueError, match="autostart:=perhaps is refused; give true or false"):
        is_true("autostart", "perhaps")


def test_instructions_are_separated_by_semicolons() -> None:
    assert instruction_parameters("people, pets; a fire ;") == {
        "instructions": ["people, pets", "a fire"]
    }
    assert instruction_parameters("") == {}
