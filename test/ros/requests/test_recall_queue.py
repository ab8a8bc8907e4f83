"""Questions between whoever asks and the memory, without middleware."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from stream_vlm.config.settings import Settings
from stream_vlm.memory.answers.prompt_recall import PromptRecall, PromptRecaller
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.storage.errors import MemoryFileError
from stream_vlm_ros.requests import recall_queue as module
from stream_vlm_ros.requests.question_queue import QuestionError
from stream_vlm_ros.requests.recall_queue import Lookup, Lookups

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


class Listener:
    def __init__(self) -> None:
        self.found: list[PromptRecall] = []
        self.failed: list[str] = []
        self.heard = threading.Event()

    def ask(self, lookups: Lookups, text: str, camera: str = "") -> Listener:
        def hear(into: list) -> Callable[[object], None]:
            def take(what: object) -> None:
                into.append(what)
                self.heard.set()

            return take

        lookups.put(Lookup(text, camera, hear(self.found), hear(self.failed)))
        return self

    def wait(self) -> None:
        assert self.heard.wait(PATIENCE_S)


@pytest.fixture
def shut() -> Shut:
    return Shut()


@pytest.fixture
def lookups(shut: Shut) -> Iterator[Lookups]:
    made = Lookups(shut)
    made.start()
    yield made
    shut.opened.set()
    made.close("the test is over")


def test_whoever_asks_does_not_wait_and_hears_in_the_order_of_the_questions(
    lookups: Lookups, shut: Shut
) -> None:
    listeners = [
        Listener().ask(lookups, text, camera)
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
    lookups: Lookups, shut: Shut, question: str, says: str
) -> None:
    shut.opened.set()
    stumbled, following = Listener().ask(lookups, question), Listener().ask(lookups, "next")
    following.wait()
    assert (stumbled.failed, stumbled.found) == ([says], [])
    assert following.found == [PromptRecall(was_asked=True)]


def test_questions_do_not_pile_up_without_end(
    lookups: Lookups, shut: Shut, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    Listener().ask(lookups, "looked up")
    assert shut.reached.wait(PATIENCE_S)
    for text in ("first that waits", "second that waits"):
        Listener().ask(lookups, text)
    with pytest.raises(QuestionError, match="2 questions wait for the memory already"):
        Listener().ask(lookups, "one more")


def test_everybody_hears_when_nothing_is_looked_up_any_more(lookups: Lookups, shut: Shut) -> None:
    begun = Listener().ask(lookups, "begun")
    assert shut.reached.wait(PATIENCE_S)
    waiting = Listener().ask(lookups, "waiting")
    closing = threading.Thread(target=lookups.close, args=("the node stops",))
    closing.start()
    waiting.wait()
    shut.opened.set()
    closing.join(PATIENCE_S)
    assert not closing.is_alive()
    assert (begun.found, waiting.failed) == ([PromptRecall(was_asked=True)], ["the node stops"])
    with pytest.raises(QuestionError, match="the node stops"):
        Listener().ask(lookups, "later")


def test_what_is_found_is_what_the_memory_has(tmp_path: object) -> None:
    settings = Settings()
    settings = settings.model_copy(
        update={"memory": settings.memory.model_copy(update={"path": f"{tmp_path}/memory.db"})}
    )
    with Memory.open(settings.memory) as memory:
        lookups = Lookups(PromptRecaller(memory, settings))
        lookups.start()
        listener = Listener().ask(lookups, "how often was it bright?")
        listener.wait()
        lookups.close("the test is over")
    (found,) = listener.found
    assert found.answer is not None
    assert found.answer.text == "never: no record matches 'bright'"
