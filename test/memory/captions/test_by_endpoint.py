"""An endpoint writes captions of pictures that it gets; if it fails, the memory goes on."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from judge_server import serve_judge
from memory_fixtures import begin, picture, seconds, settings, step
from summary_fixtures import run_idle_work

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.captions.by_endpoint import KEY, EndpointCaptioner
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.recording.sync_writer import SyncWriter
from stream_vlm.memory.search.query import RecallQuery, RecallRecord
from stream_vlm.memory.storage.errors import CaptionerError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.db"


def by_endpoint(path: Path, url: str) -> MemorySettings:
    return settings(
        path,
        captioner="endpoint",
        caption_url=url,
        caption_model="eyes",
        caption_timeout_s=20.0,
    )


@contextmanager
def opened(path: Path, url: str) -> Iterator[tuple[Memory, EndpointCaptioner]]:
    with Memory.open(by_endpoint(path, url)) as memory:
        begin(memory)
        assert memory.captions is not None
        yield memory, EndpointCaptioner(memory.settings, memory.captions, "", {KEY: "secret"})


def see(memory: Memory, at: float, red: int = 200) -> None:
    result = step(at, image=picture(red))
    memory.write(result)
    assert memory.captions is not None
    memory.captions.note(result)


def captions(memory: Memory) -> list[RecallRecord]:
    query = RecallQuery(kinds=("caption",), order="oldest", limit=1000)
    return list(memory.recall(query).records)


def test_the_endpoint_gets_the_picture_and_its_reply_is_stored(path: Path) -> None:
    with serve_judge(lambda content: "**A red wall.** And a") as server:
        with opened(path, server.url) as (memory, captioner):
            see(memory, 3, red=240)
            captioner.wait()
            run_idle_work(memory)
            (caption,) = captions(memory)
        assert (caption.text, caption.model_id) == ("A red wall.", "eyes")
        assert caption.stamp_ns == seconds(3)
        (request,) = server.requests
        assert request["model"] == "eyes"
        assert server.headers[0]["Authorization"] == "Bearer secret"
        shown, said = request["messages"][-1]["content"]
        head, _, data = shown["image_url"]["url"].partition(",")
        assert head == "data:image/jpeg;base64"
        sent = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert sent is not None
        assert sent.shape == (48, 64, 3)
        assert abs(int(sent[0, 0, 2]) - 240) < 10
        assert said["text"].startswith("Describe this picture")


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (500, "500 Internal Server Error"),
        (b"<html>Bad Gateway</html>", "no caption from the endpoint"),
        (b"{}", "no caption from the endpoint"),
        ("", "a caption by eyes is rejected"),
        ("word " * 100, "a caption by eyes is rejected"),
    ],
    ids=["error", "html", "another protocol", "empty", "too long"],
)
def test_a_failing_endpoint_stores_nothing_and_is_logged_once(
    path: Path, reply: str | int | bytes, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        serve_judge(lambda content: reply) as server,
        opened(path, server.url) as (memory, captioner),
    ):
        for at in (0, 10, 20):
            see(memory, at)
            captioner.wait()
        run_idle_work(memory)
        assert captions(memory) == []
        health = memory.idle_health.captions
        assert says in health.fault
        assert (health.written, health.failures) == (0, 3)
    assert len([one for one in caplog.records if "caption" in one.message]) == 1


def test_while_the_endpoint_thinks_only_the_newest_picture_waits(path: Path) -> None:
    asked, may_answer = threading.Event(), threading.Event()

    def reply(content: Any) -> str:
        asked.set()
        may_answer.wait(30)
        return "A wall."

    with serve_judge(reply) as server, opened(path, server.url) as (memory, captioner):
        see(memory, 0)
        assert asked.wait(30)
        for at in (10, 20, 30):
            see(memory, at)
        may_answer.set()
        captioner.wait()
        run_idle_work(memory)
        assert [one.stamp_ns for one in captions(memory)] == [seconds(0), seconds(30)]


def test_the_sync_writer_waits_for_each_caption(path: Path) -> None:
    with (
        serve_judge(lambda content: "A wall.") as server,
        opened(path, server.url) as (memory, captioner),
    ):
        writer = SyncWriter(memory, captioner=captioner)
        for at in range(25):
            see(memory, at)
            writer.write_texts()
        assert [one.stamp_ns for one in captions(memory)] == [seconds(at) for at in (0, 10, 20)]


def test_closing_the_memory_does_not_wait_for_an_endpoint_that_never_answers(path: Path) -> None:
    may_end = threading.Event()

    def reply(content: Any) -> str:
        may_end.wait(60)
        return "A wall."

    with serve_judge(reply) as server:
        with opened(path, server.url) as (memory, _):
            see(memory, 0)
        # The memory is closed while the request still runs.
        assert not may_end.is_set()
        may_end.set()


@pytest.mark.parametrize("missing", ["caption_url", "caption_model"])
def test_an_endpoint_without_url_or_model_is_refused(path: Path, missing: str) -> None:
    chosen = by_endpoint(path, "http://localhost:1/v1").model_copy(update={missing: ""})
    with Memory.open(chosen) as memory:
        assert memory.captions is not None
        with pytest.raises(CaptionerError, match=f"memory.{missing}: is empty"):
            EndpointCaptioner(chosen, memory.captions)
