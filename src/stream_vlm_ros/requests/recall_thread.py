"""The thread that asks the memory about questions and watches, so callbacks never wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from stream_vlm.memory.answers.prompt_recall import PromptRecall, PromptRecaller
from stream_vlm.memory.search.query import RecallError, RecallQuery
from stream_vlm.memory.search.query_time import with_time_at
from stream_vlm.types import StreamError
from stream_vlm_ros.common.process_end import STEP_S, ProcessEnd
from stream_vlm_ros.requests.request_queue import Request, RequestQueue

MAX_WAITING = 100
"""How many requests may wait for the memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RecallRequest(Request):
    """A request for the records that match a question or a watch.

    Attributes:
        text: the question, or what to watch for.
        camera: the camera that it is about; empty means all.
        asked_ns: when it was asked, ns on the node's clock; None for a watch, whose words name no
            time in the past.
        on_found: called with the records, maybe none, on the recall thread.
    """

    text: str
    camera: str
    on_found: Callable[[PromptRecall], None]
    asked_ns: int | None = None


class RecallThread:
    """Serves `requests` one at a time, in the order in which they came."""

    def __init__(
        self,
        recaller: PromptRecaller,
        capacity: int = MAX_WAITING,
        end: ProcessEnd | None = None,
    ) -> None:
        """Make the thread; `start` starts it.

        Args:
            recaller: searches the memory.
            capacity: how many requests may wait.
            end: says when the process ends; a search that takes too long then is left.
        """
        self.requests: RequestQueue[RecallRequest] = RequestQueue(
            capacity,
            f"{capacity} questions already wait for the memory; ask again when it has answered"
            " some",
        )
        self._recaller = recaller
        self._end = end or ProcessEnd()
        self._thread = threading.Thread(target=self._run, name="stream_vlm recall", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, sentence: str) -> None:
        """Finish the present request, refuse all others with `sentence`, and end the thread."""
        self.requests.close(sentence)
        self._end.join("a search in the memory", self._thread, STEP_S)

    def _run(self) -> None:
        while (request := self.requests.wait_and_take()) is not None:
            try:
                found = self._recaller.recall(_question_of(request), request.camera)
            except Exception as error:  # no request may end the thread
                request.on_failure(
                    str(error) if isinstance(error, StreamError) else f"the memory failed: {error}"
                )
            else:
                request.on_found(found)


def _question_of(request: RecallRequest) -> str | RecallQuery:
    """Return the question, with the time that its words name ("yesterday at 3 pm") as a filter."""
    if request.asked_ns is None:
        return request.text
    try:
        return with_time_at(RecallQuery(request.text), request.asked_ns)
    except RecallError:
        return request.text  # the recaller says why nothing can be searched for
