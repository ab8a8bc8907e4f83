"""The settings choose a checkpoint or a server; a server needs no torch, and the memory stays."""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from colour_mind import colour_mind, frame
from model_server import ModelServer, serve_model

from stream_vlm import Pipeline, load_settings
from stream_vlm.backbone import load_model
from stream_vlm.backbone.remote.model import RemoteModel
from stream_vlm.config.field import SettingError
from stream_vlm.types import NANOSECONDS, Query, StreamError, Tick

pytest.importorskip("httpx", reason="httpx sends the requests")


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with serve_model(colour_mind) as running:
        yield running


def test_the_server_of_the_settings_is_loaded(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = "open"
    with pytest.raises(StreamError, match="STREAM_VLM_MODEL_KEY"):
        load_model(load_settings({"model.url": server.url}))
    monkeypatch.setenv("STREAM_VLM_MODEL_KEY", "open")
    assert isinstance(load_model(load_settings({"model.url": server.url})), RemoteModel)


def test_a_server_and_a_checkpoint_at_once_are_refused(server: ModelServer) -> None:
    with pytest.raises(SettingError, match="both set"):
        load_model(load_settings({"model.url": server.url, "model.directory": "/models/mine"}))


def test_a_pipeline_with_a_server_imports_neither_torch_nor_transformers(
    server: ModelServer, tmp_path: Path
) -> None:
    program = f"""
        import sys
        import numpy as np
        from stream_vlm import Pipeline, load_settings
        from stream_vlm.types import Frame, Query, Tick

        settings = load_settings({{
            "cameras": ["front"],
            "model.url": {server.url!r},
            "memory.path": {str(tmp_path / "memory.db")!r},
        }})
        with Pipeline(settings) as pipeline:
            pipeline.start("one")
            pipeline.begin_session("one", "a test", 1)
            picture = np.zeros((112, 168, 3), np.uint8)
            picture[..., 2] = 255
            query = Query("q", "Which colour is it?", 1)
            result = pipeline.step(Tick(0, 1, (Frame("front", 1, "", picture),), (query,)))
            print(result.utterances[0].text)
        print(sorted({{"torch", "transformers"}} & set(sys.modules)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["It is blue.", "[]"]


def test_the_pipeline_and_its_memory_go_on_while_the_server_is_away(tmp_path: Path) -> None:
    def tick(number: int) -> Tick:
        query = Query(f"q{number}", "Which colour is it?", number)
        shown = frame("red", number)
        return Tick(number, shown.stamp_ns, (shown,), (query,))

    with serve_model(colour_mind) as server:
        settings = load_settings(
            {
                "cameras": ["front"],
                "model.url": server.url,
                "memory.path": str(tmp_path / "m.db"),
            }
        )
        pipeline = Pipeline(settings)
        pipeline.warm_up()
        pipeline.begin_session("one", "a test", NANOSECONDS)
        assert [said.text for said in pipeline.step(tick(0)).utterances] == ["It is red."]
    with pipeline:
        for number in (1, 2, 3):
            result = pipeline.step(tick(number))
            assert not result.utterances
            assert "127.0.0.1" in result.faults["front"]
        found = pipeline.recaller.recall("What was red?")
        assert "red" in str(found)


def test_a_node_warms_up_without_its_server(tmp_path: Path) -> None:
    settings = load_settings(
        {
            "cameras": ["front"],
            "model.url": "http://127.0.0.1:9/v1",
            "memory.path": str(tmp_path / "m.db"),
        }
    )
    with Pipeline(settings) as pipeline:
        pipeline.warm_up()
        assert isinstance(pipeline.model, RemoteModel)
        assert "start the server" in pipeline.model.fault
