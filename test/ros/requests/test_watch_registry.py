"""Watches between their goals and the model, without middleware."""

from __future__ import annotations

import pytest

from stream_vlm.types import Utterance
from stream_vlm_ros.requests.question import LONGEST_QUESTION
from stream_vlm_ros.requests.request_queue import RequestError
from stream_vlm_ros.requests.watch_registry import WatchCallbacks, WatchRegistry


class Listener:
    def __init__(self) -> None:
        self.heard: list[object] = []
        self.callbacks = WatchCallbacks(self.heard.append, self.heard.append)


def report(query_id: str) -> Utterance:
    return Utterance("front", "optical", 5, "someone enters", 0.9, query_id=query_id)


def test_a_watch_begins_with_the_first_picture_of_its_camera_and_only_once() -> None:
    watches = WatchRegistry(["front", "rear"])
    query_id = watches.put(" someone enters ", "rear", 7, Listener().callbacks)
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


def test_a_watch_of_every_camera_begins_with_any_picture() -> None:
    watches = WatchRegistry(["front", "rear"])
    watches.put("someone enters", "", 7, Listener().callbacks)
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
def test_a_new_watch_ends_those_it_shares_a_camera_with(
    first: str, second: str, replaced: bool
) -> None:
    watches, listener = WatchRegistry(["front", "rear"]), Listener()
    query_id = watches.put("one", first, 1, listener.callbacks)
    watches.put("two", second, 2, Listener().callbacks)
    assert listener.heard == (["another watch took its camera: 'two'"] if replaced else [])
    assert watches.take_ended() == ((query_id,) if replaced else ())
    assert watches.take_ended() == ()
    assert [query.text for query in watches.begin(["front", "rear"])] == (
        ["two"] if replaced else ["one", "two"]
    )


def test_reports_reach_their_own_watcher_while_the_watch_lasts() -> None:
    watches, front, rear = WatchRegistry(["front", "rear"]), Listener(), Listener()
    ids = (
        watches.put("one", "front", 1, front.callbacks),
        watches.put("two", "rear", 1, rear.callbacks),
    )
    watches.report(report(ids[0]))
    watches.report(report(""))
    watches.withdraw(ids[1])
    watches.report(report(ids[1]))
    assert (front.heard, rear.heard) == ([report(ids[0])], [])
    assert watches.take_ended() == (ids[1],)


def test_a_watch_that_the_model_refuses_ends_with_the_fault_and_one_that_still_waits_does_not() -> (
    None
):
    watches, refused, waiting = WatchRegistry(["front", "rear"]), Listener(), Listener()
    watches.put("one", "front", 1, refused.callbacks)
    watches.put("two", "rear", 1, waiting.callbacks)
    watches.begin(["front"])
    assert watches.end_refused(frozenset(), {"front": "front: cannot watch"}) == {"front"}
    assert (refused.heard, waiting.heard) == (["front: cannot watch"], [])


def test_a_refused_watch_is_told_the_faults_of_its_own_cameras_and_no_other() -> None:
    watches, of_front, of_all = WatchRegistry(["front", "rear"]), Listener(), Listener()
    faults = {"front": "front: cannot watch", "rear": "rear: too dark"}
    watches.put("one", "front", 1, of_front.callbacks)
    watches.begin(["front", "rear"])
    assert watches.end_refused(frozenset(), faults) == {"front"}
    watches.put("two", "", 1, of_all.callbacks)
    watches.begin(["front", "rear"])
    assert watches.end_refused(frozenset(), faults) == {"front", "rear"}
    assert watches.end_refused(frozenset(), faults) == frozenset(), (
        "whoever is not waited for is told nothing"
    )
    assert (of_front.heard, of_all.heard) == (
        ["front: cannot watch"],
        ["front: cannot watch; rear: too dark"],
    )


def test_everybody_hears_when_nothing_is_watched_any_more() -> None:
    watches, listener = WatchRegistry(["front"]), Listener()
    watches.put("one", "front", 1, listener.callbacks)
    watches.close("the node stops")
    assert listener.heard == ["the node stops"]
    assert watches.begin(["front"]) == ()


@pytest.mark.parametrize(
    ("text", "camera", "says"),
    [
        (" ", "", "the watch is empty"),
        ("x" * (LONGEST_QUESTION + 1), "", "has 2001 characters"),
        ("x", "back", "does not exist"),
    ],
)
def test_a_watch_that_cannot_be_meant_is_refused_and_replaces_nothing(
    text: str, camera: str, says: str
) -> None:
    watches, listener = WatchRegistry(["front"]), Listener()
    watches.put("one", "front", 1, listener.callbacks)
    with pytest.raises(RequestError, match=says):
        watches.put(text, camera, 2, Listener().callbacks)
    assert listener.heard == []
