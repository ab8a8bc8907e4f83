"""A harness that is examined is told what to wait for, stops waiting when the time is over, and
takes no watch into the next stream.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model_fixtures import settings_for, write_checkpoint

from stream_vlm.backbone import load_cached_model
from stream_vlm.backbone.streaming_model import StreamingModel
from stream_vlm.types import NANOSECONDS, Frame
from stream_vlm_lab.evaluation.online.online_pass import HarnessWatcher, TimedQuestion, watch_stream

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
def telling(tmp_path: Path) -> HarnessWatcher:
    model = model_with(tmp_path, "streamo")
    return HarnessWatcher("ours", model.settings, model)


def waiting(watcher: HarnessWatcher) -> bool:
    return bool(watcher._harness.watching)


def test_a_watch_is_active_from_its_tick_until_its_time_is_over(telling: HarnessWatcher) -> None:
    telling.begin("s")
    active = []
    for index, frame in enumerate(frames(7)):
        look = telling.look(index, index / 2, frame, DOOR if index == 2 else None)
        assert not look.refused
        assert not look.fault
        active.append(waiting(telling))
    assert active == [False, False, True, True, True, False, False]


def test_a_new_stream_begins_with_nothing_to_wait_for(telling: HarnessWatcher) -> None:
    watch_stream(telling, frames(4), [DOOR], "first")
    assert waiting(telling)
    telling.begin("second")
    assert not waiting(telling)


def test_a_model_without_a_place_for_watches_refuses_each_and_says_why(tmp_path: Path) -> None:
    model = model_with(tmp_path, "compact")
    watched = watch_stream(HarnessWatcher("ours", model.settings, model), frames(6), [DOOR], "s")
    assert [question for question, _ in watched.refused] == [DOOR]
    assert "was not made to be told what to wait for" in watched.refused[0][1]
    assert len(watched.states) == 6
