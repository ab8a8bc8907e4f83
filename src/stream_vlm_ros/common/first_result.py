"""How a goal ends when several things may end it: the first one counts."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

from rclpy.executors import Executor
from rclpy.task import Future

Result = TypeVar("Result")


class FirstResult(Generic[Result]):
    """Awaited by the coroutine of a goal, settled once, from any thread, by an answer, a failure, a
    timeout or a cancellation.
    """

    def __init__(self, executor: Executor | None) -> None:
        self.future = Future(executor=executor)
        # A future wakes its executor, which resumes the coroutine, only when somebody listens to
        # it.
        self.future.add_done_callback(lambda _: None)
        self._lock = threading.Lock()

    @property
    def is_set(self) -> bool:
        return bool(self.future.done())

    def set(self, result: Result) -> None:
        """End with `result`, if nothing else came first."""
        with self._lock:
            if not self.future.done():
                self.future.set_result(result)
