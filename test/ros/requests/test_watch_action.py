"""`~/watch` over DDS: reports, and every way in which a watch ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from ros_fixtures import BRIGHT, DARK, Robot, robot_in
from stream_vlm_ros.action import Ask, Watch
from stream_vlm_ros.msg import Utterance
from stream_vlm_ros.srv import Recall


class WatchClient:
    """Sends one goal of `~/watch`, and keeps its reports and its result."""

    def __init__(self, robot: Robot, watch_for: str, **goal: Any) -> None:
        self._robot = robot
        self._client = ActionClient(robot.node, Watch, "stream_vlm/watch")
        assert self._client.wait_for_server(30), robot.log
        self.reports: list[Utterance] = []
        asked = Watch.Goal(watch_for=watch_for, **goal)
        sent = robot.on_spinner(
            lambda: self._client.send_goal_async(
                asked, lambda feedback: self.reports.append(feedback.feedback.report)
            )
        )
        robot.wait(sent.done, "acceptance")
        self.goal = sent.result()
        self._outcome = robot.on_spinner(self.goal.get_result_async)

    @property
    def is_over(self) -> bool:
        return bool(self._outcome.done())

    def end(self) -> tuple[int, Watch.Result]:
        """Wait for the end; return the status and the result."""
        self._robot.wait(self._outcome.done, "the end of the watch")
        return self._outcome.result().status, self._outcome.result().result

    def wait_until_active(self) -> None:
        """Wait until the watch is stored, because then the model follows it."""
        self._robot.wait(
            lambda: self._robot.call(Recall, "recall", kinds=["query"]).total,
            "the watch in the memory",
        )


def start(robot: Robot, **parameters: Any) -> None:
    robot.start_node(**parameters)
    robot.wait(lambda: robot.states, "a state")


def test_a_watch_reports_only_what_it_names_until_it_is_cancelled(
    robot: Robot,
) -> None:
    camera = robot.camera()
    start(robot)
    watch = WatchClient(robot, "tell me when it is bright")
    watch.wait_until_active()
    camera.brightness = BRIGHT
    report = robot.wait(lambda: watch.reports, "a report")[0]
    utterance = robot.wait_for_text("it became bright")
    assert (report, report.query_id) == (utterance, utterance.query_id)
    assert utterance.query_id
    assert robot.wait(lambda: robot.events, "its event")[0].event_id == utterance.event_id
    seen = len(robot.states)
    camera.brightness = DARK
    robot.wait(lambda: len(robot.states) > seen + 5, "states in the dark")
    camera.brightness = BRIGHT
    robot.wait(lambda: len(watch.reports) == 2, "a second report")
    cancelled = robot.on_spinner(watch.goal.cancel_goal_async)
    status, result = watch.end()
    assert cancelled.result().goals_canceling
    assert (status, result.success, result.message, result.reports) == (
        GoalStatus.STATUS_CANCELED,
        False,
        "the watch was cancelled",
        2,
    )
    seen = len(robot.states)
    robot.wait(lambda: len(robot.states) > seen + 3, "states without the watch")
    camera.brightness = DARK
    assert robot.wait_for_text("it became dark").query_id == ""


@pytest.mark.parametrize(
    ("goal", "reports", "message"),
    [
        ({"max_reports": 1}, 1, "made 1 report"),
        ({"timeout_s": 0.5, "max_reports": 3}, 0, "watched for 0.5 s"),
    ],
)
def test_a_watch_succeeds_when_its_time_or_number_of_reports_is_reached(
    robot: Robot, goal: dict[str, Any], reports: int, message: str
) -> None:
    camera = robot.camera()
    start(robot)
    watch = WatchClient(robot, "bright", **goal)
    if reports:
        watch.wait_until_active()
        camera.brightness = BRIGHT
    status, result = watch.end()
    assert (status, result.success, result.message, result.reports) == (
        GoalStatus.STATUS_SUCCEEDED,
        True,
        message,
        reports,
    )
    assert len(watch.reports) == reports


def test_a_new_watch_replaces_only_the_watch_of_its_camera(robot: Robot) -> None:
    front, rear = robot.camera("front/image"), robot.camera("rear/image")
    start(
        robot,
        cameras=["front", "rear"],
        camera__front__topic="front/image",
        camera__rear__topic="rear/image",
    )
    first, other = (
        WatchClient(robot, "dark", camera="front"),
        WatchClient(robot, "bright", camera="rear"),
    )
    second = WatchClient(robot, "bright", camera="front")
    status, result = first.end()
    assert (status, result.success) == (GoalStatus.STATUS_ABORTED, False)
    assert result.message == "another watch replaced it: 'bright'"
    robot.wait(
        lambda: robot.call(Recall, "recall", text="bright", kinds=["query"]).total == 2,
        "both watches in the memory",
    )
    front.brightness = rear.brightness = BRIGHT
    robot.wait(lambda: second.reports and other.reports, "reports of both")
    assert [second.reports[0].camera, other.reports[0].camera] == ["front", "rear"]
    assert not second.is_over
    assert not other.is_over


@pytest.mark.parametrize("goals", [2, 6])
def test_of_goals_that_come_at_the_same_time_one_is_watched_and_the_others_get_the_reason(
    robot: Robot, goals: int
) -> None:
    camera = robot.camera()
    start(robot)
    client = ActionClient(robot.node, Watch, "stream_vlm/watch")
    assert client.wait_for_server(30), robot.log
    sent = robot.on_spinner(
        lambda: [client.send_goal_async(Watch.Goal(watch_for="bright")) for _ in range(goals)]
    )
    robot.wait(lambda: all(one.done() for one in sent), "acceptance of all")
    outcomes = robot.on_spinner(lambda: [one.result().get_result_async() for one in sent])
    robot.wait(lambda: sum(one.done() for one in outcomes) == goals - 1, "the end of all but one")
    ended = [one.result() for one in outcomes if one.done()]
    assert {(one.status, one.result.message) for one in ended} == {
        (GoalStatus.STATUS_ABORTED, "another watch replaced it: 'bright'")
    }
    robot.wait(
        lambda: robot.call(Recall, "recall", kinds=["query"]).total, "the watch in the memory"
    )
    camera.brightness = BRIGHT
    assert robot.wait_for_text("it became bright").query_id, "the model follows the one that stays"
    assert sum(one.done() for one in outcomes) == goals - 1
    client.destroy()


def test_nodes_in_two_namespaces_keep_their_own_watches_and_words(
    robot: Robot, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    with robot_in(tmp_path / "other") as other:
        cameras = [one.camera() for one in (robot, other)]
        for one in (robot, other):
            start(one)
        watches = [WatchClient(one, "bright") for one in (robot, other)]
        for watch in watches:
            watch.wait_until_active()
        cameras[0].brightness = BRIGHT
        robot.wait(lambda: watches[0].reports, "the report of the first")
        robot.wait_for_text("it became bright")
        assert not any(watch.is_over for watch in watches)
        assert (watches[1].reports, other.utterances) == ([], [])


def test_a_question_during_a_watch_is_answered_and_the_watch_stays_active(robot: Robot) -> None:
    camera = robot.camera()
    start(robot)
    watch = WatchClient(robot, "bright")
    watch.wait_until_active()
    client = ActionClient(robot.node, Ask, "stream_vlm/ask")
    assert client.wait_for_server(30)
    sent = robot.on_spinner(lambda: client.send_goal_async(Ask.Goal(question="how bright is it?")))
    robot.wait(sent.done, "acceptance")
    answered = robot.on_spinner(sent.result().get_result_async)
    robot.wait(answered.done, "the answer")
    answer = answered.result().result.answer
    camera.brightness = BRIGHT
    report = robot.wait(lambda: watch.reports, "a report")[0]
    assert (answer.text, report.text) == ("the brightness is 20", "it became bright")
    assert answer.query_id != report.query_id
    assert len(watch.reports) == 1, "an answer is no report"
    client.destroy()


def test_deactivation_ends_a_watch_with_the_reason(robot: Robot) -> None:
    robot.camera()
    start(robot)
    watch = WatchClient(robot, "bright")
    watch.wait_until_active()
    assert robot.transition("deactivate")
    status, result = watch.end()
    assert (status, result.message) == (
        GoalStatus.STATUS_ABORTED,
        "the node was deactivated; activate it and watch again",
    )
    _, refused = WatchClient(robot, "bright").end()
    assert "is not active, so the model processes no pictures; activate it" in refused.message


@pytest.fixture(scope="module")
def watching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    """One node for all watches that are refused."""
    with robot_in(tmp_path_factory.mktemp("watching")) as robot:
        robot.camera()
        start(robot)
        yield robot


@pytest.mark.parametrize(
    ("goal", "says"),
    [
        ({"watch_for": " "}, "the watch is empty"),
        (
            {"watch_for": "dark", "camera": "back"},
            "camera 'back' does not exist; the cameras are camera",
        ),
        ({"watch_for": "dark", "timeout_s": float("nan")}, "timeout_s nan is refused"),
        ({"watch_for": "dark", "timeout_s": -1.0}, "timeout_s -1 is refused"),
        ({"watch_for": "a sound"}, "this model cannot hear; watch for something visible"),
    ],
)
def test_a_bad_watch_is_aborted_with_the_reason(
    watching: Robot, goal: dict[str, Any], says: str
) -> None:
    status, result = WatchClient(watching, **goal).end()
    assert (status, result.success, result.reports) == (GoalStatus.STATUS_ABORTED, False, 0)
    assert says in result.message
    assert watching.log.count(says) == 1
    seen = len(watching.states)
    watching.wait(lambda: len(watching.states) > seen + 2, "more states")
