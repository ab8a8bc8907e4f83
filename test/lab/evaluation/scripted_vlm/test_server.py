"""The test server and the transport within the process give the same replies."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from scripted_requests import SEED, frames, request, text

from stream_vlm.backbone.remote.transport import RequestRefused
from stream_vlm.config.instruction_settings import DEFAULT_INSTRUCTIONS
from stream_vlm.context.instructions import judge_prompt, verify_prompt
from stream_vlm_lab.evaluation.scripted_vlm.answerer import ScriptedVlm
from stream_vlm_lab.evaluation.scripted_vlm.quirks import parse_quirks
from stream_vlm_lab.evaluation.scripted_vlm.server import make_server
from stream_vlm_lab.evaluation.scripted_vlm.twin import ScriptedTransport

MODEL = "scripted:noise=0.2,chatter=0.3,markdown=0.3,refuse=0.1,seed=5"


@pytest.fixture
def address() -> Iterator[str]:
    server = make_server(ScriptedVlm(parse_quirks(MODEL), MODEL))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def post(url: str, body: bytes) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=30) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_both_give_the_same_replies(address: str) -> None:
    twin = ScriptedTransport(MODEL)
    questions = [
        *(judge_prompt(instruction) for instruction in DEFAULT_INSTRUCTIONS),
        verify_prompt("The door opens."),
        "What do you see?",
    ]
    texts = set()
    for newest in range(3, 43):
        times = [newest - 3.0, newest - 1.5, float(newest)]
        asked = request(
            *frames(times, SEED + 1),
            text(questions[newest % len(questions)]),
            logprobs=True,
            top_logprobs=20,
        )
        status, reply = post(f"{address}/v1/chat/completions", json.dumps(asked).encode())
        assert (status, reply) == (200, twin.chat(asked, 10.0))
        texts.add(reply["choices"][0]["message"]["content"])
    assert len(texts) > 5
    assert twin.usage.requests == 40


def test_both_name_the_model_and_its_tokens(address: str) -> None:
    twin = ScriptedTransport(MODEL)
    with urllib.request.urlopen(f"{address}/v1/models", timeout=30) as reply:
        assert json.load(reply)["data"] == list(twin.models())
    status, reply = post(f"{address}/tokenize", b'{"model": "x", "prompt": "Silence please"}')
    assert (status, reply["tokens"]) == (200, list(twin.tokenize("x", "Silence please")))
    assert reply["count"] == 2


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"{}", b'{"messages": [{"role": "robot", "content": "x"}]}', b" "]
)
def test_a_request_that_cannot_be_read_gets_an_error_and_the_next_one_an_answer(
    address: str, body: bytes
) -> None:
    status, reply = post(f"{address}/v1/chat/completions", body)
    assert status == 400
    assert reply["error"]["message"]
    asked = json.dumps(request(*frames([1.0]), text("What do you see?"))).encode()
    assert post(f"{address}/v1/chat/completions", asked)[0] == 200


def test_the_twin_refuses_as_a_server_does() -> None:
    part = {"type": "image_url", "image_url": {"url": None}, "uuid": "unknown"}
    with pytest.raises(RequestRefused, match="Cache miss for image 'unknown'") as refused:
        ScriptedTransport(MODEL).chat(request(part, text("What?")), 10.0)
    assert refused.value.status == 400
