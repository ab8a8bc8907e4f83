"""The example of a ROS client waits for an event of a real node and asks its memory."""

import subprocess
import sys
from pathlib import Path

import pytest
from places import REPOSITORY

pytest.importorskip("rclpy", reason="rclpy is not installed: it comes with ROS 2")

from ros_fixtures import BRIGHT, DARK, robot_in

LONGEST_S = 120.0


def test_the_client_prints_the_event_that_it_waited_for_and_ends(tmp_path: Path) -> None:
    with robot_in(tmp_path) as robot:
        camera = robot.camera()
        camera.brightness = DARK
        robot.start_node()
        robot.wait(lambda: robot.states, "a state")
        client = subprocess.Popen(
            [
                *(sys.executable, "-u", REPOSITORY / "examples" / "wait_for_event.py", "bright"),
                *("--ros-args", "-r", f"__ns:={robot.namespace}"),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            # The client misses events until it has discovered the node.
            for count in range(1, 20):
                for brightness, text in ((BRIGHT, "it became bright"), (DARK, "it became dark")):
                    camera.brightness = brightness
                    robot.wait_for_text(text, count)
                if client.poll() is not None:
                    break
            printed, _ = client.communicate(timeout=LONGEST_S)
        finally:
            client.kill()
    assert client.returncode == 0, printed
    assert "event: it became bright (confidence 0.8" in printed
    assert "records of it" in printed
