"""A node whose model is a server: it answers, goes on while the server is away, and says so."""

import sys
from pathlib import Path

import pytest
from colour_mind import colour_mind
from diagnostic_msgs.msg import DiagnosticStatus
from model_server import serve_model
from rclpy.action import ActionClient
from ros_fixtures import DEADLINE_S, Robot
from stream_vlm_ros.action import Ask
from stream_vlm_ros.srv import Recall

pytest.importorskip("httpx", reason="httpx sends the requests")


def model_status(robot: Robot) -> DiagnosticStatus:
    """The newest status of the model."""
    return next(
        (
            status
            for array in reversed(robot.diagnostics())
            for status in array.status
            if status.name.endswith(": model")
        ),
        DiagnosticStatus(),
    )


def count(robot: Robot, name: str) -> float:
    """The number that /diagnostics shows as `name` in the status of the model."""
    return next(
        (float(value.value) for value in model_status(robot).values if value.key == name), 0.0
    )


def ask(robot: Robot, client: ActionClient) -> Ask.Result:
    """Ask a question and wait for the result."""
    goal = Ask.Goal(question="Which colour is it?", timeout_s=DEADLINE_S)
    sent = robot.on_spinner(lambda: client.send_goal_async(goal))
    robot.wait(sent.done, "acceptance")
    outcome = robot.on_spinner(sent.result().get_result_async)
    robot.wait(outcome.done, "the answer")
    return outcome.result().result


def test_a_node_answers_goes_on_without_its_server_and_answers_again(
    robot: Robot, repository: Path
) -> None:
    program = (sys.executable, str(repository / "scripts" / "stream_vlm_node"))
    robot.camera()
    client = ActionClient(robot.node, Ask, "stream_vlm/ask")
    with serve_model(colour_mind) as server:
        port = int(server.url.split(":")[2].partition("/")[0])
        robot.start_node(
            command=program,
            model__url=server.url,
            stream__rate_hz=2.0,
            context__max_seconds=4.0,
            instructions=["something red"],
        )
        assert client.wait_for_server(DEADLINE_S)
        robot.wait(lambda: len(robot.states) > 3, "states")
        answered = ask(robot, client)
        assert answered.success, answered.message
        assert answered.answer.text == "It is grey."
        robot.wait(lambda: count(robot, "server requests") > 3, "the requests on /diagnostics")
        assert count(robot, "cached share of prompt tokens") > 0.0
    robot.wait(
        lambda: (
            model_status(robot).level == DiagnosticStatus.ERROR
            and "start the server" in model_status(robot).message
            and count(robot, "frames dropped at the server") > 1
        ),
        "the outage on /diagnostics",
    )
    assert robot.call(Recall, "recall", text="grey").records
    seen = len(robot.states)
    with serve_model(colour_mind, port):
        robot.wait(lambda: len(robot.states) > seen, "states after the outage")
        assert ask(robot, client).answer.text == "It is grey."
        assert model_status(robot).level != DiagnosticStatus.ERROR
    assert robot.end_node() == 0
    client.destroy()
