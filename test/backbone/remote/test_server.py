"""Faults of a server: each is one sentence, the step ends, and the stream goes on later."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from chat_prompts import Refused
from colour_mind import colour_mind, frame, one_step, remote_model, states, watching
from model_server import ModelServer, serve_model, slow

from stream_vlm.backbone.remote.model import RemoteModel
from stream_vlm.backbone.remote.transport import (
    NotTheProtocol,
    RequestRefused,
    ServerAway,
    ServerFault,
)
from stream_vlm.model_protocol import ModelAway, Outcome, Turn
from stream_vlm.types import State

pytest.importorskip("httpx", reason="httpx sends the requests")

RED = watching("something red")


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with serve_model(colour_mind) as running:
        yield running


@pytest.fixture(autouse=True)
def quick_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_vlm.backbone.remote.server.FIRST_WAIT_S", 0.05)


def refuse(status: int, words: str = "no") -> Callable[[Mapping[str, Any]], None]:
    """A fault: every chat request gets an error status."""

    def fail(request: Mapping[str, Any]) -> None:
        raise Refused(status, words)

    return fail


def until_back(model: RemoteModel) -> None:
    """Wait for the thread that probes the server."""
    for _ in range(400):
        if not model.fault:
            return
        time.sleep(0.05)
    raise AssertionError(f"still away: {model.fault}")


def free_port() -> int:
    with serve_model(colour_mind) as server:
        return int(server.url.split(":")[2].partition("/")[0])


def test_a_server_that_comes_after_the_node_is_used_then() -> None:
    port = free_port()
    model = remote_model(f"http://127.0.0.1:{port}/v1")
    stream = model.open_stream("front")
    fault = one_step(model, stream, "red", 0, RED)
    assert isinstance(fault, ModelAway)
    assert "no connection" in str(fault)
    assert "start the server" in str(fault)
    assert model.figures["frames dropped at the server"] == 1
    with serve_model(colour_mind, port):
        until_back(model)
        assert states(one_step(model, stream, "red", 1, RED)) == {"something red": State.RESPONSE}


def test_a_server_that_dies_and_comes_back_has_lost_its_pictures_only() -> None:
    with serve_model(colour_mind) as server:
        model = remote_model(server.url)
        stream = model.open_stream("front")
        one_step(model, stream, "grey", 0, RED)
        port = int(server.url.split(":")[2].partition("/")[0])
    assert isinstance(one_step(model, stream, "grey", 1, RED), ServerAway)
    assert isinstance(one_step(model, stream, "grey", 2, RED), ServerAway)
    with serve_model(colour_mind, port) as again:
        until_back(model)
        assert states(one_step(model, stream, "red", 3, RED)) == {"something red": State.RESPONSE}
        # The frames of the outage are dropped, not sent later.
        assert "0.0 s<picture>3.0 s<picture>" in again.prompts[-1].text
    assert model.figures["server outages"] == 1


def test_while_the_server_is_left_alone_nothing_is_sent(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream_vlm.backbone.remote.server.FIRST_WAIT_S", 1000.0)
    model = remote_model(server.url)
    stream = model.open_stream("front")
    server.fault = refuse(503, "overloaded")
    first = one_step(model, stream, "grey", 0, RED)
    assert isinstance(first, RequestRefused)
    asked = len(server.requests)
    later = one_step(model, stream, "grey", 1, RED)
    assert isinstance(later, ServerAway)
    assert str(later) == str(first)
    assert len(server.requests) == asked
    assert model.fault == str(first)


def test_a_slow_server_costs_a_step_its_limit_and_no_more(server: ModelServer) -> None:
    model = remote_model(server.url, model__timeout_s=0.3)
    stream = model.open_stream("front")
    release = threading.Event()

    def wait(request: Mapping[str, Any]) -> None:
        release.wait(30.0)

    server.fault = wait
    try:
        fault = one_step(model, stream, "red", 0, RED)
    finally:
        release.set()
    assert isinstance(fault, ServerAway)
    assert "model.timeout_s" in str(fault)
    server.fault = lambda request: None
    until_back(model)
    assert states(one_step(model, stream, "red", 1, RED)) == {"something red": State.RESPONSE}
    assert "user\n1.0 s<picture>" in server.prompts[-1].text


def test_one_camera_that_waits_does_not_take_the_others_result(server: ModelServer) -> None:
    model = remote_model(server.url, model__timeout_s=2.0)
    release = threading.Event()

    def wait_for_blue(request: Mapping[str, Any]) -> None:
        if "something blue" in str(request["messages"][-1]):
            release.wait(30.0)

    server.fault = wait_for_blue
    turns = [
        Turn(model.open_stream("front"), frame("red", 0), judgements=RED),
        Turn(model.open_stream("back"), frame("red", 0), judgements=watching("something blue")),
    ]
    try:
        front, back = model.step(turns)
    finally:
        release.set()
    assert states(front) == {"something red": State.RESPONSE}
    assert isinstance(back, ServerAway)


def test_a_page_in_html_is_named_as_such(server: ModelServer) -> None:
    model = remote_model(server.url)
    stream = model.open_stream("front")
    server.fault = lambda request: b"<html>It works!</html>"
    fault = one_step(model, stream, "red", 0, RED)
    assert isinstance(fault, NotTheProtocol)
    assert "not JSON but text/html" in str(fault)
    server.fault = lambda request: None
    assert states(one_step(model, stream, "red", 1, RED)) == {"something red": State.RESPONSE}


def test_a_server_that_takes_few_pictures_costs_one_frame_to_learn_it(
    server: ModelServer,
) -> None:
    model = remote_model(server.url)
    server.most_pictures = 6
    stream = model.open_stream("front")
    outcomes = [one_step(model, stream, "grey", second, RED) for second in range(30)]
    refused = [second for second, one in enumerate(outcomes) if not isinstance(one, Outcome)]
    assert refused == [6]
    assert max(len(prompt.pictures) for prompt in server.prompts) == 6


def test_a_request_that_is_refused_costs_its_frame_and_half_of_the_chat(
    server: ModelServer,
) -> None:
    model = remote_model(server.url)
    stream = model.open_stream("front")
    for second in (-3, -2, -1, 0):
        one_step(model, stream, "grey", second, RED)
    server.fault = refuse(400, "image is poison")
    fault = one_step(model, stream, "red", 1, RED)
    assert isinstance(fault, RequestRefused)
    assert "status 400 (image is poison)" in str(fault)
    server.fault = lambda request: None
    assert states(one_step(model, stream, "red", 2, RED)) == {"something red": State.RESPONSE}
    assert len(server.prompts[-1].pictures) == 3


@pytest.mark.parametrize(
    ("status", "remedy"), [(429, "it is busy"), (500, "see the log of the server")]
)
def test_a_busy_or_broken_server_is_left_alone_and_tried_again(
    server: ModelServer, status: int, remedy: str
) -> None:
    model = remote_model(server.url)
    stream = model.open_stream("front")
    server.fault = refuse(status)
    fault = one_step(model, stream, "red", 0, RED)
    assert isinstance(fault, ServerFault)
    assert remedy in str(fault)
    server.fault = lambda request: None
    until_back(model)
    assert states(one_step(model, stream, "red", 1, RED)) == {"something red": State.RESPONSE}


def test_a_wrong_key_is_refused_at_the_start_and_never_shown() -> None:
    with serve_model(colour_mind, key="right-secret") as server:
        with pytest.raises(RequestRefused, match="STREAM_VLM_MODEL_KEY is wrong") as caught:
            remote_model(server.url, key="wrong-secret")
        assert "secret" not in str(caught.value)
        with pytest.raises(RequestRefused, match="set STREAM_VLM_MODEL_KEY"):
            remote_model(server.url)
        assert isinstance(remote_model(server.url, key="right-secret"), RemoteModel)


def test_another_model_at_the_server_is_a_fault_and_is_found_then(server: ModelServer) -> None:
    model = remote_model(server.url)
    stream = model.open_stream("front")
    server.models = ("other",)
    fault = one_step(model, stream, "red", 0, RED)
    assert isinstance(fault, RequestRefused)
    assert "`eyes` does not exist" in str(fault)
    until_back(model)
    assert states(one_step(model, stream, "red", 1, RED)) == {"something red": State.RESPONSE}
    assert model.model_id.startswith("other at ")


def test_the_wait_doubles_and_is_short_again_after_a_good_step(server: ModelServer) -> None:
    model = remote_model(server.url)
    waits = [model.server.next_wait_s() for _ in range(12)]
    assert waits[:3] == [0.05, 0.1, 0.2]
    assert waits[-1] == 30.0
    outcome = one_step(model, model.open_stream("front"), "grey", 0, RED)
    assert isinstance(outcome, Outcome)
    assert model.server.next_wait_s() == 0.05


def test_a_late_answer_of_every_request_is_no_fault_within_the_limit(server: ModelServer) -> None:
    model = remote_model(server.url)
    server.fault = slow(0.05)
    outcome = one_step(model, model.open_stream("front"), "red", 0, RED)
    assert states(outcome) == {"something red": State.RESPONSE}
    assert float(str(model.figures["server request p50 (ms)"])) >= 50.0
