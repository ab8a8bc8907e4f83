"""Pictures that are encoded ahead give the same decisions and are used for their own step only."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from model_fixtures import random_frame, settings_for, write_checkpoint

from stream_vlm.backbone import StreamingModel, load_cached_model
from stream_vlm.loop.harness import StreamingHarness
from stream_vlm.sources.ticks import with_next
from stream_vlm.types import Decision, Query, StepResult, StreamError, Tick
from stream_vlm.vision.prefetch import VisionPrefetcher


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def tick(index: int, seed: int | None = None) -> Tick:
    frames = tuple(
        random_frame(index if seed is None else seed, camera) for camera in ("front", "rear")
    )
    queries = (Query(f"q{index}", "is the door open ?", 0, "front"),) if index % 3 == 0 else ()
    return Tick(index, frames[0].stamp_ns, frames, queries)


def watch(model: StreamingModel, ahead: bool, wrong: bool = False) -> list[StepResult]:
    harness = StreamingHarness(model.settings, model, "session")
    results = []
    for index in range(10):
        coming = tick(index + 1, seed=500 + index if wrong else None) if ahead else None
        results.append(harness.step(tick(index), upcoming=coming))
    return results


def decisions(results: list[StepResult]) -> list[Decision]:
    return [decision for result in results for decision in result.decisions.values()]


@pytest.fixture
def model(checkpoint: Path) -> StreamingModel:
    model = load_cached_model(settings_for(checkpoint))
    # Prefetching is off on a CPU, where it saves no time; the test switches it on.
    prefetcher = VisionPrefetcher(model.parts.tower, torch.device(model.device))
    model.parts = replace(model.parts, prefetcher=prefetcher)
    return model


def test_prefetched_pictures_give_the_same_decisions(
    checkpoint: Path, model: StreamingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[bool] = []
    take = VisionPrefetcher.take

    def counting(self: VisionPrefetcher, *arguments: object) -> object:
        tokens = take(self, *arguments)  # type: ignore[arg-type]
        taken.append(tokens is not None)
        return tokens

    monkeypatch.setattr(VisionPrefetcher, "take", counting)
    expected = decisions(watch(load_cached_model(settings_for(checkpoint)), ahead=False))
    got = decisions(watch(model, ahead=True))
    assert sum(taken) >= 3, (
        "answers are written at some ticks, and the next pictures are encoded then"
    )
    for one, other in zip(got, expected, strict=True):
        assert one.text == other.text
        assert list(one.probabilities.values()) == pytest.approx(
            list(other.probabilities.values()), abs=1e-5
        )


def test_a_picture_other_than_the_announced_one_is_encoded_in_its_own_step(
    checkpoint: Path, model: StreamingModel
) -> None:
    expected = decisions(watch(load_cached_model(settings_for(checkpoint)), ahead=False))
    got = decisions(watch(model, ahead=True, wrong=True))
    assert [decision.text for decision in got] == [decision.text for decision in expected]


def test_prefetched_tokens_are_returned_once_and_only_for_the_same_pictures(
    model: StreamingModel,
) -> None:
    assert model.parts.prefetcher is not None
    pictures = np.zeros((2, 128, 192, 3), np.uint8)
    model.parts.prefetcher.encode("front", pictures)
    assert model.parts.prefetcher.take("front", pictures + 1) is None
    model.parts.prefetcher.encode("front", pictures)
    assert model.parts.prefetcher.take("rear", pictures) is None
    assert model.parts.prefetcher.take("front", pictures) is not None
    assert model.parts.prefetcher.take("front", pictures) is None


def test_each_tick_comes_with_the_next_and_no_tick_is_lost_if_the_source_fails() -> None:
    ticks = [tick(index) for index in range(3)]
    assert list(with_next(ticks)) == [(ticks[0], ticks[1]), (ticks[1], ticks[2]), (ticks[2], None)]
    assert list(with_next([])) == []

    def broken() -> Iterator[Tick]:
        yield from ticks
        raise StreamError("the file ends in the middle of a picture")

    seen = []
    with pytest.raises(StreamError, match="in the middle"):
        for one, _ in with_next(broken()):
            seen.append(one)
    assert seen == ticks
