"""The memory's writer for recorded material, which can wait for the disk."""

from __future__ import annotations

import time

from stream_vlm.memory.memory import Memory
from stream_vlm.memory.summaries.by_model import ModelSummarizer
from stream_vlm.types import StepResult

ENDPOINT_S = 600.0
"""At the end of recorded material an endpoint is waited for at most this long, seconds."""


class SyncWriter:
    """Stores each step, and does what idle time is for, before the next one is looked at.

    Args:
        summarizer: has the model put summaries better, where it is to.
    """

    def __init__(self, memory: Memory, summarizer: ModelSummarizer | None = None) -> None:
        self._memory = memory
        self._summarizer = summarizer

    def begin_session(self, session_id: str, model_id: str, reason: str, started_ns: int) -> None:
        """As `Memory.begin_session`."""
        self._memory.begin_session(session_id, model_id, reason, started_ns)

    def submit(self, result: StepResult) -> None:
        """As `Memory.write`."""
        self._memory.write(result)
        self._tend()

    def write_summaries(self, until_s: float | None = None) -> None:
        """Have the model write what waits, between two steps; at most until `until_s` on the clock
        of `time.perf_counter`, if given.

        Recorded material waits for it, so that the next step finds the same summaries whatever
        machine it runs on.
        """
        if self._summarizer is None:
            return
        while self._summarizer.has_work and (until_s is None or time.perf_counter() < until_s):
            if self._summarizer.advance():
                self._tend()

    def end_session(self) -> None:
        """As `Memory.end_session`; a model that writes summaries is waited for."""
        self._memory.end_session(ENDPOINT_S, for_endpoint=True)
        while self._summarizer is not None and self._summarizer.has_work:
            self.write_summaries()
            self._memory.end_session(ENDPOINT_S)

    def _tend(self) -> None:
        while self._memory.run_maintenance():
            pass
