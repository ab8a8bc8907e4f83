"""`~/ask` and `~/query` over DDS.

The memory answers questions about the past, the model answers questions about the present.
"""

from __future__ import annotations

import threading
from typing import Any

from action_msgs.msg import GoalStatus
from brightness_model import GATE_ENV, READS_ENV, UNSURE_ENV
from diagnostic_msgs.msg import DiagnosticStatus
from judge_server import JudgeServer, serve_judge
from rclpy.action import ActionClient
from ros_fixtures import BRIGHT, Robot
from std_msgs.msg import String
from stream_vlm_ros.action import Ask
from stream_vlm_ros.msg import Utterance
from stream_vlm_ros.srv import Recall

WARN = DiagnosticStatus.WARN


class Client:
    """Starts a node, shows it a change to bright, and asks it.

    It asks with one action client, because a new client misses feedback until it is discovered.
    """

    def __init__(
        self, robot: Robot, environment: dict[str, str] | None = None, **parameters: Any
    ) -> None:
        self._robot = robot
        self.delegated = 0
        """How many feedbacks said that a question was delegated."""
        camera = robot.camera()
        robot.start_node(environment=environment, **parameters)
        self._client = ActionClient(robot.node, Ask, "stream_vlm/ask")
        self._queries = robot.node.create_publisher(String, "stream_vlm/query", 10)
        robot.wait(lambda: robot.states, "a state")
        camera.brightness = BRIGHT
        robot.wait_for_text("it became bright")
        self.event = robot.wait(lambda: robot.events, "the event")[0]
        assert self._client.wait_for_server(30), robot.log

    def send(self, question: str) -> Any:
        """Send a goal of `~/ask`; return the future of its result."""
        sent = self._robot.on_spinner(
            lambda: self._client.send_goal_async(Ask.Goal(question=question, timeout_s=30.0))
        )
        self._robot.wait(sent.done, "acceptance")
        return self._robot.on_spinner(sent.result().get_result_async)

    def query(self, question: str) -> None:
        """Publish a question on `~/query`."""
        self._robot.wait(self._queries.get_subscription_count, "the node on ~/query")
        self._queries.publish(String(data=question))

    def answer(self, question: str) -> Utterance:
        """Return the utterance that answers a question on `~/query`."""
        before = len(self._robot.utterances)
        self.query(question)

        def answers() -> list[Utterance]:
            return [each for each in list(self._robot.utterances)[before:] if each.query_id]

        answer: Utterance = self._robot.wait(answers, f"the answer to '{question}'")[0]
        self._robot.wait(lambda: answer.text in self._robot.texts, "the text of the answer")
        return answer

    def ask(
        self, question: str, status: int = GoalStatus.STATUS_SUCCEEDED, **goal: Any
    ) -> Ask.Result:
        """Return the result of a goal of `~/ask`; its status must be `status`."""
        texts: list[str] = []

        def hear(message: Any) -> None:
            texts.append(message.feedback.text)
            self.delegated += message.feedback.delegated

        asked = Ask.Goal(question=question, **({"timeout_s": 30.0} | goal))
        sent = self._robot.on_spinner(lambda: self._client.send_goal_async(asked, hear))
        self._robot.wait(sent.done, "acceptance")
        outcome = self._robot.on_spinner(sent.result().get_result_async)
        self._robot.wait(outcome.done, f"the answer to '{question}'")
        result = outcome.result().result
        assert outcome.result().status == status, result.message
        if result.success:
            self._robot.wait(
                lambda: texts and texts[-1] in result.answer.text, "the answer as feedback"
            )
        return result


def test_the_memory_answers_about_the_past_and_the_model_about_the_present(robot: Robot) -> None:
    client = Client(robot)
    event = client.event
    past = client.ask("when was it last bright?")
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
    now = client.ask("how bright is it?")
    assert (now.answered_by, now.known, now.answer.text) == (
        Ask.Result.MODEL,
        True,
        "the brightness is 230",
    )
    assert "it became bright" in {record.text for record in now.evidence}
    assert (
        now.note
        == "the model was asked without these records, because brightness cannot read records of"
        " the memory"
    )
    counted = client.ask("how often was it bright?")
    assert counted.answer.text.startswith("once, last at ")
    robot.forget_diagnostics()
    values = {
        value.key: value.value
        for name, message in (("model", "step p50"), ("memory", "records"))
        for value in robot.wait_for_diagnostic(name, message).values
    }
    assert (values["recalls received"], values["questions received"]) == ("3", "1")


def test_an_answer_that_nobody_knows_is_marked_as_unknown(robot: Robot) -> None:
    client = Client(robot, {UNSURE_ENV: "1"})
    zebra = client.ask("when did you last see the zebra?")
    assert (zebra.answered_by, zebra.known, zebra.answer.text) == (
        Ask.Result.MEMORY,
        False,
        "I do not know: the memory has no record of it",
    )
    assert zebra.evidence == []
    unsure = client.ask("is there a zebra?")
    assert (unsure.answered_by, unsure.known) == (Ask.Result.MODEL, False)
    assert (
        unsure.answer.text
        == "I do not know; the model's guess (confidence 0.10): 'the brightness is 230'"
    )


