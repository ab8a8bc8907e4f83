"""The action `~/ask` and the topic `~/query`.

The model answers questions about the present, the memory answers questions about the past.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import String

from stream_vlm.delegate import DelegateBusy, DelegatedQuestion
from stream_vlm.memory.answers.prompt_recall import PromptRecall, is_about_the_past
from stream_vlm.pipeline import Pipeline
from stream_vlm.types import StreamError, Utterance
from stream_vlm_ros.action import Ask
from stream_vlm_ros.common.conversions import utterance_message
from stream_vlm_ros.common.first_result import FirstResult
from stream_vlm_ros.common.goals_under_way import GoalsUnderWay
from stream_vlm_ros.common.qos_overrides import OVERRIDABLE
from stream_vlm_ros.msg import Utterance as UtteranceMessage
from stream_vlm_ros.requests.answer_result import AnswerGrader, from_delegate, from_memory
from stream_vlm_ros.requests.question import Question, checked_words, new_query_id
from stream_vlm_ros.requests.recall_thread import RecallRequest
from stream_vlm_ros.requests.request_queue import RequestError, RequestQueue

Result = TypeVar("Result")

DEFAULT_TIMEOUT_S = 10.0
MAX_TIMEOUT_S = 3600.0
CHECK_PERIOD_S = 0.1
"""A waiting goal checks this often whether its timeout has passed or it was cancelled.

