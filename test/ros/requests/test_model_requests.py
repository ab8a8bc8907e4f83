"""Requests to the model: refused, accepted, begun, answered and ended."""

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
    """Makes requests, and keeps what its callbacks receive."""

    def __init__(self, requests: ModelRequests) -> None:
        self._requests = requests
        self.received: list[object] = []

    def ask(self, camera: str = "") -> str:
        question = Question(
            text="what is there?",
            stamp_ns=7,
            camera=camera,
            on_text=self.received.append,
            on_answer=self.received.append,
            on_failure=self.received.append,
        )
        self._requests.questions.put(question)
        return question.request_id

    def watch(self, camera: str = "") -> str:
        callbacks = WatchCallbacks(self.received.append, self.received.append)
        return self._requests.watches.put("someone enters", camera, 7, callbacks)

    def query_picture(self) -> None:
        self._requests.pictures.put(
            PictureQuery(
                file=b"",
                on_vector=lambda *_: self.received.append("vector"),
                on_failure=self.received.append,
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


def utterance(query_id: str) -> Utterance:
    return Utterance("front", "optical", 9, "a cup", 0.9, query_id=query_id)


@pytest.mark.parametrize("was_active", [False, True])
def test_requests_are_refused_while_the_node_is_not_active(was_active: bool) -> None:
    requests = ModelRequests(["front"], INACTIVE)
    if was_active:
        requests.open()
        requests.close()
    caller = Caller(requests)
    for put in (caller.ask, caller.watch, caller.query_picture):
        with pytest.raises(RequestError, match=INACTIVE):
            put()
    with pytest.raises(RequestError, match="like_record needs no model"):
        caller.query_picture()
    requests.open()
    for put in (caller.ask, caller.watch, caller.query_picture):
        put()
    assert caller.received == []


def test_deactivation_ends_every_request_and_says_what_to_do(
    requests: ModelRequests, caller: Caller
) -> None:
    for put in (caller.ask, caller.query_picture, caller.watch):
        put()
    requests.begin(["front"])
    requests.close()
    assert [str(message).partition("; ")[2] for message in caller.received] == [
        "activate it and ask again",
        "activate it, or ask with like_record",
        "activate it and watch again",
    ]


def test_a_request_begins_once_when_its_camera_has_a_frame(
    requests: ModelRequests, caller: Caller
) -> None:
    ids = {caller.ask("rear"), caller.watch("rear")}
    assert requests.begin(["front"]) == ((), ())
    queries, _ = requests.begin(["front", "rear"])
    assert {query.query_id for query in queries} == ids
    assert requests.begin(["front", "rear"]) == ((), ())


def test_an_ended_watch_is_returned_once(requests: ModelRequests, caller: Caller) -> None:
    watch = caller.watch()
    requests.begin(["front"])
    requests.watches.withdraw(watch)
    assert requests.begin(["front"]) == ((), (watch,))
    assert requests.begin(["front"]) == ((), ())


def test_a_question_gets_its_partial_texts_and_one_answer(
    requests: ModelRequests, caller: Caller
) -> None:
    question = caller.ask()
    requests.begin(["front"])
    requests.report_partial(question, "a")
    requests.report_partial("q-another", "b")
    for _ in range(2):
        requests.answer(result(utterances=(utterance(question), utterance(""))))
    assert caller.received == ["a", utterance(question)]


def test_a_watch_gets_all_its_reports(requests: ModelRequests, caller: Caller) -> None:
    watch = caller.watch()
    requests.begin(["front"])
    for _ in range(2):
        requests.answer(result(utterances=(utterance(watch), utterance(""))))
    assert caller.received == 2 * [utterance(watch)]


@pytest.mark.parametrize(
    ("faults", "says"),
    [
        ({}, "the model gave an empty answer; ask in other words"),
        ({"front": "front: too dark"}, "front: too dark"),
        ({"rear": "rear: too dark"}, "the model gave an empty answer; ask in other words"),
    ],
)
def test_a_question_without_an_answer_fails_with_the_reason(
    requests: ModelRequests, caller: Caller, faults: dict[str, str], says: str
) -> None:
    caller.ask()
    queries, _ = requests.begin(["front"])
    assert requests.end_unanswered(result(queries, faults=faults), frozenset()) == frozenset()
    assert caller.received == [says]


def test_an_answered_question_does_not_fail(requests: ModelRequests, caller: Caller) -> None:
    question = caller.ask()
    queries, _ = requests.begin(["front"])
    requests.end_unanswered(result(queries, (utterance(question),)), frozenset())
    assert caller.received == []


@pytest.mark.parametrize("steps_before", [0, 3])
def test_a_watch_ends_when_the_model_refuses_it(
    requests: ModelRequests, caller: Caller, steps_before: int
) -> None:
    watch = caller.watch()
    queries, _ = requests.begin(["front"])
    for _ in range(steps_before):
        requests.end_unanswered(result(queries), frozenset({watch}))
        queries, _ = requests.begin(["front"])
    reported = requests.end_unanswered(
        result(queries, faults={"rear": "rear: cannot watch"}), frozenset()
    )
    assert (caller.received, reported) == (["rear: cannot watch"], {"rear"})
