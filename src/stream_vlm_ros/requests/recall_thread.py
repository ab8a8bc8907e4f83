"""The thread that asks the memory about questions and watches, so that no callback ever waits for
the disk.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from stream_vlm.memory.answers.prompt_recall import PromptRecall, PromptRecaller
from stream_vlm.types import StreamError
from stream_vlm_ros.requests.request_queue import Request, RequestQueue

MOST_WAITING = 100
"""Questions that may wait for the memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RecallRequest(Request):
    """Somebody waits for what the memory knows about a question or a watch.

    Attributes:
        text: the words.
        camera: the camera they are about; empty means any.
        on_found: called with what was found, which may be nothing, by the recall thread.
    """

    text: str
    camera: str
    on_found: Callable[[PromptRecall], None]


class RecallThread:
    """Serves `requests` one after the other, in the order in which they came."""

    def __init__(self, recaller: PromptRecaller, capacity: int = MOST_WAITING) -> None:
        """Begin without requests; `start` starts the thread.

        Args:
            recaller: asks the memory.
            capacity: how many requests may wait.
        """
        self.requests: RequestQueue[RecallRequest] = RequestQueue(
            capacity,
            f"{capacity} questions wait for the memory already; ask again when it has answered"
            " some",
        )
        self._recaller = recaller
        self._thread = threading.Thread(target=self._run, name="stream_vlm recall")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, sentence: str) -> None:
        """Fail every request that waits with `sentence`, finish the one that is being served, and
        end the thread.
        """
        self.requests.close(sentence)
        self._thread.join()

    def _run(self) -> None:
        while (request := self.requests.wait_and_take()) is not None:
            try:
                found = self._recaller.recall(request.text, request.camera)
            except Exception as error:  # the caller must hear of it, and the next one be served
                request.on_failure(
                    str(error) if isinstance(error, StreamError) else f"the memory failed: {error}"
                )
            else:
                request.on_found(found)
