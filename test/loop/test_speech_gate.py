"""When the robot speaks: thresholds, hysteresis, refractory time, repeats and questions."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_vlm.config.model_settings import DecisionSettings
from stream_vlm.loop.speech_gate import SpeechGate
from stream_vlm.types import Decision, State

SECOND = 1_000_000_000


def decided(state: State, silence: float, standby: float, response: float) -> Decision:
    probabilities = {State.SILENCE: silence, State.STANDBY: standby, State.RESPONSE: response}
    return Decision(state, probabilities, confidence=probabilities[state])


RESPONSE = decided(State.RESPONSE, 0.1, 0.3, 0.6)
SILENCE = decided(State.SILENCE, 0.9, 0.05, 0.05)


def test_a_response_above_the_threshold_passes() -> None:
    assert (
        SpeechGate(DecisionSettings(response_threshold=0.5)).gate_state(RESPONSE, 0, asked=False)
        == RESPONSE
    )


def test_a_response_below_the_threshold_becomes_the_likelier_other_state() -> None:
    quiet = SpeechGate(DecisionSettings(response_threshold=0.7)).gate_state(
        RESPONSE, 0, asked=False
    )
    assert quiet.state is State.STANDBY
    assert quiet.confidence == pytest.approx(0.3)


def test_a_response_within_the_refractory_time_is_suppressed_and_a_later_one_is_not() -> None:
    gate = SpeechGate(DecisionSettings(refractory_s=3.0))
    states = [gate.gate_state(RESPONSE, second * SECOND, asked=False).state for second in range(7)]
    assert [state is State.RESPONSE for state in states] == [
        True,
        False,
        False,
        True,
        False,
        False,
        True,
    ]


def test_without_a_question_silence_stays_silence() -> None:
    assert SpeechGate(DecisionSettings()).gate_state(SILENCE, 0, asked=False) == SILENCE


def test_a_question_is_answered_below_the_threshold_and_within_the_refractory_time() -> None:
    gate = SpeechGate(DecisionSettings(response_threshold=1.0, refractory_s=3600.0))
    gate.gate_state(RESPONSE, 0, asked=False)
    assert gate.gate_state(SILENCE, SECOND, asked=True).state is State.RESPONSE
    assert gate.gate_state(RESPONSE, SECOND, asked=True).state is State.RESPONSE


def test_answers_do_not_start_the_refractory_time() -> None:
    gate = SpeechGate(DecisionSettings(refractory_s=10.0))
    gate.gate_state(RESPONSE, 0, asked=True)
    assert gate.gate_state(RESPONSE, SECOND, asked=False).state is State.RESPONSE


LEAVES, ENTERS = (replace(RESPONSE, text=f"person {does}") for does in ("leaves", "enters"))
STANDBY = decided(State.STANDBY, 0.2, 0.6, 0.2)


def test_words_are_repeated_only_after_a_silence_or_other_words() -> None:
    gate = SpeechGate(DecisionSettings(repeat_suppression_s=1.0))
    decisions = (
        LEAVES,
        STANDBY,
        LEAVES,
        SILENCE,
        LEAVES,
        SILENCE,
        SILENCE,
        LEAVES,
        STANDBY,
        ENTERS,
        LEAVES,
    )
    said = [gate.suppress_repeat(one, index * SECOND // 2) for index, one in enumerate(decisions)]
    texts = [
        "person leaves",
        "",
        "",
        "",
        "",
        "",
        "",
        "person leaves",
        "",
        "person enters",
        "person leaves",
    ]
    assert [one.text for one in said] == texts
    assert (said[2].state, said[2].confidence) == (State.SILENCE, 0.1)


def test_repeat_suppression_of_zero_lets_repeats_pass() -> None:
    gate = SpeechGate(DecisionSettings(repeat_suppression_s=0.0))
    assert [gate.suppress_repeat(LEAVES, stamp_ns).text for stamp_ns in (0, 0, 1)] == [
        "person leaves"
    ] * 3


@pytest.mark.parametrize(
    ("chosen", "found", "speaks"),
    [
        (0.0, 0.0, True),
        (0.0, 0.85, True),
        (0.0, 0.95, False),
        (0.95, 0.0, False),
        (0.85, 0.95, True),
    ],
)
def test_the_activity_threshold_of_the_settings_or_else_of_the_model_suppresses_responses(
    chosen: float, found: float, speaks: bool
) -> None:
    gate = SpeechGate(DecisionSettings(activity_threshold=chosen), found)
    assert (gate.gate_state(RESPONSE, 0, asked=False).state is State.RESPONSE) is speaks
    assert all(
        gate.gate_state(RESPONSE, 0, asked=asked, watched=not asked).state is State.RESPONSE
        for asked in (True, False)
    )


def test_standby_and_response_count_together_for_the_activity_threshold() -> None:
    unsure = decided(State.RESPONSE, 0.01, 0.48, 0.51)
    assert (
        SpeechGate(DecisionSettings(activity_threshold=0.97)).gate_state(unsure, 0, asked=False)
        == unsure
    )


def test_a_standby_below_its_threshold_becomes_silence() -> None:
    standby = decided(State.STANDBY, 0.3, 0.4, 0.3)
    assert (
        SpeechGate(DecisionSettings(standby_threshold=0.4)).gate_state(standby, 0, asked=False)
        == standby
    )
    quiet = SpeechGate(DecisionSettings(standby_threshold=0.5)).gate_state(standby, 0, asked=False)
    assert (quiet.state, quiet.confidence) == (State.SILENCE, pytest.approx(0.3))


def test_standby_is_left_only_when_another_state_leads_it_by_the_margin() -> None:
    gate = SpeechGate(DecisionSettings(hysteresis=0.25))
    shares = [
        (0.5, 0.3, 0.2),
        (0.2, 0.5, 0.3),
        (0.5, 0.3, 0.2),
        (0.2, 0.35, 0.45),
        (0.6, 0.3, 0.1),
        (0.4, 0.35, 0.25),
    ]
    states = [
        max(State, key=lambda state: dict(zip(State, share, strict=True))[state])
        for share in shares
    ]
    admitted = [
        gate.gate_state(decided(state, *share), 0, asked=False).state
        for state, share in zip(states, shares, strict=True)
    ]
    assert admitted == [
        State.SILENCE,
        State.STANDBY,
        State.STANDBY,
        State.STANDBY,
        State.SILENCE,
        State.SILENCE,
    ]


def test_an_answer_in_between_does_not_end_standby() -> None:
    gate = SpeechGate(DecisionSettings(hysteresis=0.5))
    gate.gate_state(decided(State.STANDBY, 0.1, 0.8, 0.1), 0, asked=False)
    gate.gate_state(RESPONSE, 0, asked=True)
    assert (
        gate.gate_state(decided(State.SILENCE, 0.5, 0.4, 0.1), SECOND, asked=False).state
        is State.STANDBY
    )


shares = st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20)).filter(any)
thresholds = st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
gates = st.builds(
    DecisionSettings,
    response_threshold=thresholds,
    standby_threshold=thresholds,
    hysteresis=thresholds,
    refractory_s=st.sampled_from([0.0, 2.0, 5.0]),
)
two_state = st.tuples(st.integers(0, 20), st.just(0), st.integers(0, 20)).filter(any)


def model_says(silence: int, standby: int, response: int) -> Decision:
    """The model's decision for these weights: the most likely state."""
    probabilities = {
        state: weight / (silence + standby + response)
        for state, weight in zip(State, (silence, standby, response), strict=True)
    }
    state = max(probabilities, key=lambda candidate: probabilities[candidate])
    return Decision(state, probabilities, confidence=probabilities[state])