def test_an_answer_to_a_question_with_an_unknown_word_is_marked_as_unknown(robot: Robot) -> None:
    client = Client(robot)
    strange = client.ask("is there a unicorn ?")
    assert (strange.answered_by, strange.known) == (Ask.Result.MODEL, False)
    assert (
        strange.answer.text
        == "I do not know: the model has no word for 'unicorn'; the model's guess (confidence"
        " 0.90): 'the brightness is 230'"
    )


def test_a_model_that_reads_records_is_asked_with_them(robot: Robot) -> None:
    client = Client(robot, {READS_ENV: "1", UNSURE_ENV: "1"})
    now = client.ask("is it bright?")
    assert (now.answered_by, now.known, now.answer.text, now.note) == (
        Ask.Result.MODEL,
        True,
        "I read: it became bright",
        "",
    )
    uncountable = client.ask("what colour was the bright picture?")
    assert (uncountable.answered_by, uncountable.answer.text) == (
        Ask.Result.MODEL,
        "I read: it became bright",
    )
    counted = client.ask("how often was it bright?")
    assert counted.answered_by == Ask.Result.MEMORY, "the memory counts, not the model"


def test_an_inactive_node_answers_about_the_past_only(robot: Robot) -> None:
    client = Client(robot)
    assert robot.transition("deactivate")
    past = client.ask("when was it bright?")
    assert (past.answered_by, past.known) == (Ask.Result.MEMORY, True)
    now = client.ask("is it bright?", GoalStatus.STATUS_ABORTED)
    assert "is not active" in now.message
    unknown_camera = client.ask("when was it bright?", GoalStatus.STATUS_ABORTED, camera="back")
    assert "camera 'back' does not exist" in unknown_camera.message


def test_a_question_on_the_query_topic_is_answered_by_the_memory_or_the_model(robot: Robot) -> None:
    client = Client(robot)
    event = client.event
    past = client.answer("when was it last bright?")
    assert past.text.startswith("last: it became bright, at ")
    assert (past.header.stamp, past.header.frame_id, past.camera) == (
        event.header.stamp,
        "front_optical",
        "camera",
    )
    assert past.session_id == event.session_id
    unknown = client.answer("when did you last see the zebra?")
    assert (unknown.text, unknown.camera) == ("I do not know: the memory has no record of it", "")
    assert robot.call(Recall, "recall", kinds=["query", "answer"]).total == 0, (
        "an answer of the memory is not stored"
    )
    now = client.answer("how bright is it?")
    assert (now.text, now.camera) == ("the brightness is 230", "camera")
    assert len({past.query_id, unknown.query_id, now.query_id}) == 3
    stored = robot.call(Recall, "recall", kinds=["query", "answer"]).records
    assert {(record.kind, record.query_id) for record in stored} == {
        ("query", now.query_id),
        ("answer", now.query_id),
    }


def test_an_inactive_node_answers_questions_about_the_past_on_the_query_topic(robot: Robot) -> None:
    client = Client(robot)
    assert robot.transition("deactivate")
    assert client.answer("how often was it bright?").text.startswith("once, last at ")
    client.query("is it bright?")
    robot.wait(
        lambda: (
            "~/query: no answer to 'is it bright?'" in robot.log and "is not active" in robot.log
        ),
        "the reason in the log",
    )
    client.query(" ")
    robot.wait(
        lambda: "~/query: no answer to ' ': the question is empty" in robot.log,
        "the refusal in the log",
    )


def test_questions_that_wait_for_the_memory_block_nothing_else(robot: Robot) -> None:
    gate = robot.directory / "gate"
    client = Client(robot, {GATE_ENV: str(gate)})
    # More than the executor has threads.
    results = [client.send("when was it bright?") for _ in range(5)]
    for _ in range(5):
        client.query("how often was it bright?")
    before = len(robot.states)
    assert robot.lifecycle_state() == "active"
    assert robot.call(Recall, "recall", text="bright", kinds=["event"]).total == 1
    robot.wait(lambda: len(robot.states) > before + 3, "more states")
    assert not any(result.done() for result in results)
    gate.touch()
    robot.wait(lambda: all(result.done() for result in results), "the answers")
    assert {result.result().result.answered_by for result in results} == {Ask.Result.MEMORY}
    robot.wait(
        lambda: (
            len([each for each in list(robot.utterances) if each.text.startswith("once, last at ")])
            == 5
        ),
        "the answers as utterances",
    )


def test_a_question_times_out_while_the_memory_is_slow(robot: Robot) -> None:
    gate = robot.directory / "gate"
    client = Client(robot, {GATE_ENV: str(gate)})
    late = client.ask("when was it bright?", GoalStatus.STATUS_ABORTED, timeout_s=0.5)
    assert "the memory gave no answer within 0.5 s" in late.message
    gate.touch()


