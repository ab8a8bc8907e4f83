"""Several streams in one forward pass: each decides as it does alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from model_fixtures import decisions, random_frame, settings_for, step_alone, write_checkpoint

from stream_vlm.backbone import StreamingModel, load_cached_model
from stream_vlm.backbone.checkpoint.errors import ModelFault
from stream_vlm.backbone.kv_cache.cached_forward import Entry, feed_together
from stream_vlm.backbone.streaming.camera_stream import CachedStream
from stream_vlm.context.segments import SegmentKind
from stream_vlm.model_protocol import Turn
from stream_vlm.types import Decision, Frame, Query, State, StreamError

CAMERAS = ("front", "rear", "left")


@pytest.fixture(scope="module", params=["last_turns", "chunked", "sliding", "last_frames"])
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> StreamingModel:
    directory = write_checkpoint(tmp_path_factory.mktemp("checkpoint"))
    return load_cached_model(
        settings_for(
            directory,
            context__policy=request.param,
            context__max_seconds=4.0,
            decision__max_new_tokens=12,
        )
    )


def speak_now_and_then(index: int, camera: str) -> State:
    """Cameras speak at different ticks, sometimes several at the same tick."""
    return State.RESPONSE if (index + len(camera)) % 3 == 0 else State.SILENCE


def turn(stream: CachedStream, index: int, seed: int, size: tuple[int, int] = (96, 128)) -> Turn:
    frame = random_frame(index + 100 * seed, stream.camera, size)
    frame = Frame(frame.camera, 1 + index * 500_000_000, frame.frame_id, frame.image)
    query = Query(f"q{index}", "is the door open ?", 0) if (index + seed) % 5 == 4 else None
    state = State.RESPONSE if query else speak_now_and_then(index, stream.camera)
    return Turn(
        stream,
        frame,
        query=query,
        gate=lambda decision: Decision(
            state, decision.probabilities, confidence=decision.confidence
        ),
    )


def assert_alike(one: Decision | StreamError, other: Decision | StreamError) -> None:
    assert isinstance(one, Decision)
    assert isinstance(other, Decision)
    assert (one.state, one.text) == (other.state, other.text)
    assert list(one.probabilities.values()) == pytest.approx(
        list(other.probabilities.values()), abs=1e-4
    )


def test_each_stream_writes_the_same_words_as_alone(model: StreamingModel) -> None:
    alone = {camera: model.open_stream(camera) for camera in CAMERAS}
    together = {camera: model.open_stream(camera) for camera in CAMERAS}
    spoken = 0
    for index in range(18):
        # One camera is slower, and one sends no frames for a while.
        shown = [
            camera
            for camera in CAMERAS
            if not (camera == "rear" and index % 2) and not (camera == "left" and 8 <= index < 14)
        ]
        outcomes = decisions(
            model.step([turn(together[camera], index, CAMERAS.index(camera)) for camera in shown])
        )
        for camera, outcome in zip(shown, outcomes, strict=True):
            expected = decisions(model.step([turn(alone[camera], index, CAMERAS.index(camera))]))[0]
            assert_alike(outcome, expected)
            assert isinstance(outcome, Decision)
            spoken += bool(outcome.text)
    assert spoken > 10
    for camera in CAMERAS:
        assert together[camera].context == alone[camera].context


def test_all_cameras_of_a_tick_share_one_forward_pass(
    model: StreamingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    forwards: list[int] = []

    def counting(entries: Sequence[Entry]) -> torch.Tensor:
        forwards.append(len(entries))
        return feed_together(entries)

    monkeypatch.setattr("stream_vlm.backbone.streaming.batched_step.feed_together", counting)
    streams = [model.open_stream(camera) for camera in CAMERAS]
    silent = lambda decision: Decision(State.SILENCE, decision.probabilities)  # noqa: E731
    for index in range(5):
        decisions(
            model.step(
                [
                    Turn(stream, random_frame(index, stream.camera), gate=silent)
                    for stream in streams
                ]
            )
        )
    assert forwards == [3] * 5


def test_a_camera_whose_picture_cannot_be_used_does_not_stop_the_others(
    model: StreamingModel,
) -> None:
    good, bad = model.open_stream("front"), model.open_stream("rear")
    strip = Frame("rear", 1, "rear_optical", np.zeros((1, 500, 3), np.uint8))
    outcomes = decisions(model.step([Turn(bad, strip), turn(good, 0, 0)]))
    assert isinstance(outcomes[0], StreamError)
    assert isinstance(outcomes[1], Decision)


def test_a_question_too_long_for_one_camera_does_not_stop_the_others(model: StreamingModel) -> None:
    good, bad = model.open_stream("front"), model.open_stream("rear")
    long = Query("q", "is the door open ? " * 2000, 0)
    outcomes = decisions(
        model.step([Turn(bad, random_frame(0, "rear"), query=long), turn(good, 0, 0)])
    )
    assert isinstance(outcomes[0], StreamError)
    assert isinstance(outcomes[1], Decision)
    assert isinstance(decisions(model.step([turn(bad, 1, 1)]))[0], Decision)


def test_out_of_memory_is_reported_and_clears_every_stream(
    model: StreamingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = [model.open_stream(camera) for camera in CAMERAS]
    first = decisions(model.step([turn(stream, 0, 0) for stream in streams]))

    def no_memory(entries: Sequence[Entry]) -> torch.Tensor:
        feed_together(entries)
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr("stream_vlm.backbone.streaming.batched_step.feed_together", no_memory)
        for outcome in decisions(model.step([turn(stream, 1, 0) for stream in streams])):
            assert isinstance(outcome, ModelFault)
            assert "out of memory" in str(outcome)
            assert "lower context.max_seconds" in str(outcome)
    for outcome, expected in zip(
        decisions(model.step([turn(stream, 0, 0) for stream in streams])), first, strict=True
    ):
        assert_alike(outcome, expected)


def test_a_context_longer_than_the_model_allows_is_fitted_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_cached_model(
        settings_for(write_checkpoint(tmp_path / "checkpoint"), context__max_seconds=3600.0)
    )
    caplog.clear()
    outcome = decisions(model.step([turn(model.open_stream("front"), 0, 0)]))[0]
    assert isinstance(outcome, Decision)
    assert "was trained for 8192 positions" in caplog.text
    assert "Lower context.max_seconds" in caplog.text


def test_sampled_words_are_the_same_in_every_run_and_differ_from_greedy_words(
    tmp_path: Path,
) -> None:
    directory = write_checkpoint(tmp_path / "checkpoint")

    def words(**settings: float) -> list[str]:
        model = load_cached_model(settings_for(directory, **settings))
        stream = model.open_stream("front")
        speak = lambda decision: Decision(State.RESPONSE, decision.probabilities)  # noqa: E731
        return [step_alone(stream, random_frame(index), None, speak).text for index in range(6)]

    drawn = words(sampling__temperature=1.5, sampling__top_k=10, sampling__top_p=0.9)
    assert drawn == words(sampling__temperature=1.5, sampling__top_k=10, sampling__top_p=0.9)
    assert drawn != words(
        sampling__temperature=1.5, sampling__top_k=10, sampling__top_p=0.9, sampling__seed=1
    )
    assert drawn != words()


def test_recomputing_decides_as_the_cache_does_while_nothing_leaves_the_context(
    tmp_path: Path,
) -> None:
    directory = write_checkpoint(tmp_path / "checkpoint")
    cached, recomputed = (
        load_cached_model(settings_for(directory, context__recompute=recompute))
        for recompute in (False, True)
    )
    streams = cached.open_stream("front"), recomputed.open_stream("front")
    for index in range(12):
        assert_alike(
            decisions(cached.step([turn(streams[0], index, 0)]))[0],
            decisions(recomputed.step([turn(streams[1], index, 0)]))[0],
        )


def test_after_a_change_of_rate_the_context_has_as_many_seconds_as_the_cache_can_hold(
    tmp_path: Path,
) -> None:
    model = load_cached_model(
        settings_for(
            write_checkpoint(tmp_path / "checkpoint"),
            context__max_seconds=10.0,
            stream__rate_hz=2.0,
        )
    )
    stream = model.open_stream("front")
    silent = lambda decision: Decision(State.SILENCE, decision.probabilities)  # noqa: E731

    def longest(ticks: int) -> int:
        turns = []
        for index in range(ticks):
            step_alone(stream, random_frame(index), None, silent)
            turns.append(len({segment.turn for segment in stream.context if segment.turn >= 0}))
        return max(turns[-30:])

    assert longest(40) == 20
    model.settings.stream.rate_hz = 1.0
    assert longest(40) == 10
    model.settings.stream.rate_hz = 8.0
    assert 20 < longest(100) < 40
    assert stream.forward is not None
    assert stream.forward.cache.used <= stream.forward.cache.capacity


def test_logits_that_are_not_finite_in_an_utterance_affect_only_that_camera(
    model: StreamingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = model.open_stream("front"), model.open_stream("rear")
    expected = decisions(model.step([turn(model.open_stream("front"), 1, 0)]))[0]

    def failing(entries: Sequence[Entry]) -> torch.Tensor:
        rows = feed_together(entries)
        for row, entry in zip(rows, entries, strict=True):
            # The second word of the rear camera's utterance.
            if (
                entry.forward is bad.forward
                and len(entry.segments) == 1
                and entry.segments[0].kind is SegmentKind.ACTION
            ):
                row.fill_(float("nan"))
        return rows

    def speak(decision: Decision) -> Decision:
        return Decision(State.RESPONSE, decision.probabilities, confidence=decision.confidence)

    with monkeypatch.context() as patch:
        patch.setattr("stream_vlm.backbone.streaming.batched_step.feed_together", failing)
        outcomes = decisions(
            model.step([turn(good, 1, 0), Turn(bad, random_frame(1, "rear"), gate=speak)])
        )
    assert_alike(outcomes[0], expected)
    assert isinstance(outcomes[1], ModelFault)
    assert "rear: the model's logits are not finite" in str(outcomes[1])
    assert bad.context == []
    assert isinstance(decisions(model.step([turn(bad, 2, 1)]))[0], Decision)
