"""From the model's state probabilities to what the robot does: speak, stand by or stay silent."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stream_vlm.config import DecisionSettings
from stream_vlm.stream import NANOSECONDS, Decision, State


@dataclass
class SpeechGate:
    """Lets a response through only when it is sure enough and not too soon after the last one.

    An answer to a question is never held back. A response that is held back becomes the more likely of the other two states, so that an
    event under way stays under way.
    """

    settings: DecisionSettings
    _spoke_at: int | None = None

    def admit(self, decision: Decision, stamp_ns: int, *, asked: bool) -> Decision:
        """Return `decision`, or a quieter one; `asked` says that the frame at `stamp_ns` (ns) carries a question to be answered now."""
        if asked:
            if decision.state is State.RESPONSE:
                return decision
            return replace(decision, state=State.RESPONSE, confidence=decision.probabilities[State.RESPONSE])
        if decision.state is not State.RESPONSE:
            return decision
        unsure = decision.probabilities[State.RESPONSE] < self.settings.response_threshold
        if unsure or self._is_refractory(stamp_ns):
            quieter = max((State.SILENCE, State.STANDBY), key=lambda state: decision.probabilities[state])
            return replace(decision, state=quieter, confidence=decision.probabilities[quieter])
        self._spoke_at = stamp_ns
        return decision

    def _is_refractory(self, stamp_ns: int) -> bool:
        return self._spoke_at is not None and stamp_ns - self._spoke_at < self.settings.refractory_s * NANOSECONDS
