"""Questions on their way to the memory: what bears on each is looked up by one thread, so that no
callback ever waits for the disk.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from stream_vlm.memory.answers.prompt_recall import PromptRecall, PromptRecaller
from stream_vlm.types import StreamError
from stream_vlm_ros.requests.question_queue import QuestionError

MOST_WAITING = 100
"""Questions that may wait to be looked up."""


@dataclass(frozen=True)
class Lookup:
    """A question, the camera it is about (empty: any) and who waits for what bears on it.

    Called from the lookups' thread: return at once.

    Attributes:
        on_found: what was found, which may be nothing.
        on_failure: one sentence that says why nothing was looked up.
    """

    text: str
    camera: str
    on_found: Callable[[PromptRecall], None]
    on_failure: Callable[[str], None]


class Lookups:
    """Holds questions until they are looked up, one after the other, in the order in which they
    came.
    """

    def __init__(self, recaller: PromptRecaller) -> None:
        self._recaller = recaller
        self._changed = threading.Condition()
        self._waiting: deque[Lookup] = deque()
        self._closed = ""
        self._thread = threading.Thread(target=self._run, name="stream_vlm lookups")

    def start(self) -> None:
        self._thread.start()

    def put(self, lookup: Lookup) -> None:
        """Take in a question; returns at once.

        Raises:
            QuestionError: too many wait already, or nothing is looked up any more.
        """
        with self._changed:
            if self._closed:
                raise QuestionError(self._closed)
            if len(self._waiting) >= MOST_WAITING:
                raise QuestionError(
                    f"{MOST_WAITING} questions wait for the memory already; ask again when it has"
                    " answered some"
                )
            self._waiting.append(lookup)
            self._changed.notify_all()

    def close(self, sentence: str) -> None:
        """Finish the one that is being looked up, end the thread, and tell everybody else, and who
        comes later, why nothing is looked up.
        """
        with self._changed:
            self._closed = sentence
            waiting = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for lookup in waiting:
            lookup.on_failure(sentence)
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting or self._closed))
                if self._closed:
                    return
                lookup = self._waiting.popleft()
            try:
                found = self._recaller.recall(lookup.text, lookup.camera)
            except Exception as error:  # whatever a question stumbles over: its asker must hear of it, and the next one be looked up
                lookup.on_failure(
                    str(error) if isinstance(error, StreamError) else f"the memory failed: {error}"
                )
                continue
            lookup.on_found(found)
