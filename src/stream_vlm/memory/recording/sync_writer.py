"""A writer for recordings: stores each step before the next one is processed."""

from __future__ import annotations

import time

from stream_vlm.memory.memory import Memory
from stream_vlm.memory.summaries.by_model import ModelSummarizer
from stream_vlm.types import StepResult

ENDPOINT_S = 600.0
"""How long to wait for an endpoint at the end of a recording, seconds."""


class SyncWriter:
    """Stores each step and does the idle work before the next step is processed.

    Args:
        memory: the open memory.
        summarizer: lets the model rewrite summaries, if the settings say so.
    """

    def __init__(self, memory: Memory, summarizer: ModelSummarizer | None = None) -> None:
        self._memory = memory
        self._summarizer = summarizer

    def begin_session(self, session_id: str, model_id: str, reason: str, started_ns: int) -> None:
        """Store a session as `Memory.begin_session`."""
        self._memory.begin_session(session_id, model_id, reason, started_ns)

    def submit(self, result: StepResult) -> None:
        """Store a step as `Memory.write`, and do the idle work."""
        self._memory.write(result)
        self._do_idle_work()

    def write_summaries(self, until_s: float | None = None) -> None:
        """Let the model write all waiting summaries between two steps.

        A recording waits for them, so that the next step finds the same summaries on any machine.

        Args:
            until_s: stop at this time on the clock of `time.perf_counter`; None for no limit.
        """
        if self._summarizer is None:
            return
        while self._summarizer.has_work and (until_s is None or time.perf_counter() < until_s):
            if self._summarizer.advance():
                self._do_idle_work()

    def end_session(self) -> None:
        """End the session as `Memory.end_session`, and let the model write its summaries."""
        self._memory.end_session(ENDPOINT_S, for_endpoint=True)
        while self._summarizer is not None and self._summarizer.has_work:
            self.write_summaries()
            self._memory.end_session(ENDPOINT_S)

    def _do_idle_work(self) -> None:
        while self._memory.run_maintenance():
            pass
