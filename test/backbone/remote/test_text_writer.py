"""Texts by the server's model: it writes while the streams step, and a text waits for it."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from chat_prompts import Prompt, Refused
from colour_mind import colour_mind, frame, remote_model
from model_server import ModelServer, Words, serve_model

from stream_vlm.backbone.remote.text_writer import RemoteTextWriter, RemoteWriting
from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.summaries.by_model import summary_writer
from stream_vlm.model_protocol import DescribesPictures, WritesTexts
from stream_vlm.types import StreamError

pytest.importorskip("httpx", reason="httpx sends the requests")

SUMMARY = "A ball rolled in. A door opened."


def mind(prompt: Prompt) -> Words:
    return Words(SUMMARY) if "ball" in prompt.text else colour_mind(prompt)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with serve_model(mind) as running:
        yield running


def written(writing: RemoteWriting) -> str:
    for _ in range(1000):
        if writing.is_over:
            break
        writing.advance()
    return writing.text


def test_a_summary_is_written_from_the_newest_lines(server: ModelServer) -> None:
    model = remote_model(server.url)
    writer = model.text_writer("Summarize.", 100, 200)
    lines = [f"line {number}: a ball" for number in range(50)]
    assert written(writer.begin(lines)) == SUMMARY
    text = server.prompts[-1].text
    assert text.startswith("<|im_start|>system\nSummarize.<|im_end|>")
    assert "line 49: a ball<|im_end|>" in text
    assert "line 10:" not in text
    assert server.requests[-1]["max_tokens"] == 200


def test_the_memory_takes_the_server_as_its_summarizer(server: ModelServer) -> None:
    model = remote_model(server.url)
    assert isinstance(model, WritesTexts)
    writer = summary_writer(MemorySettings(summarizer="model"), model)
    assert isinstance(writer, RemoteTextWriter)
    assert written(writer.begin(["a ball rolls in"])) == SUMMARY


def test_a_caption_is_written_about_the_picture_alone(server: ModelServer) -> None:
    model = remote_model(server.url)
    assert isinstance(model, DescribesPictures)
    writer = model.picture_writer("Describe the picture.", 50)
    assert written(writer.begin(frame("blue", 0))) == "It is blue."
    assert server.prompts[-1].text.startswith("<|im_start|>user\n<picture>Describe the picture.")


def test_a_text_that_is_too_long_ends_with_a_whole_word(server: ModelServer) -> None:
    writer = remote_model(server.url).text_writer("Summarize.", 100, 6)
    assert written(writer.begin(["a ball"])) == "A ball"


def test_a_text_waits_while_the_server_is_away(server: ModelServer) -> None:
    model = remote_model(server.url)
    model.server.leave_alone(StreamError("away for the test"))
    writing = model.text_writer("Summarize.", 100, 200).begin(["a ball"])
    writing.advance()
    assert not writing.is_over
    for _ in range(400):
        if not model.fault:
            break
        time.sleep(0.05)
    assert written(writing) == SUMMARY


def test_a_text_of_a_server_that_stays_away_fails_with_the_reason(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream_vlm.backbone.remote.server.FIRST_WAIT_S", 1000.0)
    model = remote_model(server.url)
    model.server.leave_alone(StreamError("away for the test"))
    writing = RemoteTextWriter(model.server, "Summarize.", 100, 200, patience_s=0.0).begin(["x"])
    with pytest.raises(StreamError, match="away for the test"):
        written(writing)


def test_a_refused_text_fails_with_the_servers_words(server: ModelServer) -> None:
    model = remote_model(server.url)

    def refuse(request: Any) -> None:
        raise Refused(400, "too long")

    server.fault = refuse
    with pytest.raises(StreamError, match="too long"):
        written(model.text_writer("Summarize.", 100, 200).begin(["a ball"]))
