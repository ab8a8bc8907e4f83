"""Gives questions that are too hard to a larger model behind a server, and brings its answers back.

The third action of JoyAI-VL-Interaction, the sister of Streaming Harness (arXiv 2606.08615): the
running model goes on to watch while another model thinks about a hard question.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from stream_vlm.config.delegate_settings import DelegateSettings
from stream_vlm.text_models.chat_client import ChatClient, ChatFailed, ChatUnavailable
from stream_vlm.text_models.picture_data import PictureRefused, data_url
from stream_vlm.time_words import line, moment
from stream_vlm.types import Frame, RecalledContext, StepResult, StreamError, Utterance

KEY = "STREAM_VLM_DELEGATE_KEY"
"""Environment variable with the key of the server."""

NAME = "delegate"
"""`types.Utterance.answered_by` of an answer of the delegate."""

MOST_AT_ONCE = 4
"""So many questions are asked at the same time; more are refused."""

CONFIDENCE = 0.5
"""Confidence of a delegate's answer, which nothing measures."""

UNKNOWN = "I do not know."

TASK = (
    "You answer questions about what a robot's camera saw. The pictures are its newest ones, oldest"
    " first. Lines from the robot's memory may follow. Answer in one or two short plain sentences,"
    f" in the language of the question. If pictures and lines do not tell, write only: {UNKNOWN}"
)

_log = logging.getLogger(__name__)


class DelegateError(StreamError):
    """The delegate cannot be used as set; the message names setting, reason and remedy."""


class DelegateBusy(StreamError):
    """The delegate takes no question now; the message says why."""


@dataclass(frozen=True)
class DelegatedQuestion:
    """A question for the delegate; exactly one of the two callbacks is called.

    Attributes:
        query_id: the question's id; the answer has the same.
        text: the question.
        asked_ns: when it was asked, int64 ns on the clock of the frames.
        camera: whose pictures go with it; empty takes the camera with the newest picture.
        recalled: what the memory found for it.
        on_answer: called with the answer on the delegate's thread.
        on_failure: called with one sentence on a thread of the delegate.
    """

    query_id: str
    text: str
    asked_ns: int
    camera: str = ""
    recalled: RecalledContext = field(default_factory=RecalledContext)
    on_answer: Callable[[Utterance], None] = lambda utterance: None
    on_failure: Callable[[str], None] = lambda sentence: None


@dataclass(frozen=True)
class DelegateHealth:
    """What was delegated, for diagnostics.

    Attributes:
        asked: questions that were sent.
        answered: how many of them were answered.
        refused: questions that were not sent because too many were.
        waiting: questions that wait for their answer.
        fault: why the last one was not answered; empty after an answer.
    """

    asked: int = 0
    answered: int = 0
    refused: int = 0
    waiting: int = 0
    fault: str = ""


Store = Callable[[str, Frame, str, str, str], None]
"""Stores an answer: session, frame, words, model, query id."""


@dataclass
class _Running:
    """A question that is being asked; `is_over` after its caller got a result."""

    question: DelegatedQuestion
    is_over: bool = False
    timer: threading.Timer | None = field(default=None)


