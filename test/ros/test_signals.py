"""SIGINT and SIGTERM end the node in good order, whatever it does. What is stored is kept.

The work that runs here never ends by itself, so a node that waited for it would not end.
"""

from __future__ import annotations

import signal
import sqlite3
import threading
from pathlib import Path

import pytest
from brightness_model import GATE_ENV, LOAD_ENV, LOADING_ENV, WARM_UP_ENV
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    ListParameters,
    SetParameters,
)
from ros_fixtures import BRIGHT, DEADLINE_S, Robot
from std_msgs.msg import String

from stream_vlm_ros.common.stamps import nanoseconds

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def stored_stamps(robot: Robot) -> set[int]:
    with sqlite3.connect(f"file:{robot.memory}?mode=ro", uri=True) as db:
        return {
            row[0] for row in db.execute("SELECT end_ns FROM record WHERE kind = 'observation'")
        }


def is_closed(robot: Robot) -> bool:
    """SQLite removes the write-ahead log when the last connection is closed in order."""
    return not Path(f"{robot.memory}-wal").exists()


@BOTH
def test_a_signal_ends_a_node_that_loads_its_model(
    robot: Robot, number: int, tmp_path: Path
) -> None:
    robot.start_node(environment={LOADING_ENV: str(tmp_path / "never")})
    robot.wait_for_diagnostic("node", "configuring")
    assert robot.end_node(number) == 0
    assert "this was left: loading the model" in robot.log
    assert is_closed(robot)


def test_a_second_signal_changes_nothing(robot: Robot, tmp_path: Path) -> None:
    robot.start_node(environment={LOADING_ENV: str(tmp_path / "never")})
    robot.wait_for_diagnostic("node", "configuring")
    robot.process.send_signal(signal.SIGINT)
    robot.process.send_signal(signal.SIGTERM)
    assert robot.end_node(signal.SIGINT) == 0
    assert is_closed(robot)


@BOTH
def test_a_signal_ends_a_node_that_warms_its_model_up(
    robot: Robot, number: int, tmp_path: Path
) -> None:
    robot.start_node(environment={WARM_UP_ENV: str(tmp_path / "never")})
    robot.wait_for_diagnostic("node", "activating")
    assert robot.end_node(number) == 0
    assert is_closed(robot)


def test_the_caller_of_a_transition_gets_a_response_when_a_signal_ends_it(
    robot: Robot, tmp_path: Path
) -> None:
    robot.start_node(autostart=False, environment={LOADING_ENV: str(tmp_path / "never")})
    client = robot.node.create_client(ChangeState, "stream_vlm/change_state")
    assert client.wait_for_service(DEADLINE_S)
    asked = client.call_async(ChangeState.Request(transition=Transition(label="configure")))
    answered = threading.Event()
    asked.add_done_callback(lambda _: answered.set())
    robot.wait_for_diagnostic("node", "configuring")
    assert robot.end_node(signal.SIGTERM) == 0
    assert answered.wait(DEADLINE_S)
    assert not asked.result().success
    assert is_closed(robot)


@BOTH
def test_a_signal_ends_a_node_whose_step_takes_long_and_keeps_what_was_published(
    robot: Robot, number: int
) -> None:
    camera = robot.camera()
    robot.start_node(environment={LOAD_ENV: "3600"})
    robot.wait(lambda: len(robot.states) > 3, "states")
    camera.brightness = BRIGHT
    robot.wait_for_diagnostic("camera camera", "Hz")
    before = -1
    # No new state comes once the step with the bright picture runs.
    while before != len(robot.states):
        before = len(robot.states)
        threading.Event().wait(0.5)
    assert robot.end_node(number) == 0
    assert is_closed(robot)
    assert {nanoseconds(state.header.stamp) for state in robot.states} <= stored_stamps(robot)
    assert "without waiting for this: the running step" in robot.log


def test_a_signal_ends_a_node_whose_search_in_the_memory_takes_long(
    robot: Robot, tmp_path: Path
) -> None:
    robot.camera()
    robot.start_node(environment={GATE_ENV: str(tmp_path / "never")})
    robot.wait(lambda: robot.states, "a state")
    publisher = robot.node.create_publisher(String, "stream_vlm/query", 10)
    robot.wait(publisher.get_subscription_count, "the node on ~/query")
    publisher.publish(String(data="how bright?"))
    robot.wait_for_diagnostic("memory", "records")
    assert robot.end_node(signal.SIGTERM) == 0
    assert {nanoseconds(state.header.stamp) for state in robot.states} <= stored_stamps(robot)


def test_a_signal_ends_a_node_whose_memory_file_is_locked(robot: Robot) -> None:
    robot.camera()
    robot.start_node()
    robot.wait(lambda: robot.states, "a state")
    with sqlite3.connect(robot.memory, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        robot.wait_for_diagnostic("memory", "locked")
        published = {nanoseconds(state.header.stamp) for state in robot.states[:1]}
        assert robot.end_node(signal.SIGTERM) == 0
        other.execute("ROLLBACK")
    assert published <= stored_stamps(robot)


@BOTH
def test_a_signal_ends_a_process_that_still_imports_its_parts(robot: Robot, number: int) -> None:
    process = robot.start_process(
        ["stream_vlm_node"], {"PYTHONPROFILEIMPORTTIME": "1", "PYTHONUNBUFFERED": "1"}
    )
    robot.wait(lambda: "rclpy" in robot.log, "the first import of rclpy")
    process.send_signal(number)
    assert process.wait(DEADLINE_S) == 0


def test_services_of_state_and_parameters_answer_while_the_model_loads(
    robot: Robot, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    robot.start_node(environment={LOADING_ENV: str(gate)})
    robot.wait_for_diagnostic("node", "configuring")
    assert robot.lifecycle_state() == "configuring"
    name = "decision.response_threshold"
    assert name in robot.call(ListParameters, "list_parameters").result.names
    value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=0.75)
    wanted = Parameter(name=name, value=value)
    (set_result,) = robot.call(SetParameters, "set_parameters", parameters=[wanted]).results
    assert set_result.successful, set_result.reason
    (got,) = robot.call(GetParameters, "get_parameters", names=[name]).values
    assert got.double_value == 0.75
    (described,) = robot.call(DescribeParameters, "describe_parameters", names=[name]).descriptors
    assert described.description
    assert robot.lifecycle_state() == "configuring"
    gate.touch()
    robot.wait_for_active()


def test_a_transition_that_is_not_possible_is_answered_and_explained(robot: Robot) -> None:
    robot.start_node(autostart=False)
    impossible = Transition(id=Transition.TRANSITION_ACTIVATE)
    assert not robot.call(ChangeState, "change_state", transition=impossible).success
    assert not robot.transition("activate")
    assert "transition number 3 is not possible in the state unconfigured" in robot.log
    assert robot.transition("configure")
    assert not robot.transition("configure")
    assert robot.lifecycle_state() == "inactive"
