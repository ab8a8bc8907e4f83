"""Decides from the model's state probabilities whether the robot speaks."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stream_vlm.config.model_settings import DecisionSettings
from stream_vlm.types import NANOSECONDS, Decision, State


@dataclass
class SpeechGate:
    """Filters one camera's decisions by hysteresis, thresholds and refractory time.

    1. Hysteresis: after standby the state stays standby until another state leads it by
       `decision.hysteresis`.
    2. Thresholds and refractory time: a response is suppressed if its probability is too low or if
       it comes too soon after the last response. It becomes the more likely of the other two
       states, so an event under way stays under way. A standby below its threshold becomes silence.

    The second step has no effect on the first, so a higher threshold can only make the robot
    quieter. An answer to a question passes unfiltered and changes nothing in the gate. A two-state
    model is never in standby, so hysteresis and the standby threshold do not change its decisions.

    A response that passes may still repeat earlier words: `suppress_repeat` checks the words once
    they are written.

    Attributes:
        settings: the settings `decision`.
        activity_threshold: the model's threshold (`model_protocol.Model.activity_threshold`). It
            applies if the settings give none.
    """

    settings: DecisionSettings
    activity_threshold: float = 0.0
    _spoke_at: int | None = None
    _spoke_before: int | None = None
    _in_standby: bool = False
    _said: str = ""
    _last_active_ns: int | None = None
    """Stamp of the last frame whose decision was not silence, ns."""

    def gate_state(
        self, decision: Decision, stamp_ns: int, *, asked: bool, watched: bool = False
    ) -> Decision:
        """Return `decision`, or the same decision with another state.

        Args:
            decision: the model's decision, before any words are written.
            stamp_ns: stamp of the frame, ns.
            asked: whether a question must be answered at this frame.
            watched: whether a watch is active.
        """
        if asked:
            return in_state(decision, State.RESPONSE)
        if self.settings.unprompted == "never" and not watched:
            decision = in_state(decision, State.SILENCE)
        decision = self._steady(decision)
        if (
            decision.state is State.RESPONSE
            and self._may_speak(decision, stamp_ns)
            and (watched or self._sees_something(decision))
        ):
            self._spoke_before, self._spoke_at = self._spoke_at, stamp_ns
            return decision
        if decision.state is State.RESPONSE:
            decision = in_state(
                decision,
                max(
                    (State.SILENCE, State.STANDBY), key=lambda state: decision.probabilities[state]
                ),
            )
        if (
            decision.state is State.STANDBY
            and decision.probabilities[State.STANDBY] < self.settings.standby_threshold
        ):
            return in_state(decision, State.SILENCE)
        return decision

    def take_back(self) -> None:
        """Note that the response that passed last is not said after all."""
        self._spoke_at = self._spoke_before

    def suppress_repeat(self, decision: Decision, stamp_ns: int) -> Decision:
        """Replace an unprompted response by silence if it repeats the last words.

        A repeat within `decision.repeat_suppression_s` of the last decision that was not silence is
        the same event. After a longer silence the same words are said again.

        Args:
            decision: the decision with its words, for a frame without a question or a watch.
            stamp_ns: stamp of the frame, ns.
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
            return replace(in_state(decision, State.SILENCE), text="")
        self._said = decision.text
        return decision

    def _steady(self, decision: Decision) -> Decision:
        """Apply the hysteresis: keep standby until another state leads it by the margin."""
        lead = decision.probabilities[decision.state] - decision.probabilities[State.STANDBY]
        if self._in_standby and lead < self.settings.hysteresis:
            decision = in_state(decision, State.STANDBY)
        self._in_standby = decision.state is State.STANDBY
        return decision

    def _may_speak(self, decision: Decision, stamp_ns: int) -> bool:
        return decision.probabilities[
            State.RESPONSE
        ] >= self.settings.response_threshold and not self._is_refractory(stamp_ns)

    def _sees_something(self, decision: Decision) -> bool:
        """Whether the probability that anything happens reaches the activity threshold.

        That is standby plus response: a model that is unsure which of the two applies still sees an
        event.
        """
        return 1.0 - decision.probabilities[State.SILENCE] >= (
            self.settings.activity_threshold or self.activity_threshold
        )

    def _is_refractory(self, stamp_ns: int) -> bool:
        return (
            self._spoke_at is not None
            and stamp_ns - self._spoke_at < self.settings.refractory_s * NANOSECONDS
        )


def in_state(decision: Decision, state: State) -> Decision:
    """`decision` with another state, and the confidence of that state."""
    if decision.state is state:
        return decision
    return replace(decision, state=state, confidence=decision.probabilities[state])
