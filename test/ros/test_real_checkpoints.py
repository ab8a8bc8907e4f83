"""The node with real checkpoints instead of a fake model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from model_fixtures import write_checkpoint
from rclpy.action import ActionClient
from ros_fixtures import DEADLINE_S, Robot, robot_in
from stream_vlm_ros.action import Ask
from stream_vlm_ros.srv import Recall


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped architecture with random weights."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def program(repository: Path) -> tuple[str, ...]:
    """What `ros2 run stream_vlm_ros stream_vlm_node` runs."""
    return (sys.executable, str(repository / "scripts" / "stream_vlm_node"))


def test_a_node_with_a_checkpoint_processes_frames_and_answers_a_question(
    robot: Robot, program: tuple[str, ...], checkpoint: Path
) -> None:
    robot.camera()
    robot.start_node(command=program, model__directory=checkpoint)
    robot.wait(lambda: len(robot.states) > 5, "states")
    state = robot.states[-1]
    assert sum(state.probabilities) == pytest.approx(1.0, abs=1e-5)
    client = ActionClient(robot.node, Ask, "stream_vlm/ask")
    assert client.wait_for_server(DEADLINE_S)
    sent = robot.on_spinner(
        lambda: client.send_goal_async(
            Ask.Goal(question="is the door open ?", timeout_s=DEADLINE_S)
        )
    )
    robot.wait(sent.done, "acceptance")
    outcome = robot.on_spinner(sent.result().get_result_async)
    robot.wait(outcome.done, "the answer")
    assert outcome.result().result.success, outcome.result().result.message
    assert outcome.result().result.answer.text
    assert robot.end_node() == 0
    client.destroy()


def _remove(directory: Path) -> None:
    for file in directory.iterdir():
        file.unlink()
    directory.rmdir()


def _remove_weights(directory: Path) -> None:
    (directory / "model.safetensors").unlink()


def _truncate_weights(directory: Path) -> None:
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])


def _change_architecture(directory: Path) -> None:
    config = directory / "config.json"
    config.write_text(
        json.dumps(
            json.loads(config.read_text())
            | {
                "model_type": "llama",
                "architectures": ["LlamaForCausalLM"],
            }
        )
    )


@pytest.fixture(scope="module")
def unconfigured(
    program: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Robot]:
    """A node that was started without a checkpoint, and gets the bad ones of several tests."""
    with robot_in(tmp_path_factory.mktemp("robot")) as made:
        made.start_node(command=program, model__directory=made.directory / "checkpoint")
        status = made.wait_for_diagnostic("node", "configure failed: ", DiagnosticStatus.ERROR)
        assert str(made.directory / "checkpoint") in status.message
        yield made


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_remove, "no such directory"),
        (_remove_weights, "model.safetensors is missing"),
        (_truncate_weights, "model.safetensors: is damaged"),
        (_change_architecture, "'llama'"),
    ],
)
def test_a_bad_checkpoint_is_refused_with_the_reason_and_a_good_one_is_loaded_later(
    unconfigured: Robot, checkpoint: Path, damage: Callable[[Path], None], says: str
) -> None:
    directory = unconfigured.directory / "checkpoint"
    shutil.copytree(checkpoint, directory)
    damage(directory)
    assert not unconfigured.transition("configure")
    status = unconfigured.wait_for_diagnostic("node", says, DiagnosticStatus.ERROR)
    assert status.message.startswith("configure failed: ")
    assert str(directory) in status.message
    assert "Traceback" not in unconfigured.log
    assert unconfigured.lifecycle_state() == "unconfigured"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(checkpoint, directory)
    assert unconfigured.transition("configure")
    unconfigured.wait_for_active()
    assert unconfigured.transition("deactivate")
    assert unconfigured.transition("cleanup")
    shutil.rmtree(directory)


def test_the_shipped_model_reports_an_event_of_the_simulated_camera(
    robot: Robot, program: tuple[str, ...], repository: Path
) -> None:
    robot.start_node(command=program, use_sim_time=True, stream__rate_hz=2.0)
    robot.wait_for_active()
    source = [
        sys.executable,
        str(repository / "scripts" / "camera_source"),
        "world:7",
        "--seconds",
        "40",
        "--rate",
        "2",
        "--clock",
    ]
    with (robot.directory / "camera.log").open("wb") as log:
        camera = subprocess.Popen(
            [*source, "--listeners", "1", "--ros-args", "-r", f"__ns:={robot.namespace}"],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        event = robot.wait(lambda: robot.events, "an event")[0]
        assert event.start.sec <= event.end.sec
        utterance = robot.wait(
            lambda: [each for each in list(robot.utterances) if each.event_id == event.event_id],
            "its utterance",
        )[0]
        assert utterance.text == event.label
        recalled = robot.call(Recall, "recall", text=event.label, kinds=["event"])
        assert event.event_id in {record.event_id for record in recalled.records}
    finally:
        camera.kill()
        camera.wait()
