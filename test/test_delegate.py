"""The delegate: a hard question goes to a server with pictures, and nobody waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from judge_server import JudgeServer, serve_judge
from memory_fixtures import picture, seconds, step

from stream_vlm.config.delegate_settings import DelegateSettings
from stream_vlm.delegate import (
    KEY,
    MOST_AT_ONCE,
    Delegate,
    DelegateBusy,
    DelegatedQuestion,
    DelegateError,
)
from stream_vlm.types import Frame, RecalledContext, RecalledLine, Utterance

LONG_S = 30.0


class Caller:
    """Asks questions and hears of each result."""

    def __init__(self, server: JudgeServer, **changes: float | str) -> None:
        self.stored: list[tuple[str, int, str, str, str]] = []
        self.answers: list[Utterance] = []
        self.failures: list[str] = []
        self._heard = threading.Condition()
        chosen = {"url": server.url, "model": "large", "timeout_s": 20.0, **changes}
        self.delegate = Delegate(
            DelegateSettings.model_validate(chosen), self._store, {KEY: "secret"}
        )

    def ask(self, text: str = "what is that?", **more: Any) -> None:
        self.delegate.put(
            DelegatedQuestion(
                f"q-{text}",
                text,
                seconds(10),
                on_answer=self._hear(self.answers),
                on_failure=self._hear(self.failures),
                **more,
            )
        )

    def wait(self, number: int = 1) -> None:
        """Wait until `number` questions have a result."""
        with self._heard:
            assert self._heard.wait_for(
                lambda: len(self.answers) + len(self.failures) >= number, LONG_S
            )

    def _hear(self, results: list[Any]) -> Callable[[Any], None]:
        def hear(result: Any) -> None:
            with self._heard:
                results.append(result)
                self._heard.notify_all()

        return hear

    def _store(self, session: str, frame: Frame, text: str, model: str, query_id: str) -> None:
        self.stored.append((session, frame.stamp_ns, text, model, query_id))


@contextmanager
def caller(
    reply: Callable[[Any], str | int | bytes], **changes: float | str
) -> Iterator[tuple[Caller, JudgeServer]]:
    with serve_judge(reply) as server:
        made = Caller(server, **changes)
        for at in range(6):
            made.delegate.note(step(at, image=picture(40 * at)))
        yield made, server


@pytest.fixture
def stuck() -> Iterator[Callable[[Any], str]]:
    """A server that never answers while a test runs."""
    may_end = threading.Event()

    def reply(content: Any) -> str:
        may_end.wait(LONG_S)
        return "too late"

    yield reply
    may_end.set()


def test_the_server_gets_the_newest_pictures_and_the_lines_of_the_memory() -> None:
    recalled = RecalledContext("once", (RecalledLine(seconds(5), seconds(5), "a ball rolls in"),))
    with caller(lambda content: "A red ball.", frames=3) as (asking, server):
        asking.ask("what rolled in?", recalled=recalled)
        asking.wait()
    (request,) = server.requests
    assert request["model"] == "large"
    assert server.headers[0]["Authorization"] == "Bearer secret"
    *pictures, said = request["messages"][-1]["content"]
    assert [one["type"] for one in pictures] == ["image_url"] * 3
    lines = said["text"].splitlines()
    assert lines[0].startswith("The pictures are from ")
    assert lines[1:3] == ["From the memory:", "once"]
    assert lines[3].endswith("(5 s ago) a ball rolls in")
    assert lines[4] == "Question: what rolled in?"


def test_the_answer_has_the_query_id_the_newest_frame_and_who_gave_it() -> None:
    with caller(lambda content: "A red\n ball.") as (asking, _):
        asking.ask()
        asking.wait()
    (answer,) = asking.answers
    assert (answer.text, answer.query_id, answer.answered_by) == (
        "A red ball.",
        "q-what is that?",
        "delegate",
    )
    assert (answer.camera, answer.frame_id, answer.stamp_ns) == (
        "front",
        "front_optical",
        seconds(5),
    )
    assert asking.stored == [("monday", seconds(5), "A red ball.", "large", "q-what is that?")]
    health = asking.delegate.health
    assert (health.asked, health.answered, health.waiting, health.fault) == (1, 1, 0, "")


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (500, "500 Internal Server Error"),
        (b"<html><body>Bad Gateway</body></html>", "the delegate gave no answer"),
        (b"{}", "the delegate gave no answer"),
        (" \n", "the answer is empty"),
    ],
    ids=["error", "html", "another protocol", "empty"],
)
def test_a_failing_server_is_one_failure_each_and_one_line_in_the_log(
    reply: str | int | bytes, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caller(lambda content: reply) as (asking, _):
        for number in (1, 2):
            asking.ask(str(number))
            asking.wait(number)
    assert asking.answers == asking.stored == []
    assert all(says in failure for failure in asking.failures)
    assert says in asking.delegate.health.fault
    assert len(caplog.records) == 1


def test_a_server_that_never_answers_ends_with_the_timeout(
    stuck: Callable[[Any], str],
) -> None:
    with caller(stuck, timeout_s=1.0) as (asking, _):
        asking.ask()
        asking.wait()
        assert asking.failures == ["the delegate gave no answer within 1 s (delegate.timeout_s)"]
        assert "within 1 s" in asking.delegate.health.fault


def test_a_delegate_that_does_not_know_is_no_fault() -> None:
    with caller(lambda content: "I do not know.") as (asking, _):
        asking.ask()
        asking.wait()
    assert asking.failures == ["the delegate does not know either"]
    assert asking.stored == []
    assert asking.delegate.health.fault == ""


def test_too_many_questions_at_once_are_refused(stuck: Callable[[Any], str]) -> None:
    with caller(stuck) as (asking, _):
        for number in range(MOST_AT_ONCE):
            asking.ask(str(number))
        with pytest.raises(DelegateBusy, match=f"has {MOST_AT_ONCE} questions already"):
            asking.ask("one more")
        health = asking.delegate.health
        assert (health.asked, health.refused, health.waiting) == (MOST_AT_ONCE, 1, MOST_AT_ONCE)


def test_closing_ends_every_question_and_waits_for_no_server(
    stuck: Callable[[Any], str],
) -> None:
    with caller(stuck) as (asking, server):
        asking.ask()
        while not server.requests:
            time.sleep(0.01)
        asking.delegate.close()
        # It returned while the server still thinks.
        assert asking.failures == ["the node was stopped before the delegate answered"]
        with pytest.raises(DelegateBusy, match="closed"):
            asking.ask("again")


def test_a_question_goes_with_pictures_of_its_camera_or_of_the_newest() -> None:
    with caller(lambda content: "A wall.") as (asking, _):
        asking.delegate.note(step(7, camera="side"))
        asking.ask("one")
        asking.ask("two", camera="front")
        asking.wait(2)
        assert {(one.query_id, one.camera) for one in asking.answers} == {
            ("q-one", "side"),
            ("q-two", "front"),
        }
        with pytest.raises(DelegateBusy, match="there is no picture yet"):
            asking.ask("three", camera="rear")


def test_a_new_session_forgets_the_pictures_before() -> None:
    with caller(lambda content: "A wall.") as (asking, server):
        asking.delegate.note(step(1, session="tuesday"))
        asking.ask()
        asking.wait()
        assert asking.stored[0][:2] == ("tuesday", seconds(1))
        *pictures, _ = server.requests[0]["messages"][-1]["content"]
        assert len(pictures) == 1


@pytest.mark.parametrize(
    ("when", "wanted"),
    [("off", (False, False)), ("unsure", (False, True)), ("always", (True, True))],
)
def test_the_setting_says_which_questions_are_delegated(
    when: str, wanted: tuple[bool, bool]
) -> None:
    with caller(lambda content: "", when=when) as (asking, _):
        assert (asking.delegate.wants(known=True), asking.delegate.wants(known=False)) == wanted


def test_a_delegate_without_a_model_is_refused() -> None:
    with pytest.raises(DelegateError, match=r"delegate\.model: is empty"):
        Delegate(DelegateSettings(url="http://localhost:1/v1"), lambda *answer: None)


def test_a_picture_that_cannot_be_encoded_is_a_failure() -> None:
    with caller(lambda content: "A wall.") as (asking, _):
        asking.delegate.note(step(8, image=np.zeros((0, 4, 3), np.uint8)))
        asking.ask()
        asking.wait()
        assert "cannot be encoded" in asking.failures[0]