def to(server: JudgeServer, **more: Any) -> dict[str, Any]:
    """Parameters that give hard questions to `server`."""
    return {"delegate__url": server.url, "delegate__model": "large", **more}


def test_a_question_that_nobody_can_answer_goes_to_the_delegate(robot: Robot) -> None:
    with serve_judge(lambda content: "Yes, a zebra.") as server:
        client = Client(robot, {UNSURE_ENV: "1"}, **to(server))
        now = client.ask("is there a zebra?")
        assert (now.answered_by, now.known, now.answer.text, now.answer.answered_by) == (
            Ask.Result.DELEGATE,
            True,
            "Yes, a zebra.",
            "delegate",
        )
        assert client.delegated == 2
        assert now.answer.camera == "camera"
        spoken = robot.wait_for_text("Yes, a zebra.")
        assert (spoken.query_id, spoken.answered_by) == (now.answer.query_id, "delegate")
        stored = robot.wait(
            lambda: [
                record
                for record in robot.call(Recall, "recall", kinds=["answer"]).records
                if record.model_id == "large"
            ],
            "the answer in the memory",
        )
        assert [(one.text, one.query_id, one.has_frame) for one in stored] == [
            ("Yes, a zebra.", now.answer.query_id, True)
        ]
        past = client.ask("when did you last see the zebra?")
        assert past.answered_by == Ask.Result.DELEGATE
        assert len(server.requests) == 2
        counted = client.ask("how often was it bright?")
        assert counted.answered_by == Ask.Result.MEMORY, "what the memory computed is exact"
        assert len(server.requests) == 2


def test_a_known_answer_is_delegated_only_if_the_setting_says_always(robot: Robot) -> None:
    with serve_judge(lambda content: "Very bright.") as server:
        client = Client(robot, **to(server, delegate__when="always"))
        now = client.ask("how bright is it?")
        assert (now.answered_by, now.answer.text) == (Ask.Result.DELEGATE, "Very bright.")
        assert client.ask("how often was it bright?").answered_by == Ask.Result.MEMORY


def test_a_delegate_that_never_answers_leaves_the_answer_of_the_model(robot: Robot) -> None:
    may_end = threading.Event()

    def reply(content: Any) -> str:
        may_end.wait(120)
        return "too late"

    with serve_judge(reply) as server:
        try:
            client = Client(robot, {UNSURE_ENV: "1"}, **to(server, delegate__timeout_s=1.0))
            before = len(robot.states)
            result = client.ask("is there a zebra?")
            assert (result.answered_by, result.known) == (Ask.Result.MODEL, False)
            assert result.answer.text.startswith("I do not know; the model's guess")
            assert result.note == "the delegate gave no answer within 1 s (delegate.timeout_s)"
            assert len(robot.states) > before, "no tick waits for the delegate"
            robot.wait_for_diagnostic("delegate", "the delegate gave no answer within 1 s", WARN)
            # A question that is still being asked does not hold the end of the node.
            client.query("is there a zebra?")
            robot.wait(lambda: len(server.requests) == 2, "the second question at the server")
            assert robot.end_node() == 0
        finally:
            may_end.set()


def test_a_late_answer_of_the_delegate_is_published(robot: Robot) -> None:
    may_answer = threading.Event()

    def reply(content: Any) -> str:
        may_answer.wait(120)
        return "Yes, a zebra."

    with serve_judge(reply) as server:
        try:
            client = Client(robot, {UNSURE_ENV: "1"}, **to(server, delegate__timeout_s=100.0))
            result = client.ask("is there a zebra?", timeout_s=5.0)
            assert (result.answered_by, result.known) == (Ask.Result.MODEL, False)
            assert "before the deadline of the goal" in result.note
        finally:
            may_answer.set()
        assert robot.wait_for_text("Yes, a zebra.").query_id == result.answer.query_id


def test_a_question_on_the_query_topic_is_delegated_too(robot: Robot) -> None:
    with serve_judge(lambda content: "Yes, a zebra.") as server:
        client = Client(robot, {UNSURE_ENV: "1"}, **to(server))
        first = client.answer("is there a zebra?")
        second = robot.wait_for_text("Yes, a zebra.")
        assert (second.query_id, second.answered_by) == (first.query_id, "delegate")
        assert first.answered_by == ""


def test_every_accepted_goal_gets_a_result_when_the_node_is_cleaned_up(robot: Robot) -> None:
    client = Client(robot)
    for _ in range(3):
        assert robot.transition("deactivate")
        results = [client.send("how bright is it?") for _ in range(5)]
        assert robot.transition("cleanup")
        for result in results:
            robot.wait(result.done, "a result")
        assert {each.result().status for each in results} <= {
            GoalStatus.STATUS_ABORTED,
            GoalStatus.STATUS_SUCCEEDED,
        }
        assert robot.transition("configure")
        robot.wait_for_active()
