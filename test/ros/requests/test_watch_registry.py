"""Watches between their goals and the model, without middleware."""

from __future__ import annotations

import pytest

from stream_vlm.types import Utterance
from stream_vlm_ros.requests.question_queue import LONGEST_QUESTION, QuestionError
from stream_vlm_ros.requests.watch_registry import WatchCallbacks, Watches


class Listener:
    def __init__(self) -> None:
        self.heard: list[object] = []
        self.watcher = WatchCallbacks(self.heard.append, self.heard.append)


def report(query_id: str) -> Utterance:
    return Utterance("front", "optical", 5, "someone enters", 0.9, query_id=query_id)


def test_a_watch_begins_with_the_first_picture_of_its_camera_and_only_once() -> None:
    watches = Watches(["front", "rear"])
    query_id = watches.put(" someone enters ", "rear", 7, Listener().watcher)
    assert watches.take(["front"]) == ()
    (query,) = watches.take(["front", "rear"])
    assert (query.query_id, query.text, query.camera, query.stamp_ns, query.is_watch) == (
        query_id,
        "someone enters",
        "rear",
        7,
        True,
    )
    assert watches.take(["rear"]) == ()


def test_a_watch_of_every_camera_begins_with_any_picture() -> None:
    watches = Watches(["front", "rear"])
    watches.put("someone enters", "", 7, Listener().watcher)
    assert watches.take([]) == ()
    assert [query.camera for query in watches.take(["rear"])] == [""]


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
    watches, listener = Watches(["front", "rear"]), Listener()
    query_id = watches.put("one", first, 1, listener.watcher)
    watches.put("two", second, 2, Listener().watcher)
    assert listener.heard == (["another watch took its camera: 'two'"] if replaced else [])
    assert watches.take_over() == ((query_id,) if replaced else ())
    assert watches.take_over() == ()
    assert [query.text for query in watches.take(["front", "rear"])] == (
        ["two"] if replaced else ["one", "two"]
    )


def test_reports_reach_their_own_watcher_while_the_watch_lasts() -> None:
    watches, front, rear = Watches(["front", "rear"]), Listener(), Listener()
    ids = watches.put("one", "front", 1, front.watcher), watches.put("two", "rear", 1, rear.watcher)
    watches.reported(report(ids[0]))
    watches.reported(report(""))
    watches.withdraw(ids[1])
    watches.reported(report(ids[1]))
    assert (front.heard, rear.heard) == ([report(ids[0])], [])
    assert watches.take_over() == (ids[1],)


def test_a_watch_that_the_model_refuses_ends_with_the_fault_and_one_that_still_waits_does_not() -> (
    None
):
    watches, refused, waiting = Watches(["front", "rear"]), Listener(), Listener()
    watches.put("one", "front", 1, refused.watcher)
    watches.put("two", "rear", 1, waiting.watcher)
    watches.take(["front"])
    assert watches.followed(frozenset(), {"front": "front: cannot watch"}) == {"front"}
    assert (refused.heard, waiting.heard) == (["front: cannot watch"], [])


def test_a_refused_watch_is_told_the_faults_of_its_own_cameras_and_no_other() -> None:
    watches, of_front, of_all = Watches(["front", "rear"]), Listener(), Listener()
    faults = {"front": "front: cannot watch", "rear": "rear: too dark"}
    watches.put("one", "front", 1, of_front.watcher)
    watches.take(["front", "rear"])
    assert watches.followed(frozenset(), faults) == {"front"}
    watches.put("two", "", 1, of_all.watcher)
    watches.take(["front", "rear"])
    assert watches.followed(frozenset(), faults) == {"front", "rear"}
    assert watches.followed(frozenset(), faults) == frozenset(), (
        "whoever is not waited for is told nothing"
    )
    assert (of_front.heard, of_all.heard) == (
        ["front: cannot watch"],
        ["front: cannot watch; rear: too dark"],
    )


def test_everybody_hears_when_nothing_is_watched_any_more() -> None:
    watches, listener = Watches(["front"]), Listener()
    watches.put("one", "front", 1, listener.watcher)
    watches.close("the node stops")
    assert listener.heard == ["the node stops"]
    assert watches.take(["front"]) == ()


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
    watches, listener = Watches(["front"]), Listener()
    watches.put("one", "front", 1, listener.watcher)
    with pytest.raises(QuestionError, match=says):
        watches.put(text, camera, 2, Listener().watcher)
    assert listener.heard == []
