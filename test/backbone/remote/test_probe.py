"""What a server can do is found out at the start, and what it lacks is said in one sentence."""

from typing import Any

import pytest
from chat_prompts import Prompt, Refused
from colour_mind import colour_mind, one_step, remote_model, states, watching
from model_server import ModelServer, Words, serve_model

from stream_vlm.backbone.remote.http_transport import HttpTransport
from stream_vlm.backbone.remote.labels import Way
from stream_vlm.backbone.remote.probe import Abilities, ServerLacks, probe
from stream_vlm.backbone.remote.transport import NotTheProtocol, RequestRefused, ServerFault
from stream_vlm.model_protocol import Outcome
from stream_vlm.types import State

pytest.importorskip("httpx", reason="httpx sends the requests")


def probed(name: str = "", **values: Any) -> Abilities:
    with serve_model(colour_mind, **values) as server:
        return probe(HttpTransport(server.url), name)


def wordy_mind(prompt: Prompt) -> Words:
    """A model that begins every reply with another word."""
    words = colour_mind(prompt)
    return Words(f"Sure! {words.text}", {"Sure": 0.9, "The": 0.1})


WAYS = [
    ({}, Way.TOKEN_IDS),
    ({"token_ids": False}, Way.TOP),
    ({"token_ids": False, "top": 5}, Way.TOP),
    ({"token_ids": False, "top": -1}, Way.CHOICE),
    ({"token_ids": False, "top": -1, "choice": False}, Way.SCHEMA),
]


@pytest.mark.parametrize(("lacks", "way"), WAYS)
def test_states_are_read_in_the_best_way_that_the_server_has(
    lacks: dict[str, Any], way: Way
) -> None:
    with serve_model(colour_mind, **lacks) as server:
        model = remote_model(server.url)
        assert model.server.abilities.phrasing.states.way is way
        stream = model.open_stream("front")
        judgements = watching("something red", "something blue", verify=True)
        seen = [states(one_step(model, stream, colour, 0, judgements)) for colour in ("red",)]
        assert seen == [{"something red": State.RESPONSE, "something blue": State.SILENCE}]


def test_without_probabilities_the_decision_has_none_between() -> None:
    with serve_model(colour_mind, token_ids=False, top=-1) as server:
        model = remote_model(server.url)
        outcome = one_step(
            model, model.open_stream("front"), "red", 0, watching("something red", verify=True)
        )
        assert isinstance(outcome, Outcome)
        decision = outcome.judged["something red"]
        assert decision.probabilities[State.RESPONSE] == 1.0
        assert (decision.confidence, decision.verified) == (1.0, 1.0)
        assert "words have no probabilities" in model.engine


def test_a_server_that_only_writes_freely_is_refused() -> None:
    with pytest.raises(ServerLacks, match=r"neither lists log probabilities .* nor constrains"):
        probed(token_ids=False, top=-1, choice=False, schema=False)


def test_a_model_that_does_not_begin_with_a_state_is_constrained_where_possible() -> None:
    with serve_model(wordy_mind, token_ids=False) as server:
        known = probe(HttpTransport(server.url), "")
        assert known.phrasing.states.way is Way.CHOICE


def test_a_text_model_is_refused() -> None:
    with pytest.raises(ServerLacks, match=r"eyes is not a multimodal model\); serve a vision"):
        probed(sees=False)


def test_a_server_that_ignores_pictures_without_a_word_is_refused() -> None:
    with pytest.raises(ServerLacks, match="ignores pictures: a prompt with two of them has"):
        probed(sees=None)


def test_a_server_that_takes_one_picture_is_refused_with_the_remedy() -> None:
    with pytest.raises(ServerLacks, match=r"At most 1 image.*--limit-mm-per-prompt"):
        probed(most_pictures=1)


def test_the_only_model_needs_no_name_and_several_need_one() -> None:
    assert probed().model == "eyes"
    with pytest.raises(ServerLacks, match=r"model.name: .* several: ears, eyes; set it"):
        probed(models=("eyes", "ears"))
    assert probed("ears", models=("eyes", "ears")).model == "ears"
    with pytest.raises(ServerLacks, match="has no model 'nose'; it has ears, eyes"):
        probed("nose", models=("eyes", "ears"))


def test_what_a_server_does_not_do_is_told_for_people() -> None:
    known = probed(keeps=False, tells_cached=False, continues=False)
    assert known.sentences == (
        "states by log probabilities of the words' first tokens",
        "words have probabilities",
        "pictures are sent at every tick",
        "context of 100000 tokens",
        "cached tokens are not told",
    )
    assert not known.phrasing.continues


def test_words_come_without_the_label_where_a_reply_cannot_be_continued() -> None:
    with serve_model(colour_mind, continues=False) as server:
        model = remote_model(server.url)
        outcome = one_step(model, model.open_stream("front"), "red", 0, watching("something red"))
        assert isinstance(outcome, Outcome)
        assert outcome.judged["something red"].text == "The picture is red."


def test_the_time_is_written_as_the_model_knows_it() -> None:
    assert probed(models=("Qwen3-VL-4B-Instruct",)).time == "<{time} seconds>"
    assert probed(models=("Qwen2.5-VL-3B-Instruct",)).time == "{time} s"


def test_a_page_in_the_place_of_a_server_is_named() -> None:
    with serve_model(colour_mind) as server:
        server.fault = lambda request: b"<html>"
        with pytest.raises(NotTheProtocol, match="the reply is not JSON but text/html"):
            probe(HttpTransport(server.url))


def test_a_wrong_path_is_named_with_the_usual_one() -> None:
    with serve_model(colour_mind) as server:
        transport = HttpTransport(server.url.replace("/v1", "/api"))
        with pytest.raises((RequestRefused, NotTheProtocol), match=r"/v1|status 404"):
            probe(transport, "eyes")


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://h/v1", "http://", "/v1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ServerFault, match=r"model\.url: "):
        HttpTransport(url)


def test_a_password_in_the_address_is_in_no_message() -> None:
    transport = HttpTransport("http://me:hidden@127.0.0.1:9/v1?token=hidden")
    with pytest.raises(ServerFault) as caught:
        transport.models()
    assert "hidden" not in str(caught.value) + transport.address


def refuse_pictures(server: ModelServer) -> None:
    def fail(request: Any) -> None:
        raise Refused(401, "expired")

    server.fault = fail


def test_a_key_that_is_asked_for_by_chats_only_is_no_lack_of_the_server() -> None:
    with serve_model(colour_mind) as server:
        refuse_pictures(server)
        with pytest.raises(RequestRefused, match="STREAM_VLM_MODEL_KEY"):
            probe(HttpTransport(server.url))


@pytest.mark.parametrize("ray", [False, True])
def test_the_length_of_the_context_is_read_from_vllm_alone_and_behind_ray_serve(ray: bool) -> None:
    with serve_model(colour_mind, longest=5000, ray=ray) as server:
        assert probe(HttpTransport(server.url)).max_tokens == 5000
