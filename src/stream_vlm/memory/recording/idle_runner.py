"""Run the memory's idle work on the writer's thread, and keep its faults from the steps."""

from __future__ import annotations

import logging

from stream_vlm.memory.memory import Memory
from stream_vlm.memory.storage.errors import MemoryFileError

_log = logging.getLogger(__name__)


class IdleRunner:
    """Calls `Memory.run_maintenance`; a fault is logged once and costs no step.

    Attributes:
        fault: why summaries and retention wait, or empty.
    """

    def __init__(self, memory: Memory) -> None:
        self.fault = ""
        self._memory = memory
        self._gave_up = False

    @property
    def can_recover(self) -> bool:
        """Whether there is a fault that may be over the next time."""
        return bool(self.fault) and not self._gave_up

    def run_once(self) -> bool:
        """Do one piece of work; return whether there is more."""
        if self._gave_up:
            return False
        try:
            more = self._memory.run_maintenance()
        except MemoryFileError as error:
            # Nothing is lost: what was committed is in the WAL, and summaries can be made later.
            self._failed(str(error))
            return False
        except Exception as error:
            # A bug must not end the thread, nor be raised again after every step.
            self._gave_up = True
            self._failed(
                f"{self._memory.path}: summaries and retention stop until the next start: {error}"
            )
            _log.exception("%s: the idle work failed", self._memory.path)
            return False
        self.fault = ""
        return more

    def end_session(self) -> None:
        """Summarise the rest of the session."""
        if self._gave_up:
            return
        try:
            self._memory.end_session()
        except Exception as error:
            _log.warning(
                "%s: the end of the session is not summarised now, but at the next start: %s",
                self._memory.path,
                error,
            )

    def _failed(self, fault: str) -> None:
        if not self.fault:
            _log.warning("%s; summaries and retention wait", fault)
        self.fault = fault
