"""What waits to be stored: sessions and steps, in order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from stream_vlm.memory.storage.step_rows import StepRows
from stream_vlm.types import StepResult


@dataclass(eq=False)
class WaitingSession:
    """A session to store before the steps after it; see `Memory.begin_session`."""

    session_id: str
    model_id: str
    reason: str
    started_ns: int


@dataclass(eq=False)
class WaitingStep:
    """A step to store.

    Attributes:
        result: has full-size frames; released as soon as its callback was called.
        rows: what is stored; they wait for the disk.
    """

    result: StepResult | None
    rows: StepRows | None = None


Waiting = WaitingSession | WaitingStep


class WriteQueue:
    """Sessions and steps in the order in which they are stored.

    It has two parts: the backlog, of items that failed before and were reported, and the incoming
    items, which are all newer. It has no lock of its own.
    """

    def __init__(self) -> None:
        self._backlog: deque[Waiting] = deque()
        self._incoming: deque[Waiting] = deque()

    def __bool__(self) -> bool:
        return self.has_backlog or self.has_incoming

    @property
    def has_backlog(self) -> bool:
        """Whether there are items that failed before."""
        return bool(self._backlog)

    @property
    def has_incoming(self) -> bool:
        """Whether there are items that were never tried."""
        return bool(self._incoming)

    @property
    def steps(self) -> int:
        """Number of steps; sessions are not counted."""
        return sum(isinstance(item, WaitingStep) for item in (*self._backlog, *self._incoming))

    def add(self, item: Waiting) -> None:
        """Append a new item."""
        self._incoming.append(item)

    def oldest(self) -> Waiting | None:
        """Return the oldest item, which stays in the queue."""
        queue = self._backlog or self._incoming
        return queue[0] if queue else None

    def remove_oldest(self) -> None:
        """Remove the item that `oldest` returns."""
        (self._backlog or self._incoming).popleft()

    def oldest_incoming(self) -> Waiting | None:
        """Return the oldest incoming item, which stays in the queue."""
        return self._incoming[0] if self._incoming else None

    def remove_oldest_incoming(self) -> None:
        """Remove the oldest incoming item."""
        self._incoming.popleft()

    def move_to_backlog(self) -> None:
        """Move the oldest incoming item to the end of the backlog."""
        self._backlog.append(self._incoming.popleft())

    def take_oldest_step(self) -> WaitingStep:
        """Remove and return the oldest step; there must be one."""
        for queue in (self._backlog, self._incoming):
            for item in queue:
                if isinstance(item, WaitingStep):
                    queue.remove(item)
                    return item
        raise LookupError("no step waits")

    def take_all(self) -> list[Waiting]:
        """Remove and return everything, oldest first."""
        left = [*self._backlog, *self._incoming]
        self._backlog.clear()
        self._incoming.clear()
        return left
