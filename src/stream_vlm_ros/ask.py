"""`~/ask`: a question to the model about what it sees now, answered while it is written; `~/query` asks quickly."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import String

from stream_vlm.memory.recall import RecallQuery
from stream_vlm.memory.store import Memory
from stream_vlm.stream import StreamError, Utterance
from stream_vlm_ros.action import Ask
from stream_vlm_ros.messages import record_message, utterance_message
from stream_vlm_ros.outcome import Outcome
from stream_vlm_ros.questions import Asker, QuestionError, Questions, inactive

DEFAULT_TIMEOUT_S = 10.0
LONGEST_TIMEOUT_S = 3600.0
CHECK_PERIOD_S = 0.1
"""How often a waiting goal looks at its deadline and whether it was cancelled: by the computer's clock, in whose time its caller waits."""
EVIDENCE = 5
"""Remembered records that go with an answer, at most."""
CANCELLED = "the question was cancelled"


class AskServer:
    """The action `~/ask` and the topic `~/query`. `questions` gives the queue to the model, or None while the node is not active."""

    def __init__(self, node: Node, memory: Memory, questions: Callable[[], Questions | None], session_id: Callable[[], str]) -> None:
        self._node = node
        self._memory = memory
        self._questions = questions
        self._session_id = session_id
        self._group = ReentrantCallbackGroup()
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._server = ActionServer(
            node,
            Ask,
            "~/ask",
            self._execute,
            callback_group=self._group,
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
        )
        self._subscription = node.create_subscription(String, "~/query", self._ask_quickly, 10, callback_group=self._group)

    def destroy(self) -> None:
        self._node.destroy_subscription(self._subscription)
        self._server.destroy()

    def _put(self, text: str, camera: str, asker: Asker) -> tuple[Questions, str]:
        questions = self._questions()
        if questions is None:
            raise QuestionError(inactive(self._node))
        return questions, questions.put(text, camera, self._node.get_clock().now().nanoseconds, asker)

    def _ask_quickly(self, message: String) -> None:
        def fail(sentence: str) -> None:
            self._node.get_logger().warning(f"~/query: no answer to '{message.data[:80]}': {sentence}")

        try:
            self._put(message.data, "", Asker(on_text=lambda text: None, on_answer=lambda utterance: None, on_failure=fail))
        except QuestionError as error:
            fail(str(error))

    async def _execute(self, goal: ServerGoalHandle) -> Ask.Result:
        started = time.monotonic()
        result = Ask.Result()
        try:
            timeout_s = _timeout_s(goal.request.timeout_s)
            result.evidence = self._evidence(goal.request.question)
            outcome = await self._answer(goal, started + timeout_s, timeout_s)
        except StreamError as error:
            outcome = str(error)
        result.took_ms = 1e3 * (time.monotonic() - started)
        if isinstance(outcome, Utterance):
            result.success = True
            result.answer = utterance_message(outcome, self._session_id())
            goal.succeed()
            return result
        result.message = outcome
        if goal.is_cancel_requested:
            goal.canceled()
        else:
            self._node.get_logger().warning(f"~/ask: no answer to '{goal.request.question[:80]}': {outcome}")
            goal.abort()
        return result

    async def _answer(self, goal: ServerGoalHandle, deadline: float, timeout_s: float) -> Utterance | str:
        answer: Outcome[Utterance | str] = Outcome(self._node.executor)

        def tell(text: str) -> None:
            if not answer.is_settled and goal.is_active:
                goal.publish_feedback(Ask.Feedback(text=text))

        def check() -> None:
            if goal.is_cancel_requested:
                answer.settle(CANCELLED)
            elif time.monotonic() > deadline:
                late = f"no answer within {timeout_s:g} s; does the camera show pictures, is the model fast enough (see /diagnostics)?"
                answer.settle(late)

        questions, query_id = self._put(goal.request.question, goal.request.camera, Asker(tell, answer.settle, answer.settle))
        timer = self._node.create_timer(CHECK_PERIOD_S, check, callback_group=self._group, clock=self._steady)
        try:
            outcome: Utterance | str = await answer.future
            return outcome
        finally:
            self._node.destroy_timer(timer)
            questions.withdraw(query_id)

    def _evidence(self, question: str) -> list:
        query = RecallQuery(text=question, limit=EVIDENCE)
        if not query.words:
            return []
        try:
            return [record_message(record) for record in self._memory.recall(query).records]
        except StreamError as error:
            # The model can answer without its memory.
            self._node.get_logger().warning(f"~/ask: no evidence from the memory: {error}")
            return []


def _timeout_s(asked: float) -> float:
    if asked == 0.0:
        return DEFAULT_TIMEOUT_S
    if not 0.0 < asked <= LONGEST_TIMEOUT_S:
        raise QuestionError(f"timeout_s {asked:g} is refused; give 0 (for {DEFAULT_TIMEOUT_S:g} s) or seconds up to {LONGEST_TIMEOUT_S:g}")
    return asked
