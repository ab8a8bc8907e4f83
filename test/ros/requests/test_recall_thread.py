"""Questions between whoever asks and the memory, without middleware."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from stream_vlm.config.settings import Settings
from stream_vlm.memory.answers.prompt_recall import PromptRecall, PromptRecaller
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.storage.errors import MemoryFileError
from stream_vlm_ros.requests.recall_thread import RecallRequest, RecallThread
from stream_vlm_ros.requests.request_queue import RequestError

PATIENCE_S = 30.0


class Shut(PromptRecaller):
    """Looks nothing up before it is opened; what it is asked decides what it finds."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.opened = threading.Event()
        self.reached = threading.Event()

    def recall(self, text: str, camera: str = "") -> PromptRecall:
        self.reached.set()
        assert self.opened.wait(PATIENCE_S)
        self.asked.append(f"{text} {camera}".strip())
        if text == "strange":
            raise ArithmeticError("a fault of ours")
        if text == "refused":
            raise MemoryFileError("memory.db: the disk failed")
        return PromptRecall(was_asked=True)


T = TypeVar("T")


class Listener:
    def __init__(self) -> None:
        self.found: list[PromptRecall] = []
        self.failed: list[str] = []
        self.heard = threading.Event()

    def ask(self, recalls: RecallThread, text: str, camera: str = "") -> Listener:
        def hear(into: list[T]) -> Callable[[T], None]:
            def take(what: T) -> None:
                into.append(what)
                self.heard.set()

            return take

        recalls.requests.put(
            RecallRequest(
                text=text,
                camera=camera,
                on_found=hear(self.found),
                on_failure=hear(self.failed),
            )
        )
        return self

    def wait(self) -> None:
        assert self.heard.wait(PATIENCE_S)


@pytest.fixture
def shut() -> Shut:
    return Shut()


@pytest.fixture
def recalls(shut: Shut) -> Iterator[RecallThread]:
    made = RecallThread(shut, capacity=4)
    made.start()
    yield made
    shut.opened.set()
    made.stop("the test is over")


def test_whoever_asks_does_not_wait_and_hears_in_the_order_of_the_questions(
    recalls: RecallThread, shut: Shut
) -> None:
    listeners = [
        Listener().ask(recalls, text, camera)
        for text, camera in (("one", ""), ("two", "front"), ("three", ""))
    ]
    assert not any(listener.heard.is_set() for listener in listeners)
    shut.opened.set()
    for listener in listeners:
        listener.wait()
    assert shut.asked == ["one", "two front", "three"]
    assert [listener.found for listener in listeners] == 3 * [[PromptRecall(was_asked=True)]]


@pytest.mark.parametrize(
    ("question", "says"),
    [("strange", "the memory failed: a fault of ours"), ("refused", "memory.db: the disk failed")],
)
def test_a_question_that_the_memory_stumbles_over_is_told_and_the_next_is_looked_up(
    recalls: RecallThread, shut: Shut, question: str, says: str
) -> None:
    shut.opened.set()
    stumbled, following = Listener().ask(recalls, question), Listener().ask(recalls, "next")
    following.wait()
    assert (stumbled.failed, stumbled.found) == ([says], [])
    assert following.found == [PromptRecall(was_asked=True)]


def test_questions_do_not_pile_up_without_end(recalls: RecallThread, shut: Shut) -> None:
    Listener().ask(recalls, "being served")
    assert shut.reached.wait(PATIENCE_S)
    for number in range(4):
        Listener().ask(recalls, f"number {number} that waits")
    with pytest.raises(RequestError, match="4 questions wait for the memory already"):
        Listener().ask(recalls, "one more")


def test_everybody_hears_when_nothing_is_looked_up_any_more(
    recalls: RecallThread, shut: Shut
) -> None:
    begun = Listener().ask(recalls, "begun")
    assert shut.reached.wait(PATIENCE_S)
    waiting = Listener().ask(recalls, "waiting")
    closing = threading.Thread(target=recalls.stop, args=("the node stops",))
    closing.start()
    waiting.wait()
    shut.opened.set()
    closing.join(PATIENCE_S)
    assert not closing.is_alive()
    assert (begun.found, waiting.failed) == ([PromptRecall(was_asked=True)], ["the node stops"])
    with pytest.raises(RequestError, match="the node stops"):
        Listener().ask(recalls, "later")


def test_what_is_found_is_what_the_memory_has(tmp_path: object) -> None:
    settings = Settings()
    settings = settings.model_copy(
        update={"memory": settings.memory.model_copy(update={"path": f"{tmp_path}/memory.db"})}
    )
    with Memory.open(settings.memory) as memory:
        recalls = RecallThread(PromptRecaller(memory, settings))
        recalls.start()
        listener = Listener().ask(recalls, "how often was it bright?")
        listener.wait()
        recalls.stop("the test is over")
    (found,) = listener.found
    assert found.answer is not None
    assert found.answer.text == "never: no record matches 'bright'"
