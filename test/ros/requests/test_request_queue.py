"""The queue of requests, without middleware."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest

from stream_vlm_ros.requests.request_queue import Request, RequestError, RequestQueue

TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True, eq=False)
class FakeRequest(Request):
    """A request that keeps its results."""

    name: str
    results: list[str] = field(default_factory=list)


def request(name: str) -> FakeRequest:
    results: list[str] = []
    return FakeRequest(name=name, results=results, on_failure=results.append)


def queue_of(*requests: FakeRequest, capacity: int = 10) -> RequestQueue[FakeRequest]:
    queue: RequestQueue[FakeRequest] = RequestQueue(capacity, "too many requests; ask again later")
    for each in requests:
        queue.put(each)
    return queue


def test_requests_are_served_in_the_order_in_which_they_came() -> None:
    queue = queue_of(*map(request, "abc"))
    served = [queue.take() for _ in range(4)]
    assert [each.name if each else None for each in served] == ["a", "b", "c", None]


def test_a_request_that_is_not_ready_does_not_block_others() -> None:
    queue = queue_of(*map(request, "abc"))
    taken = queue.take(lambda each: each.name != "a")
    assert taken is not None
    assert taken.name == "b"
    assert len(queue) == 2


def test_a_request_is_refused_if_too_many_wait() -> None:
    queue = queue_of(request("a"), request("b"), capacity=2)
    with pytest.raises(RequestError, match="too many requests; ask again later"):
        queue.put(request("c"))
    assert queue.counts("requests") == {
        "requests received": 2,
        "requests refused": 1,
        "requests waiting": 2,
    }
    queue.take()
    queue.put(request("d"))
    assert queue.counts("requests") == {
        "requests received": 3,
        "requests refused": 1,
        "requests waiting": 2,
    }


def test_a_begun_request_does_not_count_as_waiting() -> None:
    queue = queue_of(request("a"), capacity=1)
    queue.begin()
    queue.put(request("b"))
    assert len(queue) == 1


def test_a_begun_request_is_found_until_it_is_finished() -> None:
    waiting, begun = request("waiting"), request("begun")
    queue = queue_of(begun, waiting)
    assert queue.begin() is begun
    assert queue.find(begun.request_id) is begun
    assert queue.find(waiting.request_id) is waiting
    assert queue.finish(begun.request_id) is begun
    assert queue.finish(begun.request_id) is None
    assert queue.find(begun.request_id) is None


def test_a_waiting_request_that_is_finished_is_not_served() -> None:
    first, second = request("first"), request("second")
    queue = queue_of(first, second)
    queue.finish(first.request_id)
    assert queue.take() is second
    assert first.results == []


def test_a_request_fails_only_once() -> None:
    queue = queue_of(failed := request("failed"))
    queue.begin()
    queue.fail(failed.request_id, "the model failed")
    queue.fail(failed.request_id, "again")
    queue.close("the node stops")
    assert failed.results == ["the model failed"]


def test_close_fails_every_open_request_once() -> None:
    begun, waiting, taken, finished = map(request, ("begun", "waiting", "taken", "finished"))
    queue = queue_of(begun, taken, finished, waiting)
    queue.begin()
    assert queue.take() is taken
    queue.finish(finished.request_id)
    queue.close("the node stops")
    assert (begun.results, waiting.results) == (["the node stops"], ["the node stops"])
    assert (taken.results, finished.results) == ([], [])
    assert (len(queue), queue.take(), queue.begin()) == (0, None, None)
    with pytest.raises(RequestError, match="the node stops"):
        queue.put(request("late"))


def test_the_listener_is_called_after_each_put() -> None:
    queue, lengths = queue_of(), list[int]()
    queue.listen(lambda: lengths.append(len(queue)))
    queue.put(request("a"))
    queue.put(request("b"))
    assert lengths == [1, 2]


def test_wait_and_take_returns_each_request_and_none_after_close() -> None:
    queue, served = queue_of(), list[FakeRequest | None]()
    arrived = threading.Semaphore(0)

    def serve() -> None:
        while not served or served[-1] is not None:
            served.append(queue.wait_and_take())
            arrived.release()

    server = threading.Thread(target=serve)
    server.start()
    first, second = request("first"), request("second")
    for each in (first, second):
        queue.put(each)
        assert arrived.acquire(timeout=TIMEOUT_S)
    queue.close("the node stops")
    server.join(TIMEOUT_S)
    assert served == [first, second, None]


def test_a_request_is_answered_or_fails_but_not_both() -> None:
    """One thread answers while another one closes the queue."""
    for _ in range(200):
        queue = queue_of(asked := request("asked"))
        queue.begin()
        closing = threading.Thread(target=queue.close, args=("the node stops",))
        closing.start()
        if queue.finish(asked.request_id) is not None:
            asked.results.append("the answer")
        closing.join(TIMEOUT_S)
        assert len(asked.results) == 1
