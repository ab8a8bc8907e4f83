"""A lifecycle node whose services answer while a transition runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lifecycle_msgs.srv import ChangeState
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode


class ResponsiveLifecycleNode(LifecycleNode):
    """Runs one transition at a time, and never in the group of the other services.

    In rclpy all services of a lifecycle node share one callback group. A configure transition that
    loads a model would keep get_state and the parameter services waiting. Here the service that
    changes the state has a group of its own, which the node's own transitions share.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._transition_group = MutuallyExclusiveCallbackGroup()
        service = self._service_change_state
        service.callback_group = self._transition_group
        self._transition_group.add_entity(service)
        self._change_state = service.callback
        service.callback = self._on_change_state

    def between_transitions(self, work: Callable[[], None]) -> None:
        """Call `work` once on the executor, when no transition runs."""

        def run_once() -> None:
            self.destroy_timer(timer)
            work()

        # The steady clock runs also while simulated time stands still.
        timer = self.create_timer(
            0.0,
            run_once,
            callback_group=self._transition_group,
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    def _on_change_state(self, request: ChangeState.Request, response: ChangeState.Response) -> Any:
        state = self._state_machine.current_state[1]
        try:
            return self._change_state(request, response)
        except Exception as error:
            # Without this, the caller would wait for a response that never comes.
            wanted = request.transition.label or f"number {request.transition.id}"
            self.get_logger().error(
                f"transition {wanted} is not possible in the state {state}: {error}; ros2 lifecycle"
                f" list {self.get_fully_qualified_name()} shows the possible ones"
            )
            response.success = False
            return response
