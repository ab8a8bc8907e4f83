"""The launch files, run by the real `ros2 launch`. It comes with a ROS distribution only."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from model_fixtures import write_checkpoint
from ros_fixtures import BRIGHT, DARK, DEADLINE_S, Robot
from stream_vlm_ros.srv import Recall

from stream_vlm.sources.rosbag_writer import BagWriter
from stream_vlm.types import NANOSECONDS, Frame

pytest.importorskip(
    "launch", reason="launch is not installed: it comes with a ROS distribution, not from PyPI"
)
pytest.importorskip(
    "launch_ros",
    reason="launch_ros is not installed: it comes with a ROS distribution, not from PyPI",
)
if shutil.which("ros2") is None:
    pytest.skip(
        "ros2 is not on the PATH: it comes with a ROS distribution, not from PyPI",
        allow_module_level=True,
    )

START_NS = 1_700_000_000 * NANOSECONDS


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real checkpoint with random weights, because its answers are not tested here."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def launch(robot: Robot, file: str, **arguments: object) -> subprocess.Popen[bytes]:
    """Run a launch file in the robot's namespace, as the process of the robot's node."""
    words = [
        f"{name}:={value}"
        for name, value in {
            "namespace": robot.namespace,
            "memory_file": robot.memory,
            **arguments,
        }.items()
    ]
    return robot.start_process(["ros2", "launch", "stream_vlm_ros", file, *words])


def test_the_launch_file_starts_and_activates_a_node_with_its_cameras(
    robot: Robot, checkpoint: Path
) -> None:
    robot.camera("front/image")
    robot.camera("rear/image/compressed", "compressed")
    launch(
        robot,
        "stream_vlm.launch.py",
        cameras="front,rear",
        topics="front/image,rear/image/compressed",
        transports="raw,compressed",
        model_directory=checkpoint,
    )
    robot.wait(
        lambda: {state.camera for state in list(robot.states)} == {"front", "rear"},
        "states of both cameras",
    )
    assert robot.lifecycle_state() == "active"
    assert robot.transition("deactivate")
    assert robot.lifecycle_state() == "inactive"
    assert robot.end_node(signal.SIGINT) == 0


def test_one_camera_needs_only_a_name_and_a_topic(robot: Robot, checkpoint: Path) -> None:
    robot.camera("front/image")
    launch(
        robot,
        "stream_vlm.launch.py",
        cameras="front",
        topics="front/image",
        model_directory=checkpoint,
    )
    robot.wait(
        lambda: {state.camera for state in list(robot.states)} == {"front"}, "states of the camera"
    )


def test_without_autostart_the_node_stays_unconfigured(robot: Robot) -> None:
    launch(robot, "stream_vlm.launch.py", autostart="false")
    assert robot.lifecycle_state() == "unconfigured"
    assert robot.end_node(signal.SIGINT) == 0


@pytest.mark.parametrize("preset", ["demo", "desktop"])
def test_a_preset_can_be_given_as_parameter_file(
    robot: Robot, repository: Path, checkpoint: Path, preset: str
) -> None:
    launch(
        robot,
        "stream_vlm.launch.py",
        params_file=repository / "config" / f"{preset}.yaml",
        model_directory=checkpoint,
    )
    robot.wait(lambda: "activate: now active" in robot.log, "an active node")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"cameras": "front,rear", "topics": "front/image"}, "names 1 for 2 cameras"),
        ({"topics": "front/image"}, "give cameras:="),
        ({"params_file": "/no/such.yaml"}, "params_file:=/no/such.yaml is no file"),
        ({"autostart": "perhaps"}, "autostart:=perhaps is refused"),
    ],
)
def test_a_wrong_launch_argument_ends_the_launch_with_a_message(
    robot: Robot, arguments: dict[str, str], says: str
) -> None:
    process = launch(robot, "stream_vlm.launch.py", **arguments)
    assert process.wait(DEADLINE_S) != 0
    assert says in robot.log


@pytest.fixture
def bag(robot: Robot) -> Path:
    """A recording of 4 s with one camera."""
    path = robot.directory / "bag"
    with BagWriter(path) as writer:
        for index in range(40):
            pixels = np.full((48, 64, 3), DARK if index < 20 else BRIGHT, np.uint8)
            writer.frame(
                Frame("front", START_NS + index * NANOSECONDS // 10, "front_optical", pixels),
                f"{robot.namespace}/front/image_raw",
            )
    return path


def pids(robot: Robot, executable: str) -> list[int]:
    """The processes of `executable` that launch started, in order."""
    found = re.findall(rf"\[{executable}-\d+\]: process started with pid \[(\d+)\]", robot.log)
    return [int(pid) for pid in found]


def test_replay_runs_the_node_on_a_recording(robot: Robot, checkpoint: Path, bag: Path) -> None:
    process = launch(
        robot,
        "replay.launch.py",
        bag=bag,
        topics=f"{robot.namespace}/front/image_raw",
        player="camera_source",
        shutdown_at_end="true",
        model_directory=checkpoint,
    )
    # The process loads the model, plays 4 s and shuts down, so it may take longer than one wait.
    assert process.wait(2 * DEADLINE_S) == 0, robot.log
    assert robot.states
    stamps = [state.header.stamp.sec for state in robot.states]
    assert min(stamps) >= START_NS // NANOSECONDS
    assert max(stamps) < START_NS // NANOSECONDS + 5


def test_the_node_stays_to_be_asked_when_the_recording_has_ended(
    robot: Robot, checkpoint: Path, bag: Path
) -> None:
    launch(
        robot,
        "replay.launch.py",
        bag=bag,
        topics=f"{robot.namespace}/front/image_raw",
        model_directory=checkpoint,
    )
    robot.wait(
        lambda: re.search(r"camera_source-\d+\]: process has finished", robot.log), "the end"
    )
    assert robot.call(Recall, "recall", kinds=["observation"]).total > 0
    assert robot.lifecycle_state() == "active"
    assert robot.end_node(signal.SIGINT) == 0
    assert "Traceback" not in robot.log


def test_a_node_that_was_killed_comes_back_active(robot: Robot, checkpoint: Path) -> None:
    robot.camera("front/image")
    launch(
        robot,
        "stream_vlm.launch.py",
        cameras="front",
        topics="front/image",
        model_directory=checkpoint,
    )
    robot.wait(lambda: robot.states, "a state")
    os.kill(pids(robot, "stream_vlm_node")[0], signal.SIGKILL)
    robot.wait(lambda: len(pids(robot, "stream_vlm_node")) == 2, "a second process")
    robot.states.clear()
    robot.wait(lambda: robot.states, "a state of the second process")
    assert robot.end_node(signal.SIGINT) == 0


def test_a_node_is_not_started_again_if_that_is_not_wanted(robot: Robot) -> None:
    launch(robot, "stream_vlm.launch.py", autostart="false", respawn="false")
    assert robot.lifecycle_state() == "unconfigured"
    os.kill(pids(robot, "stream_vlm_node")[0], signal.SIGKILL)
    # launch ends when no process is left.
    robot.process.wait(DEADLINE_S)
    assert len(pids(robot, "stream_vlm_node")) == 1


def test_a_node_of_launch_is_activated_after_every_configure(
    robot: Robot, checkpoint: Path
) -> None:
    launch(robot, "stream_vlm.launch.py", model_directory=checkpoint)
    robot.wait(lambda: "activate: now active" in robot.log, "an active node")
    assert robot.transition("deactivate")
    assert robot.transition("cleanup")
    assert robot.transition("configure")
    robot.wait(lambda: robot.log.count("activate: now active") == 2, "a node that is active again")
