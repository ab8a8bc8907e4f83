"""The node as a process over DDS: lifecycle, utterances, memory, questions, time, parameters."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from action_msgs.msg import GoalStatus
from brightness_model import SLOW_ANSWER_ENV
from nav_msgs.msg import Odometry
from rclpy.action import ActionClient
from ros_fixtures import BRIGHT, DARK, HALF_LIGHT, Robot, image, robot_in
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String
from stream_vlm_ros.action import Ask
from stream_vlm_ros.srv import Forget, GetFrame, Recall

from stream_vlm.types import NANOSECONDS
from stream_vlm_ros.common.stamps import nanoseconds, stamp_message

RECORDED_NS = 1_700_000_000 * NANOSECONDS
"""The first stamp of a recording."""


@pytest.fixture(scope="module")
def without_pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    """An active node that gets no picture, so the model never answers."""
    with robot_in(tmp_path_factory.mktemp("robot")) as made:
        made.start_node()
        made.wait_for_active()
        yield made


def rows(robot: Robot, kind: str) -> list[tuple[str, str, str, int, int]]:
    """The stored records of a kind as (text, camera, session_id, start_ns, end_ns), in order."""
    with sqlite3.connect(f"file:{robot.memory}?mode=ro", uri=True) as db:
        return db.execute(
            "SELECT text, camera, session_id, start_ns, end_ns FROM record WHERE kind = ? ORDER"
            " BY id",
            [kind],
        ).fetchall()


def has_more_than(count: int, items: Callable[[], Sequence[object]]) -> bool:
    return len(items()) > count


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_a_change_in_the_picture_gives_an_utterance_an_event_and_a_record(
    robot: Robot, transport: str
) -> None:
    camera = robot.camera(transport=transport)
    robot.start_node(camera__camera__transport=transport)
    robot.wait(lambda: robot.states, "a state")
    camera.brightness = HALF_LIGHT
    robot.wait(lambda: any(state.under_way for state in list(robot.states)), "an event under way")
    camera.brightness = BRIGHT
    utterance = robot.wait_for_text("it became bright")
    event = robot.wait(lambda: robot.events, "an event")[0]
    assert robot.texts == ["it became bright"]
    assert (utterance.header.frame_id, utterance.camera, utterance.event_id) == (
        "front_optical",
        "camera",
        event.event_id,
    )
    assert event.header.stamp == utterance.header.stamp
    assert nanoseconds(event.start) < nanoseconds(event.end) < nanoseconds(event.header.stamp)
    first = next(state for state in robot.states if state.under_way)
    assert first.under_way_since == event.start
    assert nanoseconds(first.header.stamp) > nanoseconds(event.start)
    recalled = robot.call(Recall, "recall", text="bright", kinds=["event"])
    assert recalled.success
    (record,) = recalled.records
    assert (record.start, record.end, record.stamp, record.session_id) == (
        event.start,
        event.end,
        event.header.stamp,
        event.session_id,
    )
    answer = robot.call(Recall, "recall", text="when was it last bright?", mode="auto")
    assert (answer.success, answer.known, answer.stamp, answer.records[0].record_id) == (
        True,
        True,
        event.end,
        record.record_id,
    )
    assert not robot.call(Recall, "recall", text="where is the zebra?", mode="auto").known
    evidence = robot.call(GetFrame, "get_frame", record_id=record.record_id)
    assert evidence.success
    assert evidence.image.header.stamp == record.stamp
    assert bytes(evidence.image.data).startswith(b"\xff\xd8")


def test_a_node_with_a_key_works_with_an_encrypted_file(robot: Robot, tmp_path: Path) -> None:
    pytest.importorskip(
        "sqlcipher3", reason="sqlcipher3 is not installed (requirements/development.txt)"
    )
    key_file = tmp_path / "key"
    key_file.touch(0o600)
    key_file.write_text("a passphrase\n")
    camera = robot.camera()
    robot.start_node(memory__key_file=str(key_file))
    robot.wait(lambda: robot.states, "a state")
    camera.brightness = BRIGHT
    robot.wait_for_text("it became bright")
    (record,) = robot.call(Recall, "recall", text="bright", kinds=["event"]).records
    assert robot.call(GetFrame, "get_frame", record_id=record.record_id).success
    files = list(robot.memory.parent.glob(f"{robot.memory.name}*"))
    assert {robot.memory.name, f"{robot.memory.name}-wal"} <= {file.name for file in files}
    assert [
        file
        for file in files
        if b"bright" in file.read_bytes() or b"SQLite format" in file.read_bytes()
    ] == []
    assert robot.call(Forget, "forget", everything=True).success
    assert not robot.call(Recall, "recall", text="bright", kinds=["event"]).records


def test_an_utterance_names_the_camera_that_changed(robot: Robot) -> None:
    front, rear = robot.camera("front/image"), robot.camera("rear/image/compressed", "compressed")
    robot.start_node(
        cameras=["front", "rear"],
        camera__front__topic="front/image",
        camera__rear__topic="rear/image/compressed",
        camera__rear__transport="compressed",
    )
    robot.wait(
        lambda: {state.camera for state in list(robot.states)} == {"front", "rear"},
        "states of both cameras",
    )
    rear.brightness = BRIGHT
    assert robot.wait_for_text("it became bright").camera == "rear"
    front.brightness = BRIGHT
    assert robot.wait_for_text("it became bright", 2).camera == "front"


def test_a_node_that_is_configured_and_activated_again_keeps_its_memory(robot: Robot) -> None:
    camera = robot.camera()
    robot.start_node(autostart=False)
    assert robot.lifecycle_state() == "unconfigured"
    for _ in range(2):
        assert robot.transition("configure")
        assert robot.transition("activate")
        before = len(robot.states)
        robot.wait(partial(has_more_than, before, lambda: robot.states), "states while active")
        assert robot.transition("deactivate")
        stored = len(rows(robot, "observation"))
        assert robot.call(Recall, "recall", kinds=["observation"], limit=1).total == stored
        assert robot.transition("activate")
        robot.wait(
            partial(has_more_than, stored, lambda: rows(robot, "observation")),
            "rows after activating again",
        )
        assert robot.transition("deactivate")
        assert robot.transition("cleanup")
    camera.stop()
    assert len({session for _, _, session, _, _ in rows(robot, "observation")}) == 4
    assert robot.transition("shutdown")
    assert robot.lifecycle_state() == "finalized"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_after_everything_is_stored(robot: Robot, number: int) -> None:
    robot.camera()
    robot.start_node()
    robot.wait(lambda: len(robot.states) > 3, "states")
    assert robot.end_node(number) == 0
    assert len(rows(robot, "observation")) >= len(robot.states)
    assert "Traceback" not in robot.log


def test_everything_published_before_a_kill_is_in_the_memory_of_the_next_node(
    robot: Robot,
) -> None:
    camera = robot.camera()
    robot.start_node()
    robot.wait(lambda: robot.states, "a state")
    camera.brightness = BRIGHT
    robot.wait_for_text("it became bright")
    robot.end_node(signal.SIGKILL)
    published = {nanoseconds(state.header.stamp) for state in robot.states}
    robot.states.clear()
    robot.start_node()
    robot.wait(lambda: robot.states, "a state of the second node")
    stored = {end_ns for _, _, _, _, end_ns in rows(robot, "observation")}
    assert published <= stored
    recalled = robot.call(Recall, "recall", text="bright")
    assert "it became bright" in {record.text for record in recalled.records}
    assert len({session for _, _, session, _, _ in rows(robot, "observation")}) == 2


def test_forget_deletes_records_while_the_node_keeps_processing(robot: Robot) -> None:
    camera = robot.camera()
    robot.start_node()
    robot.wait(lambda: robot.states, "a state")
    camera.brightness = BRIGHT
    robot.wait_for_text("it became bright")
    unnamed = robot.call(Forget, "forget")
    assert (unnamed.success, "no filter is given" in unnamed.message) == (False, True)
    cameras = [robot.states[0].camera]
    dry_run_result = robot.call(Forget, "forget", cameras=cameras, dry_run=True)
    assert dry_run_result.success
    assert dry_run_result.records > 0
    assert robot.call(Recall, "recall", text="bright").total > 0
    forgotten = robot.call(Forget, "forget", cameras=cameras)
    assert forgotten.success
    assert forgotten.records >= dry_run_result.records
    assert forgotten.pictures > 0
    assert "forgot" in forgotten.message
    assert robot.call(Recall, "recall", text="bright").total == 0
    before = len(robot.states)
    robot.wait(partial(has_more_than, before, lambda: robot.states), "states after forgetting")


def test_an_answer_comes_word_by_word_and_with_its_evidence(robot: Robot) -> None:
    camera = robot.camera()
    robot.start_node(environment={SLOW_ANSWER_ENV: "1"})
    robot.wait(lambda: robot.states, "a state")
    camera.brightness = BRIGHT
    robot.wait_for_text("it became bright")
    client = ActionClient(robot.node, Ask, "stream_vlm/ask")
    assert client.wait_for_server(30)
    texts: list[str] = []
    asked = Ask.Goal(question="how bright is it?")
    sent = robot.on_spinner(
        lambda: client.send_goal_async(asked, lambda feedback: texts.append(feedback.feedback.text))
    )
    robot.wait(sent.done, "acceptance")
    outcome = robot.on_spinner(sent.result().get_result_async)
    robot.wait(lambda: texts, "the first words")
    # Recall does not wait for the model, which is still busy with the answer.
    assert robot.call(Recall, "recall", text="bright").success
    robot.wait(outcome.done, "the answer")
    result = outcome.result().result
    assert result.success, result.message
    assert result.answer.text == "the brightness is 230"
    assert texts[0] == "the"
    robot.wait(lambda: texts[-1] == result.answer.text, "the whole answer as feedback")
    assert "it became bright" in {record.text for record in result.evidence}
    assert robot.wait_for_text(result.answer.text).query_id == result.answer.query_id
    assert [text for text, *_ in rows(robot, "query")] == ["how bright is it?"]
    client.destroy()


@pytest.mark.parametrize(
    ("goal", "says"),
    [
        ({"question": " "}, "the question is empty"),
        (
            {"question": "what?", "camera": "back"},
            "camera 'back' does not exist; the cameras are camera",
        ),
        ({"question": "what?", "timeout_s": float("nan")}, "timeout_s nan is refused"),
        ({"question": "what?", "timeout_s": 0.3}, "no answer within 0.3 s"),
    ],
)
def test_a_question_that_cannot_be_answered_is_aborted_with_the_reason(
    without_pictures: Robot, goal: dict[str, object], says: str
) -> None:
    client = ActionClient(without_pictures.node, Ask, "stream_vlm/ask")
    assert client.wait_for_server(30)
    sent = without_pictures.on_spinner(lambda: client.send_goal_async(Ask.Goal(**goal)))
    without_pictures.wait(sent.done, "acceptance")
    outcome = without_pictures.on_spinner(sent.result().get_result_async)
    without_pictures.wait(outcome.done, "the outcome")
    assert outcome.result().status == GoalStatus.STATUS_ABORTED
    assert not outcome.result().result.success
    assert says in outcome.result().result.message
    client.destroy()


def test_a_question_that_is_cancelled_is_never_asked(robot: Robot) -> None:
    robot.start_node()
    robot.wait_for_active()
    client = ActionClient(robot.node, Ask, "stream_vlm/ask")
    assert client.wait_for_server(30)
    sent = robot.on_spinner(
        lambda: client.send_goal_async(Ask.Goal(question="what?", timeout_s=60.0))
    )
    robot.wait(sent.done, "acceptance")
    outcome = robot.on_spinner(sent.result().get_result_async)
    cancelled = robot.on_spinner(sent.result().cancel_goal_async)
    robot.wait(outcome.done, "the outcome")
    assert outcome.result().status == GoalStatus.STATUS_CANCELED
    assert cancelled.result().goals_canceling
    robot.camera()
    robot.wait(lambda: len(robot.states) > 3, "states")
    assert rows(robot, "query") == []
    client.destroy()


def test_a_question_on_the_query_topic_is_answered_by_an_utterance(robot: Robot) -> None:
    robot.camera()
    robot.start_node()
    robot.wait(lambda: robot.states, "a state")
    publisher = robot.node.create_publisher(String, "stream_vlm/query", 10)
    robot.wait(publisher.get_subscription_count, "the node on ~/query")
    publisher.publish(String(data="how bright?"))
    assert robot.wait_for_text("the brightness is 20").query_id


class Player:
    """Plays a recording: pictures, odometry and /clock, all with recorded time."""

    def __init__(self, robot: Robot) -> None:
        self.robot = robot
        self.camera = robot.camera()
        self.camera.stop()
        self.clock = robot.node.create_publisher(Clock, "/clock", 10)
        self.odometry = robot.node.create_publisher(Odometry, "odom", 10)
        self.now_ns = RECORDED_NS

    def play(self, brightness: int, x: float = 0.0) -> None:
        """Play 0.1 s, and publish one message on each topic."""
        self.now_ns += NANOSECONDS // 10
        odometry = Odometry()
        odometry.header.stamp, odometry.header.frame_id = stamp_message(self.now_ns), "odom"
        odometry.pose.pose.position.x = x
        self.odometry.publish(odometry)
        self.clock.publish(Clock(clock=stamp_message(self.now_ns)))
        self.camera.publish(image(brightness, self.now_ns))

    def play_until(
        self, condition: Callable[[], object], what: str, brightness: int, x: float = 0.0
    ) -> None:
        """Play until `condition` is true; the robot is at `x` (m)."""

        def play_and_check() -> object:
            self.play(brightness, x)
            return condition()

        self.robot.wait(play_and_check, what)


def test_a_recording_gives_recorded_stamps_and_poses_and_its_loop_begins_a_session(
    robot: Robot,
) -> None:
    player = Player(robot)
    robot.start_node(use_sim_time=True, pose__odom_topic="odom")
    player.play_until(lambda: robot.states, "a state on recorded time", DARK, x=1.0)
    # A pose may arrive later than its picture, so the event is a second after the robot moved.
    arrived_ns = player.now_ns + NANOSECONDS
    player.play_until(
        lambda: nanoseconds(robot.states[-1].header.stamp) > arrived_ns,
        "a state a second later",
        DARK,
        x=4.0,
    )
    player.play_until(lambda: robot.events, "an event", BRIGHT, x=4.0)
    event = robot.events[0]
    assert RECORDED_NS < nanoseconds(event.header.stamp) <= player.now_ns
    assert event.pose_valid
    assert (event.pose.header.frame_id, event.pose.pose.position.x) == ("odom", 4.0)
    near = robot.call(Recall, "recall", near=True, x=4.0, y=0.0, radius=0.5, kinds=["event"])
    assert [record.text for record in near.records] == ["it became bright"]
    first = event.session_id
    stored = len(rows(robot, "observation"))
    player.now_ns = RECORDED_NS
    player.play_until(
        lambda: robot.states[-1].session_id != first, "a state of a second session", DARK
    )
    second = [state for state in robot.states if state.session_id != first]
    assert next(state.step for state in second) == 0
    assert len(rows(robot, "observation")) > stored
    assert "all stored records are kept" in robot.log


def test_no_step_runs_while_recorded_time_stands_still(robot: Robot) -> None:
    player = Player(robot)
    robot.start_node(use_sim_time=True)
    player.play_until(lambda: robot.states, "a state", DARK)
    # The node said the same before time began to move, and the last step is perhaps under way.
    for _ in range(2):
        robot.forget_diagnostics()
        robot.wait_for_diagnostic("session", "the clock stands still")
    before = len(robot.states)
    robot.forget_diagnostics()
    robot.wait_for_diagnostic("session", "the clock stands still")
    assert len(robot.states) == before
    player.play_until(lambda: len(robot.states) > before, "a state once time moves", DARK)


def test_a_changed_parameter_takes_effect_at_once(robot: Robot) -> None:
    from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
    from rcl_interfaces.srv import SetParametersAtomically

    camera = robot.camera()
    robot.start_node()
    robot.wait(lambda: robot.states, "a state")
    threshold = Parameter(
        name="decision.response_threshold",
        value=ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=0.95),
    )
    assert robot.call(
        SetParametersAtomically, "set_parameters_atomically", parameters=[threshold]
    ).result.successful
    before = len(robot.states)
    camera.brightness = BRIGHT
    robot.wait(lambda: len(robot.states) > before + 5, "states after the change")
    assert robot.utterances == []
    threshold.value.double_value = 2.0
    refused = robot.call(
        SetParametersAtomically, "set_parameters_atomically", parameters=[threshold]
    ).result
    assert not refused.successful
    assert "decision.response_threshold" in refused.reason
