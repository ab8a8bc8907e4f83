"""Requests on their way from ROS callbacks to the one thread that serves them."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from stream_vlm.types import StreamError


class RequestError(StreamError):
    """A request that is refused; the message says why and what to do."""


def new_request_id() -> str:
    """A short name that no other request has."""
    return uuid.uuid4().hex[:12]


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """What somebody waits for.

    Callbacks are called by the thread that serves the request, so they must return at once.

    Attributes:
        on_failure: called with one sentence that says why the request is not served.
        request_id: unique.
    """

    on_failure: Callable[[str], None]
    request_id: str = field(default_factory=new_request_id)


AnyRequest = TypeVar("AnyRequest", bound=Request)


def _always(request: Request) -> bool:
    return True


class RequestQueue(Generic[AnyRequest]):
    """Holds requests in the order in which they came, until one thread serves them.

    A callback only puts its request and returns; it never waits for the server. The server either
    takes a request and answers it at once, or begins it and finishes it later; a begun request can
    still be withdrawn, and fails when the queue is closed. Each request ends once: answered, failed
    or withdrawn.
    """

    def __init__(self, capacity: int, full: str, closed: str = "") -> None:
        """Begin with an empty queue.

        Args:
            capacity: how many requests may wait.
            full: why one more is refused, and what to do.
            closed: why every request is refused until `open` is called; empty for an open queue.
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
        """How many of `what` ("questions") were received and refused so far, and how many wait.

        Those that a closed queue refuses do not count.
        """
        with self._changed:
            return {
                f"{what} received": self._received,
                f"{what} refused": self._refused,
                f"{what} waiting": len(self._waiting),
            }

    def listen(self, on_put: Callable[[], None]) -> None:
        """Call `on_put` after each request that is put, on the thread that puts it."""
        self._on_put = on_put

    def put(self, request: AnyRequest) -> None:
        """Accept a request; returns at once.

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
        """Return the oldest waiting request that `is_ready`, or None; it stays known until it is
        finished.
        """
        with self._changed:
            request = self._take(is_ready)
            if request is not None:
                self._begun[request.request_id] = request
            return request

    def find(self, request_id: str) -> AnyRequest | None:
        """The request of that id, if it waits or is begun."""
        with self._changed:
            return self._waiting.get(request_id) or self._begun.get(request_id)

    def finish(self, request_id: str) -> AnyRequest | None:
        """Remove the request of that id, waiting or begun.

        Only the first caller gets the request, so that it ends once. A caller that does nothing
        with it has withdrawn it.
        """
        with self._changed:
            return self._waiting.pop(request_id, None) or self._begun.pop(request_id, None)

    def fail(self, request_id: str, sentence: str) -> None:
        """Remove the request of that id, if it is there, and tell its caller why it failed."""
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
            sentence: why they fail.
            later: why later ones are refused; empty for the same sentence.
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
