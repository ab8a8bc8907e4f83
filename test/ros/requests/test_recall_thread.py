"""The thread that asks the memory, without middleware."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from stream_vlm.config.settings import Settings
from stream_vlm.memory.answers.prompt_recall import PromptRecall, PromptRecaller
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.memory.storage.errors import MemoryFileError
from stream_vlm_ros.requests.recall_thread import RecallRequest, RecallThread
from stream_vlm_ros.requests.request_queue import RequestError

TIMEOUT_S = 30.0


class BlockedRecaller(PromptRecaller):
    """A recaller that waits until `unblocked` is set. Some texts make it fail."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.unblocked = threading.Event()
        self.entered = threading.Event()

    def recall(self, question: str | RecallQuery, camera: str = "") -> PromptRecall:
        self.entered.set()
        assert self.unblocked.wait(TIMEOUT_S)
        text = question if isinstance(question, str) else question.text
        self.asked.append(f"{text} {camera}".strip())
        if text == "unexpected error":
            raise ArithmeticError("division by zero")
        if text == "memory error":
            raise MemoryFileError("memory.db: the disk failed")
        return PromptRecall(was_asked=True)


T = TypeVar("T")


class Caller:
    """Asks one question, and keeps its result."""

    def __init__(self) -> None:
        self.found: list[PromptRecall] = []
        self.failed: list[str] = []
        self.has_result = threading.Event()

    def ask(self, recalls: RecallThread, text: str, camera: str = "") -> Caller:
        def append_to(results: list[T]) -> Callable[[T], None]:
            def append(result: T) -> None:
                results.append(result)
                self.has_result.set()

            return append

        recalls.requests.put(
            RecallRequest(
                text=text,
                camera=camera,
                on_found=append_to(self.found),
                on_failure=append_to(self.failed),
            )
        )
        return self

    def wait(self) -> None:
        assert self.has_result.wait(TIMEOUT_S)


@pytest.fixture
def blocked() -> BlockedRecaller:
    return BlockedRecaller()


@pytest.fixture
def recalls(blocked: BlockedRecaller) -> Iterator[RecallThread]:
    made = RecallThread(blocked, capacity=4)
    made.start()
    yield made
    blocked.unblocked.set()
    made.stop("the test is over")


def test_asking_does_not_wait_and_questions_are_served_in_order(
    recalls: RecallThread, blocked: BlockedRecaller
) -> None:
    callers = [
        Caller().ask(recalls, text, camera)
        for text, camera in (("one", ""), ("two", "front"), ("three", ""))
    ]
    assert not any(caller.has_result.is_set() for caller in callers)
    blocked.unblocked.set()
    for caller in callers:
        caller.wait()
    assert blocked.asked == ["one", "two front", "three"]
    assert [caller.found for caller in callers] == 3 * [[PromptRecall(was_asked=True)]]


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ("unexpected error", "the memory failed: division by zero"),
        ("memory error", "memory.db: the disk failed"),
    ],
)
def test_a_question_that_fails_gets_the_reason_and_the_next_one_is_served(
    recalls: RecallThread, blocked: BlockedRecaller, question: str, says: str
) -> None:
    blocked.unblocked.set()
    failing, next_caller = Caller().ask(recalls, question), Caller().ask(recalls, "next")
    next_caller.wait()
    assert (failing.failed, failing.found) == ([says], [])
    assert next_caller.found == [PromptRecall(was_asked=True)]


def test_a_question_is_refused_if_too_many_wait(
    recalls: RecallThread, blocked: BlockedRecaller
) -> None:
    Caller().ask(recalls, "being served")
    assert blocked.entered.wait(TIMEOUT_S)
    for number in range(4):
        Caller().ask(recalls, f"waiting {number}")
    with pytest.raises(RequestError, match="4 questions already wait for the memory"):
        Caller().ask(recalls, "one more")


def test_stop_finishes_the_present_question_and_refuses_the_others(
    recalls: RecallThread, blocked: BlockedRecaller
) -> None:
    begun = Caller().ask(recalls, "begun")
    assert blocked.entered.wait(TIMEOUT_S)
    waiting = Caller().ask(recalls, "waiting")
    closing = threading.Thread(target=recalls.stop, args=("the node stops",))
    closing.start()
    waiting.wait()
    blocked.unblocked.set()
    closing.join(TIMEOUT_S)
    assert not closing.is_alive()
    assert (begun.found, waiting.failed) == ([PromptRecall(was_asked=True)], ["the node stops"])
    with pytest.raises(RequestError, match="the node stops"):
        Caller().ask(recalls, "later")


def test_a_question_is_answered_from_the_memory(tmp_path: object) -> None:
    settings = Settings()
    settings = settings.model_copy(
        update={"memory": settings.memory.model_copy(update={"path": f"{tmp_path}/memory.db"})}
    )
    with Memory.open(settings.memory) as memory:
        recalls = RecallThread(PromptRecaller(memory, settings))
        recalls.start()
        caller = Caller().ask(recalls, "how often was it bright?")
        caller.wait()
        recalls.stop("the test is over")
    (found,) = caller.found
    assert found.answer is not None
    assert (
        found.answer.text == "not known: no record matches 'bright', and nothing was watched then"
    )
