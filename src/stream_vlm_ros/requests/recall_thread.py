"""The thread that asks the memory about questions and watches, so callbacks never wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from stream_vlm.memory.answers.prompt_recall import PromptRecall, PromptRecaller
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
        on_found: called with the records, maybe none, on the recall thread.
    """

    text: str
    camera: str
    on_found: Callable[[PromptRecall], None]


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
                found = self._recaller.recall(request.text, request.camera)
            except Exception as error:  # no request may end the thread
                request.on_failure(
                    str(error) if isinstance(error, StreamError) else f"the memory failed: {error}"
                )
            else:
                request.on_found(found)
