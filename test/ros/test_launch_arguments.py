"""What the arguments of the launch files come to, without a ROS distribution; test_launch_files.py
runs the files themselves.
"""

from __future__ import annotations

import pytest

from stream_vlm_ros.launch_arguments import camera_parameters, is_true


def given(cameras: str = "", topics: str = "", transports: str = "") -> dict[str, object]:
    return camera_parameters({"cameras": cameras, "topics": topics, "transports": transports})


def test_what_is_left_out_is_left_to_the_parameter_file() -> None:
    assert given() == {}
    assert given(cameras="front, rear") == {"cameras": ["front", "rear"]}
    assert given(cameras="front", topics="/front/image_raw") == {
        "cameras": ["front"],
        "camera.front.topic": "/front/image_raw",
    }
    assert given(cameras="front", transports="compressed") == {
        "cameras": ["front"],
        "camera.front.transport": "compressed",
    }


def test_one_transport_is_for_all_cameras() -> None:
    assert given(cameras="front,rear", topics="/a,/b", transports="compressed") == {
        "cameras": ["front", "rear"],
        "camera.front.topic": "/a",
        "camera.rear.topic": "/b",
        "camera.front.transport": "compressed",
        "camera.rear.transport": "compressed",
    }


@pytest.mark.parametrize(
    ("words", "says"),
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
def test_arguments_that_do_not_fit_are_refused(words: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        given(**words)


def test_a_switch_is_true_or_false_and_nothing_else() -> None:
    assert is_true("autostart", "True")
    assert not is_true("autostart", "false")
    with pytest.raises(ValueError, match="autostart:=perhaps is refused; say true or false"):
        is_true("autostart", "perhaps")
