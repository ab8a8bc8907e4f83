"""A server as the model: ticks, several instructions, several cameras, and what is not judged."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from colour_mind import colour_mind, frame, one_step, remote_model, states, watching
from model_server import ModelServer, serve_model

from stream_vlm.model_protocol import (
    JudgesInstructions,
    KnowsItsRate,
    Outcome,
    ReportsHealth,
    Turn,
)
from stream_vlm.types import Decision, State

pytest.importorskip("httpx", reason="httpx sends the requests")


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with serve_model(colour_mind) as running:
        yield running


def test_each_instruction_gets_its_own_decision_with_probabilities(server: ModelServer) -> None:
    model = remote_model(server.url)
    outcome = one_step(
        model, model.open_stream("front"), "red", 0, watching("something red", "something blue")
    )
    assert states(outcome) == {"something red": State.RESPONSE, "something blue": State.SILENCE}
    assert isinstance(outcome, Outcome)
    shares = outcome.judged["something red"].probabilities
    assert shares == pytest.approx(
        {State.SILENCE: 0.125, State.STANDBY: 0.125, State.RESPONSE: 0.75}
    )


def test_a_response_has_words_and_the_confidence_of_state_and_words(server: ModelServer) -> None:
    model = remote_model(server.url)
    outcome = one_step(model, model.open_stream("front"), "red", 0, watching("something red"))
    assert isinstance(outcome, Outcome)
    decision = outcome.judged["something red"]
    assert decision.text == "The picture is red."
    assert decision.confidence == pytest.approx(0.75 * 0.5)
    assert decision.verified is None


def test_a_second_look_gives_the_probability_of_yes(server: ModelServer) -> None:
    model = remote_model(server.url)
    judgements = watching("something red", "something blue", verify=True)
    outcome = one_step(model, model.open_stream("front"), "red", 0, judgements)
    assert isinstance(outcome, Outcome)
    assert outcome.judged["something red"].verified == pytest.approx(0.75)
    assert outcome.judged["something blue"].verified is None


def test_the_gate_decides_before_any_words_are_asked_for(server: ModelServer) -> None:
    def hold_back(decision: Decision) -> Decision:
        return replace(decision, state=State.STANDBY)

    model = remote_model(server.url)
    probes = len(server.requests)
    outcome = one_step(
        model, model.open_stream("front"), "red", 0, watching("something red", gate=hold_back)
    )
    assert states(outcome) == {"something red": State.STANDBY}
    assert len(server.requests) - probes == 1


def test_the_settings_of_sampling_are_those_of_words_only(server: ModelServer) -> None:
    model = remote_model(server.url, sampling__temperature=0.5, sampling__top_p=0.9)
    one_step(model, model.open_stream("front"), "red", 0, watching("something red"))
    states_request, words_request = server.requests[-2:]
    assert states_request["temperature"] == 0.0
    assert (words_request["temperature"], words_request["top_p"]) == (0.5, 0.9)
    assert "top_k" not in words_request


def test_a_model_is_told_not_to_think_first(server: ModelServer) -> None:
    model = remote_model(server.url)
    one_step(model, model.open_stream("front"), "red", 0, watching("something red"))
    assert server.requests[-1]["chat_template_kwargs"] == {"enable_thinking": False}


def test_a_question_is_answered_and_stays_in_the_chat(server: ModelServer) -> None:
    model = remote_model(server.url)
    stream = model.open_stream("front")
    outcome = one_step(model, stream, "blue", 0, question="Which colour is it?")
    assert isinstance(outcome, Outcome)
    assert (outcome.decision.state, outcome.decision.text) == (State.RESPONSE, "It is blue.")
    assert outcome.decision.confidence == pytest.approx(0.5)
    one_step(model, stream, "red", 1, watching("something red"))
    assert "Which colour is it?<|im_end|>\n<|im_start|>assistant\nIt is blue.<|im_end|>" in (
        server.prompts[-1].text
    )


def test_without_instruction_or_question_the_server_is_not_asked(server: ModelServer) -> None:
    model = remote_model(server.url)
    stream, before = model.open_stream("front"), len(server.requests)
    outcome = one_step(model, stream, "red", 0)
    assert isinstance(outcome, Outcome)
    assert outcome.decision.state is State.SILENCE
    assert len(server.requests) == before
    one_step(model, stream, "red", 1, watching("something red"))
    assert len(server.prompts[-1].pictures) == 2


def test_cameras_have_chats_of_their_own_in_one_step(server: ModelServer) -> None:
    model = remote_model(server.url)
    turns = [
        Turn(
            model.open_stream(camera),
            frame(colour, 0, camera),
            judgements=watching("something red"),
        )
        for camera, colour in (("front", "red"), ("back", "blue"))
    ]
    front, back = model.step(turns)
    assert states(front) == {"something red": State.RESPONSE}
    assert states(back) == {"something red": State.SILENCE}
    assert {len(prompt.pictures) for prompt in server.prompts[-3:]} == {1}


def test_the_model_has_the_protocols_that_loop_and_node_look_for(server: ModelServer) -> None:
    model = remote_model(server.url)
    assert isinstance(model, (JudgesInstructions, KnowsItsRate, ReportsHealth))
    assert model.judges_instructions
    assert model.reads_memory
    assert model.model_id == f"eyes at {server.url}"


def test_the_figures_tell_requests_times_and_the_cached_share(server: ModelServer) -> None:
    model = remote_model(server.url)
    stream = model.open_stream("front")
    for second in range(6):
        one_step(model, stream, "grey", second, watching("something red"))
    figures = model.figures
    assert figures["server requests"] == 6
    asked, usages = 6, server.usages[-6:]
    assert len(usages) == asked
    cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages)
    share = cached / sum(usage["prompt_tokens"] for usage in usages)
    assert figures["cached share of prompt tokens"] == pytest.approx(share)
    assert share > 0.4
    assert model.fault == ""
