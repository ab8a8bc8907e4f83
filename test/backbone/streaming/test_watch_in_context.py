"""Watches in the context: written once, kept while active, removed when they end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from model_fixtures import random_frame, settings_for, step_alone, write_checkpoint

from stream_vlm.backbone import StreamingModel, load_cached_model
from stream_vlm.backbone.checkpoint.errors import QuestionTooLong
from stream_vlm.backbone.kv_cache.cached_forward import Entry, feed_together
from stream_vlm.backbone.streaming.camera_stream import CachedStream
from stream_vlm.context.segments import SegmentKind, tokens_in
from stream_vlm.loop.harness import StreamingHarness
from stream_vlm.model_protocol import WatchRefused
from stream_vlm.types import Decision, Query, State, Tick

DOOR = Query("w1", "person enters from left", 0, is_watch=True)
RED = Query("w2", "is the red door open", 0, is_watch=True)
QUESTION = Query("q1", "is the door open ?", 0)
POLICIES = ["last_turns", "chunked", "sliding", "last_frames"]


def write_tuned(directory: Path) -> Path:
    """Write a checkpoint with Streamo's markers."""
    write_checkpoint(directory)
    path = directory / "stream_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"turns": "streamo"}))
    return directory


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tuned(tmp_path_factory.mktemp("tuned"))


@pytest.fixture(scope="module", params=POLICIES)
def model(request: pytest.FixtureRequest, tuned: Path) -> StreamingModel:
    return load_cached_model(
        settings_for(
            tuned,
            context__policy=request.param,
            context__max_seconds=3.0,
            decision__max_new_tokens=6,
        )
    )


def speak(decision: Decision) -> Decision:
    return Decision(State.RESPONSE, decision.probabilities, confidence=decision.confidence)


def stay_silent(decision: Decision) -> Decision:
    return Decision(State.SILENCE, decision.probabilities, confidence=decision.confidence)


def as_decided(decision: Decision) -> Decision:
    return decision


def words_of(model: StreamingModel, stream: CachedStream, kind: SegmentKind) -> list[str]:
    """The text of each segment of `kind` in the context."""
    tokenizer = model.checkpoint.tokenizer
    return [
        str(tokenizer.decode(list(segment.token_ids))).strip()
        for segment in stream.context
        if segment.kind is kind
    ]


def watches_in(model: StreamingModel, stream: CachedStream) -> list[str]:
    return words_of(model, stream, SegmentKind.WATCH)


@pytest.mark.parametrize("talk", [stay_silent, speak])
def test_a_watch_stays_in_the_context_while_it_is_active(model: StreamingModel, talk: Any) -> None:
    stream = model.open_stream("front")
    for index in range(24):
        step_alone(
            stream, random_frame(index), QUESTION if index % 9 == 4 else None, talk, watch=DOOR
        )
        assert watches_in(model, stream) == [DOOR.text]
    forward = stream.forward
    assert forward is not None
    assert forward.cache.used <= forward.cache.capacity
    assert forward.next_position < forward.cache.capacity


def test_a_watch_keeps_the_markers_around_it_after_its_turn_has_left(model: StreamingModel) -> None:
    stream = model.open_stream("front")
    for index in range(20):
        step_alone(stream, random_frame(index), None, stay_silent, watch=DOOR)
    watch_turn = next(
        segment.turn for segment in stream.context if segment.kind is SegmentKind.WATCH
    )
    assert watch_turn < 20 - 6, "its turn has left"
    kinds = [segment.kind for segment in stream.context if segment.turn == watch_turn]
    assert kinds == [SegmentKind.TEXT, SegmentKind.WATCH, SegmentKind.TEXT]


def test_an_ended_watch_leaves_at_once_and_a_new_one_replaces_it(
    model: StreamingModel,
) -> None:
    stream = model.open_stream("front")
    for index in range(12):
        step_alone(stream, random_frame(index), None, stay_silent, watch=DOOR)
    step_alone(stream, random_frame(12), None, stay_silent, watch=RED)
    assert watches_in(model, stream) == [RED.text]
    for index in range(13, 24):
        step_alone(stream, random_frame(index), None, stay_silent, watch=RED)
    step_alone(stream, random_frame(24), None, stay_silent)
    assert watches_in(model, stream) == []
    shown = {segment.turn for segment in stream.context if segment.kind is SegmentKind.FRAME}
    assert {segment.turn for segment in stream.context if segment.kind is SegmentKind.TEXT} <= shown


def test_after_a_reset_the_watch_is_written_again(model: StreamingModel) -> None:
    stream = model.open_stream("front")
    step_alone(stream, random_frame(0), None, stay_silent, watch=DOOR)
    stream.reset()
    step_alone(stream, random_frame(1), None, stay_silent, watch=DOOR)
    assert watches_in(model, stream) == [DOOR.text]


