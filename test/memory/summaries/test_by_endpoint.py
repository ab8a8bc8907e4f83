"""An endpoint rewrites summaries; if it fails, the extractive summary is kept."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from judge_server import serve_judge
from memory_fixtures import SESSION, begin, seconds, settings, step
from summary_fixtures import (
    LONG_S,
    CallbackCounter,
    chunks_of,
    covers,
    run_idle_work,
    summaries,
    texts,
)

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.maintenance.forget import Forget
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.memory.storage.errors import MemoryFileError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.db"


def with_endpoint(path: Path, url: str) -> MemorySettings:
    return chunks_of(
        10,
        path,
        summarizer="endpoint",
        summary_url=url,
        summary_model="wordy",
        summary_timeout_s=20.0,
    )


def test_an_endpoint_rewrites_a_summary_from_the_records_alone(path: Path) -> None:
    with serve_judge(
        lambda text: "<think>hm</think>In the end a cup stands there; before, a ball rolled by."
    ) as server:
        with Memory.open(with_endpoint(path, server.url)) as memory:
            begin(memory)
            for number in range(12):
                memory.write(
                    step(
                        number, said={3: "a ball rolls in", 7: "a cup is put down"}.get(number, "")
                    )
                )
            memory.end_session(LONG_S, for_endpoint=True)
            first, second = summaries(memory)
            assert first.text == "In the end a cup stands there; before, a ball rolled by."
            assert first.model_id == "wordy"
            assert len(covers(memory, first.record_id)) == 14
            # Nothing happened in the second chunk, so there is nothing to rewrite.
            assert second.text == "2× silence"
            assert memory.idle_health.written == 1
            (found,) = memory.recall(RecallQuery("stands", kinds=("summary",))).records
            assert found.record_id == first.record_id
            assert memory.recall(RecallQuery("rolls 0:02", kinds=("summary",))).total == 1
        assert [request["messages"][1]["content"] for request in server.requests] == [
            "0:02 a ball rolls in\n0:06 a cup is put down"
        ]
        assert server.requests[0]["model"] == "wordy"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (500, "no summary from the endpoint"),
        ("", "rejected: it is empty"),
        (
            "Sorry, I cannot see anything.",
            "rejected: it mentions nothing of what it should summarise",
        ),
        ("a ball " * 100, "rejected: it has 699 characters, more than 400"),
        (b"{}", "no summary from the endpoint"),
    ],
    ids=["error", "empty", "about nothing", "too long", "another protocol"],
)
def test_a_failing_endpoint_leaves_the_extractive_summary_and_is_logged_once(
    path: Path, reply: str | int | bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        serve_judge(lambda text: reply) as server,
        Memory.open(with_endpoint(path, server.url)) as memory,
    ):
        begin(memory)
        for number in range(25):
            memory.write(step(number, said="a ball" if number % 10 == 5 else ""))
        memory.end_session(LONG_S, for_endpoint=True)
        assert texts(memory) == ["0:04–0:05 a ball", "0:04–0:05 a ball", "5× silence"]
        assert said in memory.idle_health.fault
        assert memory.idle_health.failures == 2
    assert caplog.text.count("the extractive summary is kept") == 1


def test_a_summary_of_records_deleted_meanwhile_is_not_stored(path: Path) -> None:
    asked, forgotten = threading.Event(), threading.Event()

    def reply(text: str) -> str:
        asked.set()
        forgotten.wait(LONG_S)
        return "A xylophone was played."

    with serve_judge(reply) as server, Memory.open(with_endpoint(path, server.url)) as memory:
        begin(memory)
        for number in range(12):
            memory.write(step(number, said="a xylophone is played" if number == 3 else ""))
        run_idle_work(memory)
        assert asked.wait(LONG_S)
        memory.forget(Forget(start_ns=seconds(2), end_ns=seconds(4)))
        forgotten.set()
        memory.end_session(LONG_S, for_endpoint=True)
        assert not any("xylophone" in text for text in texts(memory))
        assert memory.idle_health.written == 0


def test_a_reply_of_the_endpoint_is_stored_without_a_new_step(path: Path) -> None:
    with (
        serve_judge(lambda text: "There was a ball.") as server,
        Memory.open(with_endpoint(path, server.url)) as memory,
    ):
        writer = CallbackCounter().writer(memory)
        writer.begin_session(SESSION, "model", "test", seconds(0))
        for number in range(12):
            writer.submit(step(number, said="a ball" if number == 3 else ""))
        for _ in range(300):
            if texts(memory)[:1] == ["There was a ball."]:
                break
            writer.wait_idle(0.1)
            threading.Event().wait(0.1)
        assert texts(memory) == ["There was a ball."]
        writer.close()


@pytest.mark.parametrize("missing", ["summary_url", "summary_model"])
def test_an_endpoint_without_url_or_model_is_refused_at_the_start(path: Path, missing: str) -> None:
    chosen = with_endpoint(path, "http://localhost:1/v1").model_copy(update={missing: ""})
    with pytest.raises(MemoryFileError, match=f"memory.{missing}: is empty"):
        Memory.open(chosen)
    with Memory.open(settings(path)):
        """The file was let go."""
