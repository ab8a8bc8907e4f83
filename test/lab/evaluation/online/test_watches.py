"""An examined model gets watches, ends them in time, and starts each stream without a watch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model_fixtures import settings_for, write_checkpoint

from stream_vlm.backbone import load_cached_model
from stream_vlm.backbone.streaming_model import StreamingModel
from stream_vlm.types import NANOSECONDS, Frame
from stream_vlm_lab.evaluation.online.online_pass import HarnessModel, TimedQuestion, run_stream

DOOR = TimedQuestion(1.0, "person enters from left", is_watch=True, until=2.0)


def frames(count: int) -> list[Frame]:
    rng = np.random.default_rng(0)
    return [
        Frame("camera", tick * NANOSECONDS // 2, "", rng.integers(0, 255, (96, 128, 3), np.uint8))
        for tick in range(count)
    ]


def model_with(directory: Path, turns: str) -> StreamingModel:
    write_checkpoint(directory)
    return load_cached_model(settings_for(directory, model__prompt_format=turns))


@pytest.fixture
def watching_model(tmp_path: Path) -> HarnessModel:
    model = model_with(tmp_path, "streamo")
    return HarnessModel("ours", model.settings, model)


def has_watch(model: HarnessModel) -> bool:
    return bool(model.harness.watching)


def test_a_watch_is_active_from_its_tick_until_it_ends(
    watching_model: HarnessModel,
) -> None:
    watching_model.start_stream("s")
    active = []
    for index, frame in enumerate(frames(7)):
        step = watching_model.step(index, index / 2, frame, DOOR if index == 2 else None)
        assert not step.refused
        assert not step.fault
        active.append(has_watch(watching_model))
    assert active == [False, False, True, True, True, False, False]


def test_a_new_stream_begins_without_a_watch(watching_model: HarnessModel) -> None:
    run_stream(watching_model, frames(4), [DOOR], "first")
    assert has_watch(watching_model)
    watching_model.start_stream("second")
    assert not has_watch(watching_model)


def test_a_model_without_support_for_watches_refuses_each_one_with_a_reason(tmp_path: Path) -> None:
    model = model_with(tmp_path, "compact")
    result = run_stream(HarnessModel("ours", model.settings, model), frames(6), [DOOR], "s")
    assert [question for question, _ in result.refused] == [DOOR]
    assert "has no place for a watch" in result.refused[0][1]
    assert len(result.states) == 6
