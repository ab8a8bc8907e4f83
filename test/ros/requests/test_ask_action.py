"""`~/ask` over DDS: the past is answered from the memory with its evidence, now by the model, and
what neither knows is said not to be known.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from ros_fixtures import BRIGHT, Robot, robot_in
from std_msgs.msg import String
from stream_vlm_ros.action import Ask
from stream_vlm_ros.msg import Utterance
from stream_vlm_ros.srv import Recall


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[Robot]:
    with robot_in(tmp_path) as made:
        yield made


class Asking:
    """A node that saw it become bright, and somebody who asks it: one client, because a new one may
    miss what comes before it was discovered.
    """

    def __init__(self, robot: Robot, **environment: str) -> None:
        self._robot = robot
        camera = robot.camera()
        robot.start_node(environment=environment)
        self._client = ActionClient(robot.node, Ask, "stream_vlm/ask")
        self._queries = robot.node.create_publisher(String, "stream_vlm/query", 10)
        robot.wait(lambda: robot.states, "a state")
        camera.brightness = BRIGHT
        robot.wait_for_text("it became bright")
        self.event = robot.wait(lambda: robot.events, "the event")[0]
        assert self._client.wait_for_server(30), robot.log

    def send(self, question: str) -> Any:
        """Ask, and do not wait: the future of the result."""
        sent = self._robot.on_spinner(
            lambda: self._client.send_goal_async(Ask.Goal(question=question, timeout_s=30.0))
        )
        self._robot.wait(sent.done, "acceptance")
        return self._robot.on_spinner(sent.result().get_result_async)

    def query(self, question: str) -> None:
        """Ask quickly, and do not wait."""
        self._robot.wait(self._queries.get_subscription_count, "the node on ~/query")
        self._queries.publish(String(data=question))

    def answer(self, question: str) -> Utterance:
        """What is said when it is asked quickly."""
        before = len(self._robot.utterances)
        self.query(question)
        answers = lambda: [said for said in list(self._robot.utterances)[before:] if said.query_id]  # noqa: E731
        answer: Utterance = self._robot.wait(answers, f"the answer to '{question}'")[0]
        self._robot.wait(lambda: answer.text in self._robot.texts, "the answer's words")
        return answer

    def ask(
        self, question: str, status: int = GoalStatus.STATUS_SUCCEEDED, **goal: Any
    ) -> Ask.Result:
        """The result; of one that is answered the whole text was feedback before."""
        heard: list[str] = []
        asked = Ask.Goal(question=question, **({"timeout_s": 30.0} | goal))
        hear = lambda feedback: heard.append(feedback.feedback.text)  # noqa: E731
        sent = self._robot.on_spinner(lambda: self._client.send_goal_async(asked, hear))
        self._robot.wait(sent.done, "acceptance")
        outcome = self._robot.on_spinner(sent.result().get_result_async)
        self._robot.wait(outcome.done, f"the answer to '{question}'")
        result = outcome.result().result
        assert outcome.result().status == status, result.message
        if result.success:
            self._robot.wait(
                lambda: heard and heard[-1] in result.answer.text, "the answer as feedback"
            )
        return result


def test_the_past_is_answered_from_the_memory_and_now_by_the_model(robot: Robot) -> None:
    asking = Asking(robot)
    event = asking.event
    past = asking.ask("when was it last bright?")
    assert (past.answered_by, past.known) == (Ask.Result.MEMORY, True)
    assert past.answer.text.startswith("last: it became bright, at ")
    assert [(record.kind, record.text, record.start, record.end) for record in past.evidence] == [
        ("event", event.label, event.start, event.end)
    ]
    assert (past.answer.header.stamp, past.answer.header.frame_id, past.answer.camera) == (
        event.header.stamp,
        "front_optical",
        "camera",
    )
    now = asking.ask("how bright is it?")
    assert (now.answered_by, now.known, now.answer.text) == (
        Ask.Result.MODEL,
        True,
        "the brightness is 230",
    )
    assert "it became bright" in {record.text for record in now.evidence}
    assert (
        now.note
        == "brightness cannot read records of the memory: it was asked without the evidence"
    )
    counted = asking.ask("how often was it bright?")
    assert counted.answer.text.startswith("once, last at ")
    robot.forget_diagnostics()
    values = {
        value.key: value.value
        for name, message in (("model", "step p50"), ("memory", "records"))
        for value in robot.wait_for_diagnostic(name, message).values
    }
    assert (values["recalls received"], values["questions received"]) == ("3", "1")


def test_what_neither_memory_nor_model_knows_is_said_not_to_be_known(robot: Robot) -> None:
    asking = Asking(robot, BRIGHTNESS_UNSURE="1")
    zebra = asking.ask("when did you last see the zebra?")
    assert (zebra.answered_by, zebra.known, zebra.answer.text) == (
        Ask.Result.MEMORY,
        False,
        "I do not know: the memory has no record of it",
    )
    assert zebra.evidence == []
    unsure = asking.ask("is there a zebra?")
    assert (unsure.answered_by, unsure.known) == (Ask.Result.MODEL, False)
    assert (
        unsure.answer.text
        == "I do not know; its guess, of confidence 0.10: 'the brightness is 230'"
    )


def test_a_model_that_has_no_word_for_it_is_not_believed(robot: Robot) -> None:
    asking = Asking(robot)
    strange = asking.ask("is there a unicorn ?")
    assert (strange.answered_by, strange.known) == (Ask.Result.MODEL, False)
    assert (
        strange.answer.text
        == "I do not know: the model has no word for 'unicorn'; its guess, of confidence 0.90: 'the"
        " brightness is 230'"
    )


def test_a_model_that_reads_the_past_is_asked_with_it(robot: Robot) -> None:
    asking = Asking(robot, BRIGHTNESS_READS="1", BRIGHTNESS_UNSURE="1")
    now = asking.ask("is it bright?")
    assert (now.answered_by, now.known, now.answer.text, now.note) == (
        Ask.Result.MODEL,
        True,
        "I read: it became bright",
        "",
    )
    uncountable = asking.ask("what colour was the bright picture?")
    assert (uncountable.answered_by, uncountable.answer.text) == (
        Ask.Result.MODEL,
        "I read: it became bright",
    )
    counted = asking.ask("how often was it bright?")
    assert counted.answered_by == Ask.Result.MEMORY, "no model counts"


def test_the_past_is_answered_while_nobody_looks(robot: Robot) -> None:
    asking = Asking(robot)
    assert robot.transition("deactivate")
    past = asking.ask("when was it bright?")
    assert (past.answered_by, past.known) == (Ask.Result.MEMORY, True)
    now = asking.ask("is it bright?", GoalStatus.STATUS_ABORTED)
    assert "is not active" in now.message
    stranger = asking.ask("when was it bright?", GoalStatus.STATUS_ABORTED, camera="back")
    assert "camera 'back' does not exist" in stranger.message


def test_a_quick_question_about_the_past_is_answered_from_the_memory_and_one_about_now_by_the_model(
    robot: Robot,
) -> None:
    asking = Asking(robot)
    event = asking.event
    past = asking.answer("when was it last bright?")
    assert past.text.startswith("last: it became bright, at ")
    assert (past.header.stamp, past.header.frame_id, past.camera) == (
        event.header.stamp,
        "front_optical",
        "camera",
    )
    assert past.session_id == event.session_id
    unknown = asking.answer("when did you last see the zebra?")
    assert (unknown.text, unknown.camera) == ("I do not know: the memory has no record of it", "")
    assert robot.call(Recall, "recall", kinds=["query", "answer"]).total == 0, (
        "an answer from the memory is no new memory"
    )
    now = asking.answer("how bright is it?")
    assert (now.text, now.camera) == ("the brightness is 230", "camera")
    assert len({past.query_id, unknown.query_id, now.query_id}) == 3
    stored = robot.call(Recall, "recall", kinds=["query", "answer"]).records
    assert {(record.kind, record.query_id) for record in stored} == {
        ("query", now.query_id),
        ("answer", now.query_id),
    }


def test_a_quick_question_about_the_past_is_answered_while_nobody_looks(robot: Robot) -> None:
    asking = Asking(robot)
    assert robot.transition("deactivate")
    assert asking.answer("how often was it bright?").text.startswith("once, last at ")
    asking.query("is it bright?")
    robot.wait(
        lambda: (
            "~/query: no answer to 'is it bright?'" in robot.log and "is not active" in robot.log
        ),
        "the reason in the log",
    )
    asking.query(" ")
    robot.wait(
        lambda: "~/query: no answer to ' ': the question is empty" in robot.log,
        "the refusal in the log",
    )


def test_questions_that_wait_for_the_memory_hold_nobody_up(robot: Robot) -> None:
    gate = robot.directory / "gate"
    asking = Asking(robot, BRIGHTNESS_GATE=str(gate))
    # More than the executor has threads.
    results = [asking.send("when was it bright?") for _ in range(5)]
    for _ in range(5):
        asking.query("how often was it bright?")
    seen = len(robot.states)
    assert robot.lifecycle_state() == "active"
    assert robot.call(Recall, "recall", text="bright", kinds=["event"]).total == 1
    robot.wait(lambda: len(robot.states) > seen + 3, "states: the cameras are heard")
    assert not any(result.done() for result in results)
    gate.touch()
    robot.wait(lambda: all(result.done() for result in results), "the answers")
    assert {result.result().result.answered_by for result in results} == {Ask.Result.MEMORY}
    robot.wait(
        lambda: (
            len([said for said in list(robot.utterances) if said.text.startswith("once, last at ")])
            == 5
        ),
        "the quick answers",
    )


def test_a_question_gives_up_in_its_time_while_the_memory_is_slow(robot: Robot) -> None:
    gate = robot.directory / "gate"
    asking = Asking(robot, BRIGHTNESS_GATE=str(gate))
    late = asking.ask("when was it bright?", GoalStatus.STATUS_ABORTED, timeout_s=0.5)
    assert "the memory gave no answer within 0.5 s" in late.message
    gate.touch()
