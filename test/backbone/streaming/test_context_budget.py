"""A context fits the model's positions: fewer turns with a warning, or a refusal at loading."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from model_fixtures import FAMILIES, random_frame, settings_for, step_alone, write_checkpoint

from stream_vlm.backbone.streaming.context_budget import ContextTooLong, plan_context
from stream_vlm.backbone.streaming_model import StreamingModel, load_cached_model
from stream_vlm.context.segments import tokens_in
from stream_vlm.types import Decision, State

POLICIES = ("last_turns", "chunked", "sliding", "last_frames")
WINDOWS = {"vision_turns": 100, "text_turns": 100, "text_sink": 8, "text_window": 8}


@pytest.fixture(scope="module", params=FAMILIES)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    return write_checkpoint(folder / "model", layers=1, family=request.param)


def with_positions(saved: Path, to: Path, positions: int, **stream: Any) -> Path:
    """A copy of the checkpoint with this many positions, and changes of its stream config."""
    directory = Path(shutil.copytree(saved, to))
    config = json.loads((directory / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = positions
    (directory / "config.json").write_text(json.dumps(config))
    path = directory / "stream_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | stream))
    return directory


def silent(decision: Decision) -> Decision:
    return Decision(State.SILENCE, decision.probabilities, confidence=decision.confidence)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_context_that_is_too_long_keeps_the_turns_that_fit_and_warns(
    saved: Path, policy: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = with_positions(
        saved, tmp_path / "model", 400, policy=policy, max_turns=100, sliding=WINDOWS
    )
    model = load_cached_model(settings_for(directory, context__frames=64))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        stream = model.open_stream("front")
        for index in range(16):
            step_alone(stream, random_frame(index), None, silent)
            assert tokens_in(stream.context) <= 400
    assert "was trained for 400 positions" in caplog.text
    assert stream.plan.policy.max_tokens <= 400
    assert 2 <= stream.plan.policy.most_turns < 64


def test_a_context_that_fits_is_unchanged_and_nothing_is_said(
    saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        model = load_cached_model(settings_for(saved))
        plan = plan_context(model.parts, 24)
    assert plan.policy.most_turns == model.checkpoint.stream.max_turns
    assert "positions" not in caplog.text


def test_seconds_that_are_too_many_are_fitted_too(
    saved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = with_positions(saved, tmp_path / "model", 400)
    model = load_cached_model(settings_for(directory, context__max_seconds=600.0))
    plan = plan_context(model.parts, 24)
    assert plan.policy.most_turns < 20
    assert "lower" in caplog.text.lower()


def test_a_model_in_which_no_context_fits_is_refused_when_it_is_loaded(
    saved: Path, tmp_path: Path
) -> None:
    directory = with_positions(saved, tmp_path / "model", 40)
    with pytest.raises(ContextTooLong, match=r"trained for 40 positions; lower decision"):
        load_cached_model(settings_for(directory))


def test_the_tick_rate_is_that_of_the_checkpoint(saved: Path, tmp_path: Path) -> None:
    directory = with_positions(saved, tmp_path / "model", 4000, rate_hz=4.0)
    model = load_cached_model(settings_for(directory))
    assert isinstance(model, StreamingModel)
    assert (model.rate_hz, model.settings.stream.tick_rate_hz) == (4.0, 4.0)
    chosen = load_cached_model(settings_for(directory, stream__rate_hz=1.0))
    assert chosen.settings.stream.tick_rate_hz == 1.0


def test_a_checkpoint_without_a_rate_runs_at_1_hz(saved: Path, tmp_path: Path) -> None:
    directory = with_positions(saved, tmp_path / "model", 4000)
    path = directory / "stream_config.json"
    content = json.loads(path.read_text())
    del content["rate_hz"]
    path.write_text(json.dumps(content))
    assert load_cached_model(settings_for(directory)).settings.stream.tick_rate_hz == 1.0
    path.unlink()
    assert load_cached_model(settings_for(directory)).settings.stream.tick_rate_hz == 1.0
