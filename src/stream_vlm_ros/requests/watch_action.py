"""The action `~/watch`: the model watches for what the goal names, and reports it as feedback.

A watch ends when it is cancelled, when its time or its number of reports is reached, or when
another watch of the same camera replaces it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from stream_vlm.memory.answers.prompt_recall import PromptRecall
from stream_vlm.pipeline import Pipeline
from stream_vlm.types import StreamError, Utterance
from stream_vlm_ros.action import Watch
from stream_vlm_ros.common.conversions import utterance_message
from stream_vlm_ros.common.first_result import FirstResult
from stream_vlm_ros.common.goals_under_way import GoalsUnderWay
from stream_vlm_ros.requests.ask_action import CHECK_PERIOD_S
from stream_vlm_ros.requests.recall_thread import RecallRequest
from stream_vlm_ros.requests.request_queue import RequestError, RequestQueue
from stream_vlm_ros.requests.watch_registry import WatchCallbacks, WatchRegistry

MAX_TIMEOUT_S = 7 * 86400.0


@dataclass(frozen=True)
class Ending:
    """Why a watch ended.

    Attributes:
        sentence: the reason.
        is_success: whether the time or the number of reports of the goal was reached.
    """

    sentence: str
    is_success: bool = False


class WatchServer:
    """Serves the action `~/watch`."""

    def __init__(
        self,
        node: Node,
        pipeline: Pipeline,
        recalls: RequestQueue[RecallRequest],
        watches: WatchRegistry,
    ) -> None:
        """Make the action server.

        Args:
            node: the node.
            pipeline: has the session, and selects the records that the model reads.
            recalls: requests to the memory.
            watches: the active watches.
        """
        self._node = node
        self._recalls = recalls
        self._pipeline = pipeline
        self._watches = watches
        self._group = ReentrantCallbackGroup()
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._goals = GoalsUnderWay()
        self._server = ActionServer(
            node,
            Watch,
            "~/watch",
            self._execute,
            callback_group=self._group,
            goal_callback=self._goals.accept,
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
        )

    def destroy(self) -> None:
        """Destroy the action server."""
        self._goals.end()
        self._server.destroy()

    async def _execute(self, goal: ServerGoalHandle) -> Watch.Result:
        with self._goals.goal():
            return await self._result(goal)

    async def _result(self, goal: ServerGoalHandle) -> Watch.Result:
        result = Watch.Result()
        reports = Reports(goal, self._pipeline, FirstResult(self._node.executor))
        try:
            ending = await self._watch(goal, reports)
        except StreamError as error:
            ending = Ending(str(error))
        result.success, result.message, result.reports = (
            ending.is_success,
            ending.sentence,
            reports.count,
        )
        # A goal that was reached counts, also if it was cancelled at the same time.
        if ending.is_success:
            goal.succeed()
        elif goal.is_cancel_requested:
            goal.canceled()
        else:
            self._node.get_logger().warning(
                f"~/watch: the watch for '{goal.request.watch_for[:80]}' ended: {ending.sentence}"
            )
            goal.abort()
        return result

    async def _watch(self, goal: ServerGoalHandle, reports: Reports) -> Ending:
        number = self._watches.number()
        timeout_s = _timeout_s(goal.request.timeout_s)
        deadline = time.monotonic() + timeout_s if timeout_s else None
        outcome = reports.outcome
        found: FirstResult[PromptRecall | Ending] = FirstResult(self._node.executor)

        def end(ending: Ending) -> None:
            found.set(ending)
            outcome.set(ending)

        def check() -> None:
            if goal.is_cancel_requested:
                end(Ending("the watch was cancelled"))
            elif deadline is not None and time.monotonic() > deadline:
                end(Ending(f"watched for {timeout_s:g} s", is_success=True))

        stamp_ns = self._node.get_clock().now().nanoseconds
        watch_for, camera = goal.request.watch_for, goal.request.camera
        self._recalls.put(
            RecallRequest(
                text=watch_for,
                camera=camera,
                on_found=found.set,
                on_failure=lambda sentence: end(Ending(sentence)),
            )
        )
        timer = self._node.create_timer(
            CHECK_PERIOD_S, check, callback_group=self._group, clock=self._steady
        )
        try:
            recalled = await found.future
            if isinstance(recalled, Ending):
                return recalled
            if outcome.is_set:
                # It ended while the memory was asked, and must not end the watch of another goal.
                ended: Ending = outcome.future.result()
                return ended
            callbacks = WatchCallbacks(
                reports.report, lambda sentence: outcome.set(Ending(sentence))
            )
            query_id = self._watches.put(
                watch_for,
                camera,
                stamp_ns,
                callbacks,
                self._pipeline.recaller.context(recalled, stamp_ns),
                number,
            )
            try:
                ending: Ending = await outcome.future
                return ending
            finally:
                self._watches.withdraw(query_id)
        finally:
            self._node.destroy_timer(timer)


class Reports:
    """Sends the reports of one goal as feedback, and ends the goal after its last report."""

    def __init__(
        self, goal: ServerGoalHandle, pipeline: Pipeline, outcome: FirstResult[Ending]
    ) -> None:
        self.outcome = outcome
        self.count = 0
        self._goal = goal
        self._pipeline = pipeline

    def report(self, utterance: Utterance) -> None:
        """Send one report. The writer thread calls it, in the order of the steps."""
        if self.outcome.is_set or not self._goal.is_active:
            return
        self.count += 1
        self._goal.publish_feedback(
            Watch.Feedback(report=utterance_message(utterance, self._pipeline.session_id))
        )
        if self.count == self._goal.request.max_reports:
            self.outcome.set(
                Ending(f"made {self.count} report{'s' if self.count > 1 else ''}", is_success=True)
            )


def _timeout_s(asked: float) -> float:
    if not 0.0 <= asked <= MAX_TIMEOUT_S:
        raise RequestError(
            f"timeout_s {asked:g} is refused; give 0 (which means no limit) or at most"
            f" {MAX_TIMEOUT_S:g} s"
        )
    return asked
