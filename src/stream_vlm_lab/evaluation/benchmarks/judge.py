"""A language model as judge, behind any endpoint with the OpenAI chat protocol."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from stream_vlm.text_models.chat_client import ChatClient, ChatFailed, ChatUnavailable
from stream_vlm.types import StreamError

URL, MODEL, KEY = "STREAM_VLM_JUDGE_URL", "STREAM_VLM_JUDGE_MODEL", "STREAM_VLM_JUDGE_KEY"
PARALLEL_REQUESTS = 8
"""Number of requests that are sent at the same time."""
MAX_CHARACTERS = 8000
"""Longest text that is sent to the judge; the rest is cut off."""

OURS, THEIRS, FAILED = "ours", "theirs", "failed"

COMMENTARY = (
    "You compare two commentaries, A and B, on the same stretch of video. You have not seen the"
    " video; a reference commentary says what happens in it. Prefer the one that agrees with the"
    " reference and says what matters while it happens; prefer fewer words where both are equally"
    " right. Reply with exactly one letter: A or B."
)
CONTENT = (
    "You check an answer to a question about a video against the right answer. It is right when it"
    " says the same thing, in whatever words, and nothing that contradicts it. Reply with exactly"
    " one word: yes or no."
)

Item = TypeVar("Item")
Verdict = TypeVar("Verdict")


class JudgeError(StreamError):
    """There is no usable judge; the message says what is missing and the remedy."""


@dataclass(frozen=True)
class Votes:
    """The judge's preference with our text first and with our text second.

    Each is "ours", "theirs" or "failed".
    """

    ours_first: str
    ours_second: str

    @property
    def won(self) -> int:
        """Votes for ours, 0 to 2; a failed judgement is no vote."""
        return (self.ours_first == OURS) + (self.ours_second == OURS)


class Judge:
    """Asks an endpoint for judgements; use it as a context manager.

    A judgement can fail: no connection, an error status, or a reply that is none of the allowed
    words. It is then recorded in `failures` and counts against the answers that are being scored,
    so that a broken judge can never raise a score.

    Args:
        base_url: as for `ChatClient`.
        model: as for `ChatClient`.
        key: as for `ChatClient`.
        timeout_s: as for `ChatClient`.

    Raises:
        JudgeError: httpx is not installed.
    """

    def __init__(self, base_url: str, model: str, key: str = "", timeout_s: float = 60.0) -> None:
        self.model = model
        self.failures: list[str] = []
        try:
            self._client = ChatClient(base_url, model, key, timeout_s)
        except ChatUnavailable as error:
            raise JudgeError(f"no judge: {error}") from error

    def __enter__(self) -> Judge:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def compare(self, reference: str, ours: str, theirs: str) -> Votes:
        """Ask which of two commentaries is better, in both orders."""
        return Votes(
            self._prefer(reference, ours, theirs, OURS, THEIRS),
            self._prefer(reference, theirs, ours, THEIRS, OURS),
        )

    def is_right(self, question: str, answer: str, said: str) -> bool:
        """Ask whether `said` means the same as the correct `answer`; a failed judgement is a no."""
        text = (
            f"Question: {question[:MAX_CHARACTERS]}\n\n"
            f"Right answer: {answer[:MAX_CHARACTERS]}\n\n"
            f"Answer to check: {said[:MAX_CHARACTERS]}"
        )
        return self._ask(CONTENT, text, ("yes", "no")) == "yes"

    def _prefer(self, reference: str, first: str, second: str, if_a: str, if_b: str) -> str:
        text = (
            f"Reference:\n{reference[:MAX_CHARACTERS]}\n\n"
            f"Commentary A:\n{first[:MAX_CHARACTERS]}\n\n"
            f"Commentary B:\n{second[:MAX_CHARACTERS]}"
        )
        return {"a": if_a, "b": if_b}.get(self._ask(COMMENTARY, text, ("a", "b")), FAILED)

    def _ask(self, task: str, text: str, allowed: tuple[str, ...]) -> str:
        """Return the allowed word that the judge replied with, or "" if it failed."""
        try:
            reply = self._client.ask(task, text)
        except ChatFailed as error:
            self.failures.append(str(error))
            return ""
        word = re.sub(r"[^a-z]", "", reply.lower())
        if word not in allowed:
            self.failures.append(f"the reply {reply[:40]!r} is not one of {', '.join(allowed)}")
            return ""
        return word


def judge_from_environment(environment: Mapping[str, str] = os.environ) -> Judge | None:
    """The judge of STREAM_VLM_JUDGE_URL, _MODEL and _KEY; None if neither URL nor MODEL is set.

    Raises:
        JudgeError: only one of URL and MODEL is set, or httpx is not installed.
    """
    url, model = environment.get(URL, ""), environment.get(MODEL, "")
    if not url and not model:
        return None
    if not url or not model:
        raise JudgeError(
            f"{URL} and {MODEL} must both be set: the address of the judge, for example"
            " http://localhost:8000/v1, and the name of its model"
        )
    return Judge(url, model, environment.get(KEY, ""))


def judge_all(items: Sequence[Item], verdict: Callable[[Item], Verdict]) -> list[Verdict]:
    """Call `verdict` for every item, several at the same time, and return the results in order."""
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
        return list(pool.map(verdict, items))
