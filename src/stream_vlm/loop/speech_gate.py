"""From the model's state probabilities to what the robot does: speak, stand by or stay silent."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stream_vlm.config.model_settings import DecisionSettings
from stream_vlm.types import NANOSECONDS, Decision, State


@dataclass
class SpeechGate:
    """Lets one camera's states through when they are sure enough, do not flicker and do not come
    too soon after the last utterance.

    First hysteresis: once standby was the model's state it stays so until another one leads by the
    margin. Then thresholds and the refractory time hold back what is not sure enough; they never
    act on hysteresis, so raising one can only make the robot quieter. A response that is held back
    becomes the more likely of the other two states, so that an event under way stays under way. An
    answer to a question passes all of it by and leaves no trace in it. A two-state model is never
    in standby, so neither hysteresis nor the standby threshold touches it.

    What it lets through may still say the words of a moment ago: `suppress_repeat` looks at the words once
    they are written.

    Attributes:
        activity_threshold: the model's own (`model.Model.activity_threshold`), where the settings
            say none.
    """

    settings: DecisionSettings
    activity_threshold: float = 0.0
    _spoke_at: int | None = None
    _stands_by: bool = False
    _said: str = ""
    _last_active_ns: int | None = None
    """Stamp of the last look that was not silent, ns."""

    def gate_state(
        self, decision: Decision, stamp_ns: int, *, asked: bool, watched: bool = False
    ) -> Decision:
        """Return `decision`, or another state of its probabilities.

        Args:
            stamp_ns: of the frame, ns.
            asked: the frame carries a question to be answered now.
            watched: a watch is active.
        """
        if asked:
            return _in_state(decision, State.RESPONSE)
        if self.settings.unprompted == "never" and not watched:
            decision = _in_state(decision, State.SILENCE)
        decision = self._steady(decision)
        if (
            decision.state is State.RESPONSE
            and self._may_speak(decision, stamp_ns)
            and (watched or self._sees_something(decision))
        ):
            self._spoke_at = stamp_ns
            return decision
        if decision.state is State.RESPONSE:
            decision = _in_state(
                decision,
                max(
                    (State.SILENCE, State.STANDBY), key=lambda state: decision.probabilities[state]
                ),
            )
        if (
            decision.state is State.STANDBY
            and decision.probabilities[State.STANDBY] < self.settings.standby_threshold
        ):
            return _in_state(decision, State.SILENCE)
        return decision

    def suppress_repeat(self, decision: Decision, stamp_ns: int) -> Decision:
        """Return a decision that nobody asked or waits for, or silence where it repeats what was
        said before the last silence worth the name.

        That is the same event still.

        Args:
            stamp_ns: of the frame, ns.
        """
        if decision.state is State.SILENCE:
            return decision
        if (
            self._last_active_ns is None
            or stamp_ns - self._last_active_ns > self.settings.repeat_suppression_s * NANOSECONDS
        ):
            self._said = ""
        self._last_active_ns = stamp_ns
        if (
            decision.state is not State.RESPONSE
            or not decision.text
            or self.settings.repeat_suppression_s == 0
        ):
            return decision
        if decision.text == self._said:
            return replace(_in_state(decision, State.SILENCE), text="")
        self._said = decision.text
        return decision

    def _steady(self, decision: Decision) -> Decision:
        """Stand by for as long as no other state leads standby by the margin."""
        lead = decision.probabilities[decision.state] - decision.probabilities[State.STANDBY]
        if self._stands_by and lead < self.settings.hysteresis:
            decision = _in_state(decision, State.STANDBY)
        self._stands_by = decision.state is State.STANDBY
        return decision

    def _may_speak(self, decision: Decision, stamp_ns: int) -> bool:
        return decision.probabilities[
            State.RESPONSE
        ] >= self.settings.response_threshold and not self._is_refractory(stamp_ns)

    def _sees_something(self, decision: Decision) -> bool:
        """Whether anything happens at all.

        Between standby and response a model wavers because of the moment, and that is no false
        alarm.
        """
        return 1.0 - decision.probabilities[State.SILENCE] >= (
            self.settings.activity_threshold or self.activity_threshold
        )

    def _is_refractory(self, stamp_ns: int) -> bool:
        return (
            self._spoke_at is not None
            and stamp_ns - self._spoke_at < self.settings.refractory_s * NANOSECONDS
        )


def _in_state(decision: Decision, state: State) -> Decision:
    if decision.state is state:
        return decision
    return replace(decision, state=state, confidence=decision.probabilities[state])
