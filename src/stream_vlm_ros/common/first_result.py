"""The result of an action goal that several threads may set: the first one counts."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

from rclpy.executors import Executor
from rclpy.task import Future

Result = TypeVar("Result")


class FirstResult(Generic[Result]):
    """The result that the coroutine of a goal waits for with `await ....future`.

    Any thread may set it, for example to an answer, a failure, a timeout or a cancellation.
    """

    def __init__(self, executor: Executor | None) -> None:
        self.future = Future(executor=executor)
        # rclpy wakes the executor, which resumes the coroutine, only for a future with a callback.
        self.future.add_done_callback(lambda _: None)
        self._lock = threading.Lock()

    @property
    def is_set(self) -> bool:
        """Whether there is a result."""
        return bool(self.future.done())

    def set(self, result: Result) -> None:
        """Set `result`, unless there is one already."""
        with self._lock:
            if not self.future.done():
                self.future.set_result(result)
