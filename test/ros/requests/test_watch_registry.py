"""The registry of watches, without middleware."""

from __future__ import annotations

import pytest

from stream_vlm.types import Utterance
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