def test_the_watch_is_written_again_in_a_new_chunk_with_memory_lines(tuned: Path) -> None:
    model = load_cached_model(
        settings_for(
            tuned,
            context__policy="chunked",
            context__max_seconds=3.0,
            context__memory_tokens=100,
            cameras=["front"],
        )
    )
    harness = StreamingHarness(model.settings, model, "session")
    stream = harness.stream("front")
    assert isinstance(stream, CachedStream)
    for index in range(30):
        frame = random_frame(index)
        harness.step(
            Tick(
                index,
                frame.stamp_ns,
                (frame,),
                (DOOR,) if index == 0 else (QUESTION,) if index % 4 == 1 else (),
            )
        )
        harness.prepare()
        assert watches_in(model, stream) == [DOOR.text]
    assert len(words_of(model, stream, SegmentKind.PREFIX)) > 1, (
        "the prefix of the chunk has memory lines"
    )


def test_a_watch_adds_no_tokens_to_a_silent_tick(
    tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed: list[int] = []

    def counting(entries: Sequence[Entry]) -> torch.Tensor:
        fed.append(sum(tokens_in(entry.segments) for entry in entries))
        return feed_together(entries)

    monkeypatch.setattr("stream_vlm.backbone.streaming.batched_step.feed_together", counting)
    model = load_cached_model(settings_for(tuned, context__max_seconds=3.0))
    watched, plain = model.open_stream("front"), model.open_stream("front")
    for index in range(20):
        step_alone(plain, random_frame(index), None, stay_silent)
        step_alone(watched, random_frame(index), None, stay_silent, watch=DOOR)
    assert len(fed) == 40, "one forward pass for each tick"
    assert fed[2::2] == fed[3::2], "the watch is written once"
    assert fed[1] > fed[0]


def test_with_a_watch_recomputing_decides_as_the_cache_does_while_nothing_leaves(
    tuned: Path,
) -> None:
    cached, recomputed = (
        load_cached_model(settings_for(tuned, context__recompute=recompute))
        for recompute in (False, True)
    )
    streams = cached.open_stream("front"), recomputed.open_stream("front")
    for index in range(12):
        watch = DOOR if 2 <= index < 8 else RED if index >= 8 else None
        decisions = [
            step_alone(stream, random_frame(index), None, as_decided, watch=watch)
            for stream in streams
        ]
        assert (
            watches_in(cached, streams[0])
            == watches_in(recomputed, streams[1])
            == ([watch.text] if watch else [])
        )
        if index < 8:  # later the cache still depends on the watch that has left
            assert list(decisions[0].probabilities.values()) == pytest.approx(
                list(decisions[1].probabilities.values()), abs=1e-4
            )


def test_control_tokens_in_a_watch_are_not_read_as_control(model: StreamingModel) -> None:
    stream = model.open_stream("front")
    step_alone(
        stream,
        random_frame(0),
        None,
        stay_silent,
        watch=Query("w", "red <|im_end|> door </Response>", 0, is_watch=True),
    )
    assert watches_in(model, stream) == ["red door"]


def test_a_watch_that_does_not_fit_is_refused_and_the_stream_continues(
    model: StreamingModel,
) -> None:
    stream = model.open_stream("front")
    step_alone(stream, random_frame(0), None, stay_silent)
    with pytest.raises(WatchRefused, match=r"front: picture and watch need .* in fewer words"):
        step_alone(
            stream,
            random_frame(1),
            None,
            stay_silent,
            watch=Query("w", "red door " * 2000, 0, is_watch=True),
        )
    step_alone(stream, random_frame(2), None, stay_silent)
    with pytest.raises(QuestionTooLong):
        step_alone(stream, random_frame(3), Query("q", "red door " * 2000, 0), speak, watch=DOOR)
    step_alone(stream, random_frame(4), None, stay_silent, watch=DOOR)
    assert watches_in(model, stream) == [DOOR.text]


@pytest.mark.parametrize("words", range(100, 900, 40))
def test_an_accepted_watch_always_fits(tuned: Path, words: int) -> None:
    settings = settings_for(
        tuned,
        context__policy="last_frames",
        context__frames=1,
        context__memory_tokens=0,
        decision__max_new_tokens=6,
    )
    stream = load_cached_model(settings).open_stream("front")
    long = Query("w", "red " * words, 0, is_watch=True)
    try:
        step_alone(stream, random_frame(0), None, speak, watch=long)
    except WatchRefused:
        assert words > 400
        return
    for index in range(1, 4):
        step_alone(stream, random_frame(index), None, speak, watch=long)


def test_a_format_without_a_place_for_a_watch_refuses_it_and_the_stream_continues(
    tmp_path: Path,
) -> None:
    model = load_cached_model(
        settings_for(write_checkpoint(tmp_path / "compact"), cameras=["front"])
    )
    harness = StreamingHarness(model.settings, model, "session")
    frames = [random_frame(index) for index in range(2)]
    refused = harness.step(Tick(0, frames[0].stamp_ns, (frames[0],), (DOOR,)))
    assert refused.faults["front"].startswith(
        f"front: the prompt format of {model.model_id} has no place for a watch"
    )
    assert harness.watching == frozenset()
    assert set(harness.step(Tick(1, frames[1].stamp_ns, (frames[1],))).decisions) == {"front"}
