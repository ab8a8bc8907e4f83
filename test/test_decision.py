"""When the robot may speak."""

import pytest

from stream_vlm.config import DecisionSettings
from stream_vlm.decision import SpeechGate
from stream_vlm.stream import Decision, State

SECOND = 1_000_000_000


def decided(state: State, silence: float, standby: float, response: float) -> Decision:
    probabilities = {State.SILENCE: silence, State.STANDBY: standby, State.RESPONSE: response}
    return Decision(state, probabilities, confidence=probabilities[state])


RESPONSE = decided(State.RESPONSE, 0.1, 0.3, 0.6)
SILENCE = decided(State.SILENCE, 0.9, 0.05, 0.05)


def test_a_sure_response_passes() -> None:
    assert SpeechGate(DecisionSettings(response_threshold=0.5)).admit(RESPONSE, 0, asked=False) == RESPONSE


def test_an_unsure_response_becomes_the_likelier_quiet_state() -> None:
    quiet = SpeechGate(DecisionSettings(response_threshold=0.7)).admit(RESPONSE, 0, asked=False)
    assert quiet.state is State.STANDBY
    assert quiet.confidence == pytest.approx(0.3)


def test_a_response_too_soon_after_the_last_is_held_back_and_a_later_one_is_not() -> None:
    gate = SpeechGate(DecisionSettings(refractory_s=3.0))
    states = [gate.admit(RESPONSE, second * SECOND, asked=False).state for second in range(7)]
    assert [state is State.RESPONSE for state in states] == [True, False, False, True, False, False, True]


def test_silence_is_never_turned_into_speech_unasked() -> None:
    assert SpeechGate(DecisionSettings()).admit(SILENCE, 0, asked=False) == SILENCE


def test_a_question_is_answered_even_when_unsure_and_within_the_refractory_time() -> None:
    gate = SpeechGate(DecisionSettings(response_threshold=1.0, refractory_s=3600.0))
    gate.admit(RESPONSE, 0, asked=False)
    assert gate.admit(SILENCE, SECOND, asked=True).state is State.RESPONSE
    assert gate.admit(RESPONSE, SECOND, asked=True).state is State.RESPONSE


def test_answers_do_not_start_the_refractory_time() -> None:
    gate = SpeechGate(DecisionSettings(refractory_s=10.0))
    gate.admit(RESPONSE, 0, asked=True)
    assert gate.admit(RESPONSE, SECOND, asked=False).state is State.RESPONSE