def admitted(settings: DecisionSettings, stream: list[Decision]) -> list[State]:
    gate = SpeechGate(settings)
    return [
        gate.gate_state(decision, second * SECOND, asked=False).state
        for second, decision in enumerate(stream)
    ]


def changes(states: list[State]) -> int:
    return sum(one is not other for one, other in pairwise(states))


streams = st.lists(shares.map(lambda weights: model_says(*weights)), min_size=1, max_size=30)


@given(streams)
def test_with_every_setting_at_zero_the_models_decision_passes_unchanged(
    stream: list[Decision],
) -> None:
    gate = SpeechGate(DecisionSettings())
    assert [
        gate.gate_state(decision, second * SECOND, asked=False)
        for second, decision in enumerate(stream)
    ] == stream


@given(streams, gates, st.sampled_from(["response_threshold", "standby_threshold"]), thresholds)
def test_raising_a_threshold_never_adds_a_response(
    stream: list[Decision], low: DecisionSettings, name: str, threshold: float
) -> None:
    high = low.model_copy(update={name: max(threshold, getattr(low, name))})
    quieter, louder = admitted(high, stream), admitted(low, stream)
    assert quieter.count(State.RESPONSE) <= louder.count(State.RESPONSE)
    if low.refractory_s == 0:
        # With a refractory time a response may come at another tick, but none is added.
        assert all(
            state is not State.RESPONSE or other is State.RESPONSE
            for state, other in zip(quieter, louder, strict=True)
        )


@given(streams, gates)
def test_raising_the_standby_threshold_does_not_change_responses(
    stream: list[Decision], low: DecisionSettings
) -> None:
    high = low.model_copy(update={"standby_threshold": 1.0})
    spoke = [
        [state is State.RESPONSE for state in admitted(settings, stream)]
        for settings in (low, high)
    ]
    assert spoke[0] == spoke[1]


@given(streams, thresholds)
def test_hysteresis_never_makes_the_state_change_more_often(
    stream: list[Decision], margin: float
) -> None:
    assert changes(admitted(DecisionSettings(hysteresis=margin), stream)) <= changes(
        [decision.state for decision in stream]
    )


@given(
    st.lists(two_state.map(lambda weights: model_says(*weights)), min_size=1, max_size=30),
    thresholds,
    thresholds,
)
def test_hysteresis_and_standby_threshold_do_not_change_a_two_state_model(
    stream: list[Decision], margin: float, threshold: float
) -> None:
    settings = DecisionSettings(hysteresis=margin, standby_threshold=threshold)
    assert admitted(settings, stream) == [decision.state for decision in stream]


@given(streams, gates, st.data())
def test_a_question_is_answered_with_any_settings_and_any_earlier_decisions(
    stream: list[Decision], settings: DecisionSettings, data: st.DataObject
) -> None:
    gate = SpeechGate(settings)
    for second, decision in enumerate(stream):
        if data.draw(st.booleans(), label="asked"):
            assert gate.gate_state(decision, second * SECOND, asked=True).state is State.RESPONSE
        else:
            gate.gate_state(decision, second * SECOND, asked=False)


@given(streams, gates, st.integers(1, 29))
def test_answers_do_not_change_later_unprompted_decisions(
    stream: list[Decision], settings: DecisionSettings, every: int
) -> None:
    plain, interrupted = SpeechGate(settings), SpeechGate(settings)
    for second, decision in enumerate(stream):
        if second % every == 0:
            interrupted.gate_state(decision, second * SECOND, asked=True)
        assert plain.gate_state(decision, second * SECOND, asked=False) == interrupted.gate_state(
            decision, second * SECOND, asked=False
        )