Timeouts use the computer's clock, not simulated time, because the caller waits in real time.
"""
CANCELLED = "the question was cancelled"


class AskServer:
    """Serves the action `~/ask` and the topic `~/query`.

    Both only put requests into queues. The recall thread asks the memory, the model thread asks the
    model.
    """

    def __init__(
        self,
        node: Node,
        pipeline: Pipeline,
        recalls: RequestQueue[RecallRequest],
        grader: AnswerGrader,
        questions: RequestQueue[Question],
        publish: Callable[[UtteranceMessage], None],
    ) -> None:
        """Make the action server and the subscription.

        Args:
            node: the node.
            pipeline: has the session, and selects the records that the model reads.
            recalls: requests to the memory.
            grader: decides whether the model's answer is known.
            questions: questions to the model.
            publish: publishes an utterance.
        """
        self._node = node
        self._recalls = recalls
        self._pipeline = pipeline
        self._grader = grader
        self._questions = questions
        self._publish = publish
        self._group = ReentrantCallbackGroup()
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._goals = GoalsUnderWay()
        self._server = ActionServer(
            node,
            Ask,
            "~/ask",
            self._execute,
            callback_group=self._group,
            goal_callback=self._goals.accept,
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
        )
        self._subscription = node.create_subscription(
            String,
            "~/query",
            self._on_query,
            10,
            callback_group=self._group,
            qos_overriding_options=OVERRIDABLE,
        )

    def destroy(self) -> None:
        """Destroy the action server and the subscription."""
        self._node.destroy_subscription(self._subscription)
        self._goals.end()
        self._server.destroy()

    def _is_for_the_memory(self, question: str, recalled: PromptRecall) -> bool:
        """Whether the memory answers, and not the model.

        It answers a question about the past if the answer can be computed from the records. If not,
        it says that it does not know, unless the model can read the records.
        """
        return is_about_the_past(question) and (
            recalled.is_known or (recalled.was_asked and not self._grader.model_reads)
        )

    def _put(self, question: Question, recalled: PromptRecall) -> None:
        """Put `question` into the queue to the model, with the records recalled for it."""
        context = self._pipeline.recaller.context(recalled, question.stamp_ns)
        self._questions.put(replace(question, recalled=context))

    def _on_query(self, message: String) -> None:
        asked_ns = self._now_ns()

        def fail(sentence: str) -> None:
            self._node.get_logger().warning(
                f"~/query: no answer to '{message.data[:80]}': {sentence}"
            )

        def delegate(result: Ask.Result, recalled: PromptRecall) -> None:
            # The answer comes as an utterance; a failure is on /diagnostics.
            if self._is_delegated(result):
                try:
                    self._delegate(result, asked, asked_ns, recalled, lambda outcome: None)
                except DelegateBusy as busy:
                    fail(str(busy))

        def answer(recalled: PromptRecall) -> None:
            if self._is_for_the_memory(asked, recalled):
                result = from_memory(recalled, asked_ns, self._pipeline.session_id)
                result.answer.query_id = new_query_id()
                self._publish(result.answer)
                delegate(result, recalled)
                return

            def answered(utterance: Utterance) -> None:
                session_id = self._pipeline.session_id
                result = self._grader.from_model(utterance, asked, recalled, session_id)
                delegate(result, recalled)

            question = Question(text=asked, stamp_ns=asked_ns, on_answer=answered, on_failure=fail)
            try:
                self._put(question, recalled)
            except RequestError as error:
                fail(str(error))

        try:
            asked = checked_words(message.data, "", self._grader.cameras, "the question")
            self._recalls.put(
                RecallRequest(
                    text=asked, camera="", on_found=answer, on_failure=fail, asked_ns=asked_ns
                )
            )
        except RequestError as error:
            fail(str(error))

    async def _execute(self, goal: ServerGoalHandle) -> Ask.Result:
        with self._goals.goal():
            return await self._result(goal)

    async def _result(self, goal: ServerGoalHandle) -> Ask.Result:
        started = time.monotonic()
        result = Ask.Result()
        try:
            timeout_s = _timeout_s(goal.request.timeout_s)
            outcome: Ask.Result | str = await self._answer(goal, started + timeout_s, timeout_s)
        except StreamError as error:
            outcome = str(error)
        if isinstance(outcome, Ask.Result):
            result = outcome
            result.success = True
        else:
            result.message = outcome
        result.took_ms = 1e3 * (time.monotonic() - started)
        if result.success:
            goal.succeed()
        elif goal.is_cancel_requested:
            goal.canceled()
        else:
            self._node.get_logger().warning(
                f"~/ask: no answer to '{goal.request.question[:80]}': {outcome}"
            )
            goal.abort()
        return result

    async def _answer(
        self, goal: ServerGoalHandle, deadline: float, timeout_s: float
    ) -> Ask.Result | str:
        asked_ns = self._now_ns()
        camera = goal.request.camera
        asked = checked_words(goal.request.question, camera, self._grader.cameras, "the question")
        found: FirstResult[PromptRecall | str] = FirstResult(self._node.executor)
        self._recalls.put(
            RecallRequest(
                text=asked,
                camera=camera,
                on_found=found.set,
                on_failure=found.set,
                asked_ns=asked_ns,
            )
        )
        timeout_message = (
            f"the memory gave no answer within {timeout_s:g} s; check that its disk is fast enough"
            " and that no other program locks the file"
        )
        recalled = await self._wait_for(found, goal, deadline, timeout_message)
        if isinstance(recalled, str):
            return recalled
        if self._is_for_the_memory(asked, recalled):
            result = from_memory(recalled, asked_ns, self._pipeline.session_id)
            if not result.known:
                result.answer.query_id = new_query_id()
            goal.publish_feedback(Ask.Feedback(text=result.answer.text))
        else:
            outcome = await self._ask_model(goal, asked, asked_ns, recalled, deadline, timeout_s)
            if isinstance(outcome, str):
                return outcome
            result = self._grader.from_model(outcome, asked, recalled, self._pipeline.session_id)
        if not self._is_delegated(result):
            return result
        return await self._ask_delegate(goal, result, asked, asked_ns, recalled, deadline)

    def _is_delegated(self, result: Ask.Result) -> bool:
        """Whether the delegate gets the question of `result`.

        An answer that the memory has computed is exact, so no model is asked.
        """
        delegate = self._pipeline.delegate
        computed = result.answered_by == Ask.Result.MEMORY and result.known
        return delegate is not None and not computed and delegate.wants(known=result.known)

    def _delegate(
        self,
        result: Ask.Result,
        asked: str,
        asked_ns: int,
        recalled: PromptRecall,
        on_result: Callable[[Utterance | str], None],
    ) -> None:
        """Give the question of `result` to the delegate, whose answer is published as it comes.

        Raises:
            DelegateBusy: the delegate does not take it.
        """
        delegate, session_id = self._pipeline.delegate, self._pipeline.session_id
        assert delegate is not None

        def answered(utterance: Utterance) -> None:
            self._publish(utterance_message(utterance, session_id))
            on_result(utterance)

        delegate.put(
            DelegatedQuestion(
                query_id=result.answer.query_id,
                text=asked,
                asked_ns=asked_ns,
                camera=result.answer.camera,
                recalled=recalled.context(asked_ns),
                on_answer=answered,
                on_failure=on_result,
            )
        )

    async def _ask_delegate(
        self,
        goal: ServerGoalHandle,
        result: Ask.Result,
        asked: str,
        asked_ns: int,
        recalled: PromptRecall,
        deadline: float,
    ) -> Ask.Result | str:
        """The delegate's answer; without one in time, `result` with a note that says why."""
        found: FirstResult[Utterance | str] = FirstResult(self._node.executor)
        try:
            self._delegate(result, asked, asked_ns, recalled, found.set)
        except DelegateBusy as busy:
            result.note = str(busy)
            return result
        goal.publish_feedback(Ask.Feedback(text=result.answer.text, delegated=True))
        late = (
            "the delegate did not answer before the deadline of the goal (timeout_s); if its answer"
            " comes later, it is published on ~/utterance"
        )
        outcome = await self._wait_for(found, goal, deadline, late)
        if outcome == CANCELLED:
            return CANCELLED
        if isinstance(outcome, str):
            result.note = outcome
            return result
        goal.publish_feedback(Ask.Feedback(text=outcome.text, delegated=True))
        return from_delegate(outcome, result, self._pipeline.session_id)

    async def _ask_model(
        self,
        goal: ServerGoalHandle,
        asked: str,
        asked_ns: int,
        recalled: PromptRecall,
        deadline: float,
        timeout_s: float,
    ) -> Utterance | str:
        answer: FirstResult[Utterance | str] = FirstResult(self._node.executor)

        def send_feedback(text: str) -> None:
            if not answer.is_set and goal.is_active:
                goal.publish_feedback(Ask.Feedback(text=text))

        question = Question(
            text=asked,
            stamp_ns=asked_ns,
            camera=goal.request.camera,
            on_text=send_feedback,
            on_answer=answer.set,
            on_failure=answer.set,
        )
        self._put(question, recalled)
        timeout_message = (
            f"no answer within {timeout_s:g} s; see on /diagnostics whether pictures of the camera"
            " arrive and whether the model is fast enough"
        )
        try:
            return await self._wait_for(answer, goal, deadline, timeout_message)
        finally:
            self._questions.finish(question.request_id)

    async def _wait_for(
        self,
        outcome: FirstResult[Result | str],
        goal: ServerGoalHandle,
        deadline: float,
        timeout_message: str,
    ) -> Result | str:
        """Wait for a result.

        Args:
            outcome: where the result will be.
            goal: if it is cancelled first, the result is `CANCELLED`.
            deadline: if this time (of `time.monotonic`) passes first, the result is
                `timeout_message`.
            timeout_message: see `deadline`.
        """

        def check() -> None:
            if goal.is_cancel_requested:
                outcome.set(CANCELLED)
            elif time.monotonic() > deadline:
                outcome.set(timeout_message)

        timer = self._node.create_timer(
            CHECK_PERIOD_S, check, callback_group=self._group, clock=self._steady
        )
        try:
            result: Result | str = await outcome.future
            return result
        finally:
            self._node.destroy_timer(timer)

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)


def _timeout_s(asked: float) -> float:
    if asked == 0.0:
        return DEFAULT_TIMEOUT_S
    if not 0.0 < asked <= MAX_TIMEOUT_S:
        raise RequestError(
            f"timeout_s {asked:g} is refused; give 0 (which means {DEFAULT_TIMEOUT_S:g} s) or at"
            f" most {MAX_TIMEOUT_S:g} s"
        )
    return asked