class Delegate:
    """Asks the server about the newest pictures, each question on a thread of its own.

    `note` belongs to the thread that steps; any thread may call the others. None of them waits for
    the server, nor does `close`.

    Args:
        settings: with the server and its model; `when` may change.
        store: stores answers.
        environment: where the key of the server is read from.

    Raises:
        DelegateError: `delegate.model` is empty, or httpx is not installed.
    """

    def __init__(
        self,
        settings: DelegateSettings,
        store: Store,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._settings, self._store = settings, store
        if not settings.model.strip():
            raise DelegateError(
                "delegate.model: is empty; delegate.url needs it. Set it, or clear delegate.url"
            )
        try:
            self._client = ChatClient(
                settings.url, settings.model, environment.get(KEY, ""), settings.timeout_s
            )
        except ChatUnavailable as error:
            raise DelegateError(f"delegate.url: {error}, or clear it") from error
        self._lock = threading.Lock()
        self._frames: dict[str, deque[Frame]] = {}
        self._session_id = ""
        self._running: list[_Running] = []
        self._threads = 0
        self._counts = {"asked": 0, "answered": 0, "refused": 0}
        self._fault = ""
        self._closed = False

    @property
    def model_id(self) -> str:
        """Name of the delegate's model."""
        return self._settings.model

    def wants(self, *, known: bool) -> bool:
        """Whether a question goes to the delegate whose answer is `known` without it."""
        when = self._settings.when
        return when == "always" or (when == "unsure" and not known)

    @property
    def health(self) -> DelegateHealth:
        """What was delegated so far."""
        with self._lock:
            waiting = sum(not running.is_over for running in self._running)
            return DelegateHealth(**self._counts, waiting=waiting, fault=self._fault)

    def note(self, result: StepResult) -> None:
        """Keep the pictures of a step; returns at once."""
        with self._lock:
            if result.session_id != self._session_id:
                self._session_id, self._frames = result.session_id, {}
            for frame in result.tick.frames:
                kept = self._frames.setdefault(frame.camera, deque(maxlen=self._settings.frames))
                kept.append(frame)

    def put(self, question: DelegatedQuestion) -> None:
        """Send `question` with the newest pictures; returns at once.

        Raises:
            DelegateBusy: too many questions are being asked, there is no picture yet, or the
                delegate was closed.
        """
        with self._lock:
            if self._closed:
                raise DelegateBusy("the delegate was closed")
            camera = question.camera or max(
                self._frames, key=lambda name: self._frames[name][-1].stamp_ns, default=""
            )
            frames = tuple(self._frames.get(camera, ()))
            if not frames:
                raise DelegateBusy(
                    "the question was not given to the delegate, because there is no picture yet"
                )
            if self._threads >= MOST_AT_ONCE:
                self._counts["refused"] += 1
                raise DelegateBusy(
                    f"the question was not given to the delegate, which has {MOST_AT_ONCE}"
                    " questions already"
                )
            self._threads += 1
            self._counts["asked"] += 1
            running = _Running(question)
            self._running.append(running)
            session_id = self._session_id
        # httpx limits the time until the next byte; this limits the whole reply.
        timer = threading.Timer(self._settings.timeout_s, self._expire, [running])
        timer.daemon = True
        running.timer = timer
        timer.start()
        threading.Thread(
            target=self._ask, args=(running, session_id, frames), name="delegate", daemon=True
        ).start()

    def close(self) -> None:
        """End every question with a failure, and refuse later ones; waits for nothing."""
        with self._lock:
            self._closed = True
            left = list(self._running)
        for running in left:
            self._fail(running, "the node was stopped before the delegate answered", is_fault=False)

    def _expire(self, running: _Running) -> None:
        self._fail(
            running,
            f"the delegate gave no answer within {self._settings.timeout_s:g} s"
            " (delegate.timeout_s)",
        )

    def _ask(self, running: _Running, session_id: str, frames: Sequence[Frame]) -> None:
        question = running.question
        started = time.monotonic()
        try:
            reply = self._client.ask_about(
                [data_url(frame.image) for frame in frames], _words(question, frames), TASK
            )
            answer = " ".join(reply.split())
            if not answer:
                raise ChatFailed("the answer is empty")
        except (ChatFailed, PictureRefused) as error:
            if time.monotonic() - started >= self._settings.timeout_s:
                self._expire(running)
            else:
                self._fail(running, f"the delegate gave no answer ({error})")
            return
        finally:
            with self._lock:
                self._threads -= 1
        if answer.strip(".") == UNKNOWN.strip("."):
            self._fail(running, "the delegate does not know either", is_fault=False)
            return
        if self._end(running):
            with self._lock:
                self._counts["answered"] += 1
                self._fault = ""
            newest = frames[-1]
            self._store(session_id, newest, answer, self.model_id, question.query_id)
            question.on_answer(
                Utterance(
                    newest.camera,
                    newest.frame_id,
                    newest.stamp_ns,
                    answer,
                    CONFIDENCE,
                    query_id=question.query_id,
                    answered_by=NAME,
                )
            )

    def _fail(self, running: _Running, sentence: str, *, is_fault: bool = True) -> None:
        if not self._end(running):
            return
        if is_fault:
            with self._lock:
                is_first, self._fault = not self._fault, f"delegate.url: {sentence}"
            if is_first:
                _log.warning("%s", self._fault)
        running.question.on_failure(sentence)

    def _end(self, running: _Running) -> bool:
        """Note that `running` has a result; return whether it is the first one."""
        with self._lock:
            is_first = not running.is_over
            running.is_over = True
            if running in self._running:
                self._running.remove(running)
        if running.timer is not None:
            running.timer.cancel()
        return is_first


def _words(question: DelegatedQuestion, frames: Sequence[Frame]) -> str:
    """The message after the pictures: their times, the lines of the memory, the question."""
    times = ", ".join(moment(frame.stamp_ns) for frame in frames)
    written = [f"The pictures are from {times}."]
    recalled = question.recalled
    lines = sorted(recalled.lines, key=lambda one: (one.end_ns, one.start_ns))
    if recalled.computed or lines:
        written.append("From the memory:")
        written += [recalled.computed] if recalled.computed else []
        written += [line(one, question.asked_ns) for one in lines]
    written.append(f"Question: {question.text}")
    return "\n".join(written)
