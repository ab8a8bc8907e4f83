"""The registry of watches, without middleware."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from stream_vlm.types import Utterance
from stream_vlm_ros.requests.model_requests import ModelRequests
from stream_vlm_ros.requests.question import MAX_CHARACTERS
from stream_vlm_ros.requests.request_queue import RequestError
from stream_vlm_ros.requests.watch_registry import WatchCallbacks, WatchRegistry


class Caller:
    """The caller of a watch; `received` has its reports, and the reason why the watch ended."""

    def __init__(self) -> None:
        self.received: list[object] = []
        self.callbacks = WatchCallbacks(self.received.append, self.received.append)


def report(query_id: str) -> Utterance:
    return Utterance("front", "optical", 5, "someone enters", 0.9, query_id=query_id)


def test_a_watch_begins_once_when_its_camera_has_a_frame() -> None:
    watches = WatchRegistry(["front", "rear"])
    query_id = watches.put(" someone enters ", "rear", 7, Caller().callbacks)
    assert watches.begin(["front"]) == ()
    (query,) = watches.begin(["front", "rear"])
    assert (query.query_id, query.text, query.camera, query.stamp_ns, query.is_watch) == (
        query_id,
        "someone enters",
        "rear",
        7,
        True,
    )
    assert watches.begin(["rear"]) == ()


def test_a_watch_of_every_camera_begins_when_any_camera_has_a_frame() -> None:
    watches = WatchRegistry(["front", "rear"])
    watches.put("someone enters", "", 7, Caller().callbacks)
    assert watches.begin([]) == ()
    assert [query.camera for query in watches.begin(["rear"])] == [""]


@pytest.mark.parametrize(
    ("first", "second", "replaced"),
    [
        ("front", "front", True),
        ("front", "rear", False),
        ("", "front", True),
        ("front", "", True),
        ("", "", True),
    ],
)
def test_a_new_watch_ends_the_watches_that_share_a_camera_with_it(
    first: str, second: str, replaced: bool
) -> None:
    watches, caller = WatchRegistry(["front", "rear"]), Caller()
    query_id = watches.put("one", first, 1, caller.callbacks)
    watches.put("two", second, 2, Caller().callbacks)
    assert caller.received == (["another watch replaced it: 'two'"] if replaced else [])
    assert watches.take_ended() == ((query_id,) if replaced else ())
    assert watches.take_ended() == ()
    assert [query.text for query in watches.begin(["front", "rear"])] == (
        ["two"] if replaced else ["one", "two"]
    )


def test_a_report_goes_to_the_caller_of_its_watch_until_the_watch_ends() -> None:
    watches, front, rear = WatchRegistry(["front", "rear"]), Caller(), Caller()
    ids = (
        watches.put("one", "front", 1, front.callbacks),
        watches.put("two", "rear", 1, rear.callbacks),
    )
    watches.report(report(ids[0]))
    watches.report(report(""))
    watches.withdraw(ids[1])
    watches.report(report(ids[1]))
    assert (front.received, rear.received) == ([report(ids[0])], [])
    assert watches.take_ended() == (ids[1],)


def test_a_watch_that_the_model_refuses_ends_and_one_that_waits_does_not() -> None:
    watches, refused, waiting = WatchRegistry(["front", "rear"]), Caller(), Caller()
    watches.put("one", "front", 1, refused.callbacks)
    watches.put("two", "rear", 1, waiting.callbacks)
    watches.begin(["front"])
    assert watches.end_refused(frozenset(), {"front": "front: cannot watch"}) == {"front"}
    assert (refused.received, waiting.received) == (["front: cannot watch"], [])


def test_the_caller_of_a_refused_watch_gets_the_faults_of_its_cameras_only() -> None:
    watches, of_front, of_all = WatchRegistry(["front", "rear"]), Caller(), Caller()
    faults = {"front": "front: cannot watch", "rear": "rear: too dark"}
    watches.put("one", "front", 1, of_front.callbacks)
    watches.begin(["front", "rear"])
    assert watches.end_refused(frozenset(), faults) == {"front"}
    watches.put("two", "", 1, of_all.callbacks)
    watches.begin(["front", "rear"])
    assert watches.end_refused(frozenset(), faults) == {"front", "rear"}
    assert watches.end_refused(frozenset(), faults) == frozenset(), "no watch is left"
    assert (of_front.received, of_all.received) == (
        ["front: cannot watch"],
        ["front: cannot watch; rear: too dark"],
    )


def test_close_ends_every_watch_with_the_reason() -> None:
    watches, caller = WatchRegistry(["front"]), Caller()
    watches.put("one", "front", 1, caller.callbacks)
    watches.close("the node stops")
    assert caller.received == ["the node stops"]
    assert watches.begin(["front"]) == ()


@pytest.mark.parametrize(
    ("text", "camera", "says"),
    [
        (" ", "", "the watch is empty"),
        ("x" * (MAX_CHARACTERS + 1), "", "has 2001 characters"),
        ("x", "back", "does not exist"),
    ],
)
def test_a_bad_watch_is_refused_and_replaces_no_other(text: str, camera: str, says: str) -> None:
    watches, caller = WatchRegistry(["front"]), Caller()
    watches.put("one", "front", 1, caller.callbacks)
    with pytest.raises(RequestError, match=says):
        watches.put(text, camera, 2, Caller().callbacks)
    assert caller.received == []


def test_a_watch_that_comes_while_another_one_replaces_a_third_replaces_it_too() -> None:
    watches, second = WatchRegistry(["front"]), Caller()

    def put_the_third(_: str) -> None:
        watches.put("three", "front", 3, Caller().callbacks)

    watches.put("one", "front", 1, WatchCallbacks(lambda _: None, put_the_third))
    watches.put("two", "front", 2, second.callbacks)
    assert second.received == ["another watch replaced it: 'three'"]
    assert [query.text for query in watches.begin(["front"])] == ["three"]


def put_together(watches: WatchRegistry, cameras: list[str], callers: list[Caller]) -> None:
    """Put one watch for each camera, all from threads that begin at the same time."""
    together = threading.Barrier(len(cameras))

    def put(number: int) -> None:
        together.wait()
        watches.put(f"watch {number}", cameras[number], 1, callers[number].callbacks)

    with ThreadPoolExecutor(len(cameras)) as threads:
        list(threads.map(put, range(len(cameras))))


@pytest.mark.parametrize("cameras", [["front"] * 8, ["front", ""] * 4])
def test_of_watches_that_come_at_the_same_time_one_is_kept_and_each_other_ends_once(
    cameras: list[str],
) -> None:
    for _ in range(50):
        watches, callers = WatchRegistry(["front"]), [Caller() for _ in cameras]
        put_together(watches, cameras, callers)
        kept, ended = watches.take_changes(["front"])
        assert len(kept) == 1
        assert len(ended) == len(cameras) - 1
        assert sorted(len(caller.received) for caller in callers) == [0] + [1] * len(ended)


def test_watches_of_different_cameras_that_come_at_the_same_time_are_all_kept() -> None:
    cameras = [f"camera{number}" for number in range(8)]
    watches, together = WatchRegistry(cameras), threading.Barrier(len(cameras))

    def put(camera: str) -> None:
        together.wait()
        watches.put("bright", camera, 1, Caller().callbacks)

    with ThreadPoolExecutor(len(cameras)) as threads:
        list(threads.map(put, cameras))
    kept, ended = watches.take_changes(cameras)
    assert sorted(query.camera for query in kept) == cameras
    assert ended == ()


@pytest.mark.parametrize("camera", ["front", ""])
def test_a_watch_that_was_requested_before_a_running_one_does_not_end_it(camera: str) -> None:
    watches, running = WatchRegistry(["front"]), Caller()
    earlier, later = watches.number(), watches.number()
    watches.put("two", "front", 2, running.callbacks, number=later)
    with pytest.raises(RequestError, match="another watch replaced it: 'two'"):
        watches.put("one", camera, 1, Caller().callbacks, number=earlier)
    assert running.received == []
    assert [query.text for query in watches.begin(["front"])] == ["two"]


def test_a_watch_that_comes_while_a_step_begins_the_others_is_begun_by_the_next_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests = ModelRequests(["front"], "not active")
    requests.open()
    count = WatchRegistry.__len__

    def count_and_then_put(watches: WatchRegistry) -> int:
        number = count(watches)
        # As another thread would: after the watches were counted.
        watches.put("bright", "front", 1, Caller().callbacks)
        return number

    monkeypatch.setattr(WatchRegistry, "__len__", count_and_then_put)
    assert requests.begin(["front"]) == ((), ())
    assert requests.changed
