"""A writer for recordings: stores each step before the next one is processed."""

from __future__ import annotations

import time

from stream_vlm.memory.captions.by_endpoint import EndpointCaptioner
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.recording.background_texts import BackgroundTexts
from stream_vlm.types import StepResult

ENDPOINT_S = 600.0
"""How long to wait for an endpoint at the end of a recording, seconds."""


class SyncWriter:
    """Stores each step and does the idle work before the next step is processed.

    Args:
        memory: the open memory.
        background: what the model writes between two steps, if the settings say so.
        captioner: has an endpoint write captions, if the settings say so.
    """

    def __init__(
        self,
        memory: Memory,
        background: BackgroundTexts | None = None,
        captioner: EndpointCaptioner | None = None,
    ) -> None:
        self._memory = memory
        self._background = background or BackgroundTexts([])
        self._captioner = captioner

    def begin_session(self, session_id: str, model_id: str, reason: str, started_ns: int) -> None:
        """Store a session as `Memory.begin_session`."""
        self._memory.begin_session(session_id, model_id, reason, started_ns)

    def submit(self, result: StepResult) -> None:
        """Store a step as `Memory.write`, and do the idle work."""
        self._memory.write(result)
        self._do_idle_work()

    def write_texts(self, until_s: float | None = None) -> None:
        """Have all waiting summaries and captions written between two steps.

        A recording waits for them, so that the next step finds the same memory on any machine.

        Args:
            until_s: stop at this time on the clock of `time.perf_counter`, and do not wait for an
                endpoint; None for no limit.
        """
        texts = self._background
        while texts.has_work and (until_s is None or time.perf_counter() < until_s):
            if texts.advance():
                self._do_idle_work()
        if self._captioner is not None and until_s is None:
            self._captioner.wait()
            self._do_idle_work()

    def end_session(self) -> None:
        """End the session as `Memory.end_session`, and have its last texts written."""
        self.write_texts()
        self._memory.end_session(ENDPOINT_S, for_endpoint=True)
        while self._background.has_work:
            self.write_texts()
            self._memory.end_session(ENDPOINT_S)

    def _do_idle_work(self) -> None:
        while self._memory.run_maintenance():
            pass
