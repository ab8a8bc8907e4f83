"""Requests to the model while the node is configured, active and configured again."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from stream_vlm.types import Frame, Query, StepResult, Tick, Utterance
from stream_vlm_ros.requests.model_requests import ModelRequests
from stream_vlm_ros.requests.picture_query import PictureQuery
from stream_vlm_ros.requests.question import Question
from stream_vlm_ros.requests.request_queue import RequestError
from stream_vlm_ros.requests.watch_registry import WatchCallbacks

INACTIVE = "the node is not active; activate it"


class Caller:
    """Asks, and notes what it hears."""

    def __init__(self, requests: ModelRequests) -> None:
        self._requests = requests
        self.heard: list[object] = []

    def ask(self, camera: str = "") -> str:
        question = Question(
            text="what is there?",
            stamp_ns=7,
            camera=camera,
            on_text=self.heard.append,
            on_answer=self.heard.append,
            on_failure=self.heard.append,
        )
        self._requests.questions.put(question)
        return question.request_id

    def watch(self, camera: str = "") -> str:
        callbacks = WatchCallbacks(self.heard.append, self.heard.append)
        return self._requests.watches.put("someone enters", camera, 7, callbacks)

    def show(self) -> None:
        self._requests.pictures.put(
            PictureQuery(
                file=b"", on_vector=lambda *_: self.heard.append("v"), on_failure=self.heard.append
            )
        )


@pytest.fixture
def requests() -> ModelRequests:
    made = ModelRequests(["front", "rear"], INACTIVE)
    made.open()
    return made


@pytest.fixture
def caller(requests: ModelRequests) -> Caller:
    return Caller(requests)


def result(
    queries: tuple[Query, ...] = (),
    utterances: tuple[Utterance, ...] = (),
    faults: Mapping[str, str] | None = None,
) -> StepResult:
    frames: tuple[Frame, ...] = ()
    return StepResult("session", Tick(0, 9, frames, queries), {}, utterances, faults=faults or {})


def said(query_id: str) -> Utterance:
    return Utterance("front", "optical", 9, "a cup", 0.9, query_id=query_id)


@pytest.mark.parametrize("was_active", [False, True])
def test_requests_are_refused_while_the_node_is_not_active(was_active: bool) -> None:
    requests = ModelRequests(["front"], INACTIVE)
    if was_active:
        requests.open()
        requests.close()
    caller = Caller(requests)
    for put in (caller.ask, caller.watch, caller.show):
        with pytest.raises(RequestError, match=INACTIVE):
            put()
    with pytest.raises(RequestError, match="like_record needs no model"):
        caller.show()
    requests.open()
    for put in (caller.ask, caller.watch, caller.show):
        put()
    assert caller.heard == []


def test_deactivation_ends_every_request_and_says_what_to_do(
    requests: ModelRequests, caller: Caller
) -> None:
    for put in (caller.ask, caller.show, caller.watch):
        put()
    requests.begin(["front"])
    requests.close()
    assert [str(heard).partition("; ")[2] for heard in caller.heard] == [
        "activate it and ask again",
        "activate it, or ask with like_record",
        "activate it and watch again",
    ]


def test_a_request_begins_at_the_first_step_with_a_frame_of_its_camera_and_only_once(
    requests: ModelRequests, caller: Caller
) -> None:
    ids = {caller.ask("rear"), caller.watch("rear")}
    assert requests.begin(["front"]) == ((), ())
    queries, _ = requests.begin(["front", "rear"])
    assert {query.query_id for query in queries} == ids
    assert requests.begin(["front", "rear"]) == ((), ())


def test_a_watch_that_ended_is_named_once(requests: ModelRequests, caller: Caller) -> None:
    watch = caller.watch()
    requests.begin(["front"])
    requests.watches.withdraw(watch)
    assert requests.begin(["front"]) == ((), (watch,))
    assert requests.begin(["front"]) == ((), ())


def test_a_question_hears_its_words_and_then_its_answer_once(
    requests: ModelRequests, caller: Caller
) -> None:
    question = caller.ask()
    requests.begin(["front"])
    requests.tell_partial(question, "a")
    requests.tell_partial("q-another", "b")
    for _ in range(2):
        requests.answer(result(utterances=(said(question), said(""))))
    assert caller.heard == ["a", said(question)]


def test_a_watch_hears_each_of_its_reports(requests: ModelRequests, caller: Caller) -> None:
    watch = caller.watch()
    requests.begin(["front"])
    for _ in range(2):
        requests.answer(result(utterances=(said(watch), said(""))))
    assert caller.heard == 2 * [said(watch)]


@pytest.mark.parametrize(
    ("faults", "says"),
    [
        ({}, "the model found no words; ask otherwise"),
        ({"front": "front: too dark"}, "front: too dark"),
        ({"rear": "rear: too dark"}, "the model found no words; ask otherwise"),
    ],
)
def test_a_question_without_an_answer_hears_why(
    requests: ModelRequests, caller: Caller, faults: dict[str, str], says: str
) -> None:
    caller.ask()
    queries, _ = requests.begin(["front"])
    assert requests.end_unanswered(result(queries, faults=faults), frozenset()) == frozenset()
    assert caller.heard == [says]


def test_an_answered_question_does_not_fail(requests: ModelRequests, caller: Caller) -> None:
    question = caller.ask()
    queries, _ = requests.begin(["front"])
    requests.end_unanswered(result(queries, (said(question),)), frozenset())
    assert caller.heard == []


@pytest.mark.parametrize("steps_before", [0, 3])
def test_a_watch_that_the_model_refuses_ends_whenever_it_refuses(
    requests: ModelRequests, caller: Caller, steps_before: int
) -> None:
    watch = caller.watch()
    queries, _ = requests.begin(["front"])
    for _ in range(steps_before):
        requests.end_unanswered(result(queries), frozenset({watch}))
        queries, _ = requests.begin(["front"])
    told = requests.end_unanswered(
        result(queries, faults={"rear": "rear: cannot watch"}), frozenset()
    )
    assert (caller.heard, told) == (["rear: cannot watch"], {"rear"})
