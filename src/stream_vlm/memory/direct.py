"""The memory's writer for recorded material, which can wait for the disk."""

from __future__ import annotations

from stream_vlm.memory.store import Memory
from stream_vlm.stream import StepResult

ENDPOINT_S = 600.0
"""At the end of recorded material an endpoint is waited for at most this long, seconds."""


class DirectWriter:
    """Stores each step, and does what idle time is for, before the next one is looked at."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def begin_session(self, session_id: str, model_id: str, reason: str, started_ns: int) -> None:
        """As `Memory.begin_session`."""
        self._memory.begin_session(session_id, model_id, reason, started_ns)

    def submit(self, result: StepResult) -> None:
        """As `Memory.write`."""
        self._memory.write(result)
        while self._memory.tend():
            pass

    def end_session(self) -> None:
        """As `Memory.end_session`; an endpoint that writes summaries is waited for."""
        self._memory.end_session(ENDPOINT_S, for_endpoint=True)
