"""The memory tended by its writer's thread while no step waits: what goes wrong with that is said
once and costs no step.
"""

from __future__ import annotations

import logging

from stream_vlm.memory.memory import Memory
from stream_vlm.memory.storage.errors import MemoryFileError

_log = logging.getLogger(__name__)


class IdleRunner:
    """Calls `Memory.run_maintenance`; `fault` says why summaries and retention wait, or is empty."""

    def __init__(self, memory: Memory) -> None:
        self.fault = ""
        self._memory = memory
        self._gave_up = False

    @property
    def comes_back(self) -> bool:
        """Whether there is a fault that may be over the next time."""
        return bool(self.fault) and not self._gave_up

    def once(self) -> bool:
        """Do one piece of what waits; whether more does."""
        if self._gave_up:
            return False
        try:
            more = self._memory.run_maintenance()
        except MemoryFileError as error:
            # Nothing is lost: what was committed is in the log, and summaries can be made later.
            self._failed(str(error))
            return False
        except Exception as error:
            # A fault of ours must not end the thread, nor be met again at every step.
            self._gave_up = True
            self._failed(
                f"{self._memory.path}: no more is summarised or dropped until the next start:"
                f" {error}"
            )
            _log.exception("%s: the work for idle moments failed", self._memory.path)
            return False
        self.fault = ""
        return more

    def end_session(self) -> None:
        """Summarise what is left of the session."""
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
            _log.warning("%s; summaries and what is to be dropped wait", fault)
        self.fault = fault
