"""Requests between callbacks and the thread that serves them, without middleware."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest

from stream_vlm_ros.requests.request_queue import Request, RequestError, RequestQueue

PATIENCE_S = 30.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Errand(Request):
    """A request that notes what it hears."""

    name: str
    heard: list[str] = field(default_factory=list)


def errand(name: str) -> Errand:
    heard: list[str] = []
    return Errand(name=name, heard=heard, on_failure=heard.append)


def queue_of(*errands: Errand, capacity: int = 10) -> RequestQueue[Errand]:
    queue: RequestQueue[Errand] = RequestQueue(capacity, "too many errands; come back later")
    for each in errands:
        queue.put(each)
    return queue


def test_requests_are_served_in_the_order_in_which_they_came() -> None:
    queue = queue_of(*map(errand, "abc"))
    served = [queue.take() for _ in range(4)]
    assert [each.name if each else None for each in served] == ["a", "b", "c", None]


def test_a_request_that_is_not_ready_holds_nobody_up() -> None:
    queue = queue_of(*map(errand, "abc"))
    taken = queue.take(lambda each: each.name != "a")
    assert taken is not None
    assert taken.name == "b"
    assert len(queue) == 2


def test_one_request_too_many_is_refused_and_the_others_still_wait() -> None:
    queue = queue_of(errand("a"), errand("b"), capacity=2)
    with pytest.raises(RequestError, match="too many errands; come back later"):
        queue.put(errand("c"))
    assert queue.counts("errands") == {
        "errands received": 2,
        "errands refused": 1,
        "errands waiting": 2,
    }
    queue.take()
    queue.put(errand("d"))
    assert queue.counts("errands") == {
        "errands received": 3,
        "errands refused": 1,
        "errands waiting": 2,
    }


def test_a_request_that_is_being_served_does_not_count_as_waiting() -> None:
    queue = queue_of(errand("a"), capacity=1)
    queue.begin()
    queue.put(errand("b"))
    assert len(queue) == 1


def test_a_begun_request_is_found_until_the_first_who_finishes_it() -> None:
    waiting, begun = errand("waiting"), errand("begun")
    queue = queue_of(begun, waiting)
    assert queue.begin() is begun
    assert queue.find(begun.request_id) is begun
    assert queue.find(waiting.request_id) is waiting
    assert queue.finish(begun.request_id) is begun
    assert queue.finish(begun.request_id) is None
    assert queue.find(begun.request_id) is None


def test_a_request_that_is_finished_before_its_turn_is_not_served() -> None:
    first, second = errand("first"), errand("second")
    queue = queue_of(first, second)
    queue.finish(first.request_id)
    assert queue.take() is second
    assert first.heard == []


def test_a_failed_request_hears_why_once() -> None:
    queue = queue_of(failed := errand("failed"))
    queue.begin()
    queue.fail(failed.request_id, "the model failed")
    queue.fail(failed.request_id, "again")
    queue.close("the node stops")
    assert failed.heard == ["the model failed"]


def test_everybody_hears_once_why_a_queue_is_closed() -> None:
    begun, waiting, taken, finished = map(errand, ("begun", "waiting", "taken", "finished"))
    queue = queue_of(begun, taken, finished, waiting)
    queue.begin()
    assert queue.take() is taken
    queue.finish(finished.request_id)
    queue.close("the node stops")
    assert (begun.heard, waiting.heard) == (["the node stops"], ["the node stops"])
    assert (taken.heard, finished.heard) == ([], [])
    assert (len(queue), queue.take(), queue.begin()) == (0, None, None)
    with pytest.raises(RequestError, match="the node stops"):
        queue.put(errand("late"))


def test_whoever_listens_hears_of_each_request() -> None:
    queue, heard = queue_of(), list[int]()
    queue.listen(lambda: heard.append(len(queue)))
    queue.put(errand("a"))
    queue.put(errand("b"))
    assert heard == [1, 2]


def test_a_server_that_waits_gets_the_next_request_and_nothing_once_it_is_closed() -> None:
    queue, served = queue_of(), list[Errand | None]()
    arrived = threading.Semaphore(0)

    def serve() -> None:
        while not served or served[-1] is not None:
            served.append(queue.wait_and_take())
            arrived.release()

    server = threading.Thread(target=serve)
    server.start()
    first, second = errand("first"), errand("second")
    for each in (first, second):
        queue.put(each)
        assert arrived.acquire(timeout=PATIENCE_S)
    queue.close("the node stops")
    server.join(PATIENCE_S)
    assert served == [first, second, None]


def test_a_request_is_answered_or_failed_but_never_both() -> None:
    """The server answers while another thread closes the queue."""
    for _ in range(200):
        queue = queue_of(asked := errand("asked"))
        queue.begin()
        closing = threading.Thread(target=queue.close, args=("the node stops",))
        closing.start()
        if queue.finish(asked.request_id) is not None:
            asked.heard.append("the answer")
        closing.join(PATIENCE_S)
        assert len(asked.heard) == 1
