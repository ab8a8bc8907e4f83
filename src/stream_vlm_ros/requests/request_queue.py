"""A queue of requests from ROS callbacks to the one thread that serves them."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from stream_vlm.types import StreamError


class RequestError(StreamError):
    """A request is refused; the message says why and what to do."""


def new_request_id() -> str:
    """A new random id, which no other request has."""
    return uuid.uuid4().hex[:12]


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """A request and the callbacks of its caller.

    The thread that serves the request calls the callbacks, so they must return at once.

    Attributes:
        on_failure: called with one sentence that says why there is no answer.
        request_id: a unique id.
    """

    on_failure: Callable[[str], None]
    request_id: str = field(default_factory=new_request_id)


AnyRequest = TypeVar("AnyRequest", bound=Request)


def _always(request: Request) -> bool:
    return True


class RequestQueue(Generic[AnyRequest]):
    """Holds requests in the order in which they came, until one thread serves them.

    A ROS callback only puts its request and returns; it does not wait for the answer. The serving
    thread has two ways: it takes a request and answers it at once, or it begins a request and
    finishes it later. A request that is begun can still be withdrawn, and it fails if the queue is
    closed. Each request ends once: it is answered, fails or is withdrawn.
    """

    def __init__(self, capacity: int, full: str, closed: str = "") -> None:
        """Make an empty queue.

        Args:
            capacity: how many requests may wait.
            full: the message if one more is refused: why, and what to do.
            closed: the message if a request is refused before `open` is called; empty for a queue
                that is open.
        """
        self._capacity = capacity
        self._full = full
        self._changed = threading.Condition()
        self._waiting: dict[str, AnyRequest] = {}
        self._begun: dict[str, AnyRequest] = {}
        self._on_put: Callable[[], None] = lambda: None
        self._closed = closed
        self._received = 0
        self._refused = 0

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def counts(self, what: str) -> dict[str, int]:
        """How many requests were received, were refused and wait, for /diagnostics.

        Requests that a closed queue refuses do not count.

        Args:
            what: what the requests are, for the keys: "questions".
        """
        with self._changed:
            return {
                f"{what} received": self._received,
                f"{what} refused": self._refused,
                f"{what} waiting": len(self._waiting),
            }

    def listen(self, on_put: Callable[[], None]) -> None:
        """Call `on_put` after each `put`, on the thread that calls `put`."""
        self._on_put = on_put

    def put(self, request: AnyRequest) -> None:
        """Add a request; this returns at once.

        Raises:
            RequestError: too many requests wait, or the queue is closed.
        """
        with self._changed:
            if self._closed:
                raise RequestError(self._closed)
            if len(self._waiting) >= self._capacity:
                self._refused += 1
                raise RequestError(self._full)
            self._received += 1
            self._waiting[request.request_id] = request
            self._changed.notify_all()
        self._on_put()

    def take(self, is_ready: Callable[[AnyRequest], bool] = _always) -> AnyRequest | None:
        """Remove and return the oldest request that `is_ready`, or None; the caller answers it."""
        with self._changed:
            return self._take(is_ready)

    def wait_and_take(self) -> AnyRequest | None:
        """Wait for a request, remove it and return it; None once the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting or self._closed))
            return self._take(_always)

    def begin(self, is_ready: Callable[[AnyRequest], bool] = _always) -> AnyRequest | None:
        """Return the oldest waiting request that `is_ready`, or None.

        The queue keeps the request until `finish` or `fail` is called with its id.
        """
        with self._changed:
            request = self._take(is_ready)
            if request is not None:
                self._begun[request.request_id] = request
            return request

    def find(self, request_id: str) -> AnyRequest | None:
        """Return the request with this id if it waits or is begun, else None."""
        with self._changed:
            return self._waiting.get(request_id) or self._begun.get(request_id)

    def finish(self, request_id: str) -> AnyRequest | None:
        """Remove and return the request with this id, if it waits or is begun.

        Only the first call returns the request, so it ends only once. If the caller does nothing
        with it, it is withdrawn.
        """
        with self._changed:
            return self._waiting.pop(request_id, None) or self._begun.pop(request_id, None)

    def fail(self, request_id: str, sentence: str) -> None:
        """Remove the request with this id, if there is one, and call its `on_failure`."""
        request = self.finish(request_id)
        if request is not None:
            request.on_failure(sentence)

    def open(self) -> None:
        """Accept requests from now on."""
        with self._changed:
            self._closed = ""

    def close(self, sentence: str, later: str = "") -> None:
        """Fail every request that waits or is begun, and refuse all later ones.

        Args:
            sentence: says why they fail.
            later: says why later ones are refused; empty takes `sentence`.
        """
        with self._changed:
            self._closed = later or sentence
            failed = [*self._begun.values(), *self._waiting.values()]
            self._begun.clear()
            self._waiting.clear()
            self._changed.notify_all()
        for request in failed:
            request.on_failure(sentence)

    def _take(self, is_ready: Callable[[AnyRequest], bool]) -> AnyRequest | None:
        for request in self._waiting.values():
            if is_ready(request):
                return self._waiting.pop(request.request_id)
        return None
