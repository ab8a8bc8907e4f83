"""The goals of an action server that have no result yet; a server ends only after them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rclpy.action import GoalResponse

LONGEST_S = 1.0
"""How long the end of a server waits for its goals, seconds: a process must end within two."""
SENDING_S = 0.3
"""How long a result may need to reach its caller, who asks for it only once the goal is accepted,
seconds."""


class GoalsUnderWay:
    """Counts the goals of one action server from their acceptance to their result.

    An action server that is destroyed sends nothing any more. A caller whose goal was accepted
    would then wait for ever.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        self._last_end = -SENDING_S
        self._is_ending = False

    def accept(self, _: Any) -> GoalResponse:
        """The goal callback of the server: it takes every goal until `end`."""
        with self._changed:
            if self._is_ending:
                return GoalResponse.REJECT
            self._count += 1
            return GoalResponse.ACCEPT

    @contextmanager
    def goal(self) -> Iterator[None]:
        """Around the execution of an accepted goal."""
        try:
            yield
        finally:
            with self._changed:
                self._count -= 1
                self._last_end = time.monotonic()
                self._changed.notify_all()

    def end(self) -> None:
        """Refuse new goals, and wait at most `LONGEST_S` until all others have sent their result.

        The executor must spin in another thread meanwhile.
        """
        deadline = time.monotonic() + LONGEST_S
        with self._changed:
            self._is_ending = True
            self._changed.wait_for(lambda: self._count <= 0, LONGEST_S)
            sent_at = self._last_end + SENDING_S
        left = min(sent_at, deadline) - time.monotonic()
        if left > 0:
            time.sleep(left)
