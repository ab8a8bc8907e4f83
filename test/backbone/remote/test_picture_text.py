"""A server as the model describes pictures, too, and is asked again after it was away."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from chat_prompts import Refused
from colour_mind import colour_mind, frame, remote_model
from model_server import serve_model

from stream_vlm.backbone.remote.picture_text import ServerWriting
from stream_vlm.backbone.remote.transport import NotTheProtocol, ServerFault
from stream_vlm.config.settings import load_settings
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.model_protocol import DescribesPictures, ModelAway
from stream_vlm.pipeline import Pipeline
from stream_vlm.types import Frame

pytest.importorskip("httpx", reason="httpx sends the requests")


def written(writing: ServerWriting) -> str:
    while not writing.is_over:
        writing.advance()
    return writing.text


def test_the_server_writes_about_the_picture_alone() -> None:
    with serve_model(colour_mind) as server:
        model = remote_model(server.url)
        assert isinstance(model, DescribesPictures)
        probes = len(server.requests)
        text = written(model.picture_writer("Describe it.", 20).begin(frame("red", 0)))
        assert text == "It is red."
        (request,) = server.requests[probes:]
        assert request["max_tokens"] == 20
        (message,) = request["messages"]
        assert [part["type"] for part in message["content"]] == ["image_url", "text"]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [(b"<html>", NotTheProtocol), (b"{}", NotTheProtocol), (503, ServerFault)],
    ids=["html", "another protocol", "error"],
)
def test_a_reply_without_words_is_a_fault_of_the_text(
    reply: bytes | int, kind: type[Exception]
) -> None:
    def fault(request: Mapping[str, Any]) -> bytes | None:
        if isinstance(reply, int):
            raise Refused(reply, "busy")
        return reply

    with serve_model(colour_mind) as server:
        writer = remote_model(server.url).picture_writer("Describe it.", 20)
        server.fault = fault
        with pytest.raises(kind):
            written(writer.begin(frame("red", 0)))


def test_no_text_is_begun_while_the_server_is_left_alone() -> None:
    with serve_model(colour_mind) as server:
        model = remote_model(server.url)
        model.server.leave_alone(ServerFault("it is away"))
        with pytest.raises(ModelAway):
            model.picture_writer("Describe it.", 20).begin(frame("red", 0))


class Film:
    """A red wall for some seconds."""

    name, cameras, live, duration_s = "film", ("front",), False, None

    def frames(self) -> Any:
        for second in range(12):
            shown = frame("red", second)
            yield Frame("front", shown.stamp_ns, "front_optical", shown.image)


def test_a_run_with_a_server_as_the_model_fills_the_memory_with_captions(tmp_path: Path) -> None:
    """Nobody has set a captioner: a model that judges instructions describes pictures by itself."""
    with serve_model(colour_mind) as server:
        settings = load_settings(
            {
                "model.url": server.url,
                "memory.path": str(tmp_path / "memory.db"),
                "memory.caption_s": 5.0,
            }
        )
        with Pipeline(settings) as pipeline:
            for _ in pipeline.run(Film()):
                pass
            found = pipeline.memory.recall(RecallQuery("red", kinds=("caption",))).records
            assert [record.text for record in found] == ["It is red."] * 3
            assert pipeline.memory.idle_health.captions.captioner == pipeline.model.model_id
