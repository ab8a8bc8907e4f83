"""Watches in the engine: told once, judged every turn, never forgotten while active, gone when
over.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from model_fixtures import random_frame, settings_for, step_alone, write_checkpoint
from trace_recording import write_streaming_vlm_checkpoint

from stream_vlm.backbone import StreamingModel, load_cached_model
from stream_vlm.backbone.checkpoint.errors import QuestionTooLong
from stream_vlm.backbone.kv_cache.cached_forward import Entry, feed_together
from stream_vlm.backbone.streaming.camera_stream import CachedStream
from stream_vlm.context.layout import tokens_in
from stream_vlm.context.segments import SegmentKind
from stream_vlm.context.turn_formats import PROMPTED
from stream_vlm.loop.harness import StreamingHarness
from stream_vlm.model_protocol import WatchRefused
from stream_vlm.types import Decision, Query, State, Tick

DOOR = Query("w1", "person enters from left", 0, is_watch=True)
RED = Query("w2", "is the red door open", 0, is_watch=True)
QUESTION = Query("q1", "is the door open ?", 0)
POLICIES = ["last_turns", "chunked", "sliding", "last_frames"]
STATE_WORDS = {"silence": "no", "standby": "maybe", "response": "yes"}
"""The byte tokenizer of the tests tells words apart by their first letter."""


def write_tuned(directory: Path) -> Path:
    """A checkpoint of a model that was tuned with Streamo's markers."""
    write_checkpoint(directory)
    path = directory / "stream_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"turns": "streamo"}))
    return directory


def write_untuned(directory: Path) -> Path:
    """A checkpoint of a model that never saw a stream and is driven by words."""
    write_streaming_vlm_checkpoint(directory)
    (directory / "stream_config.json").write_text(
        json.dumps({"name": "untuned", "turns": PROMPTED.model_dump() | STATE_WORDS})
    )
    return directory


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tuned(tmp_path_factory.mktemp("tuned"))


@pytest.fixture(scope="module")
def untuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_untuned(tmp_path_factory.mktemp("untuned") / "model")


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
    """The text of each segment of `kind` that the context holds."""
    tokenizer = model.checkpoint.tokenizer
    return [
        str(tokenizer.decode(list(segment.token_ids))).strip()
        for segment in stream.context
        if segment.kind is kind
    ]


def watches_in(model: StreamingModel, stream: CachedStream) -> list[str]:
    return words_of(model, stream, SegmentKind.WATCH)


@pytest.mark.parametrize("talk", [stay_silent, speak])
def test_a_watch_stays_in_the_context_for_as_long_as_it_is_active(
    model: StreamingModel, talk: Any
) -> None:
    stream = model.open_stream("front")
    for index in range(40):
        step_alone(
            stream, random_frame(index), QUESTION if index % 9 == 4 else None, talk, watch=DOOR
        )
        assert watches_in(model, stream) == [DOOR.text]
    forward = stream.forward
    assert forward is not None
    assert forward.cache.used <= forward.cache.capacity
    assert forward.next_position < forward.cache.capacity


def test_a_watch_stays_in_its_users_markers(model: StreamingModel) -> None:
    stream = model.open_stream("front")
    for index in range(20):
        step_alone(stream, random_frame(index), None, stay_silent, watch=DOOR)
    told = next(segment.turn for segment in stream.context if segment.kind is SegmentKind.WATCH)
    assert told < 20 - 6, "its turn has left"
    kinds = [segment.kind for segment in stream.context if segment.turn == told]
    assert kinds == [SegmentKind.TEXT, SegmentKind.WATCH, SegmentKind.TEXT]


def test_a_watch_that_is_over_leaves_at_once_and_a_new_one_takes_its_place(
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


def test_a_context_that_begins_anew_is_told_again(model: StreamingModel) -> None:
    stream = model.open_stream("front")
    step_alone(stream, random_frame(0), None, stay_silent, watch=DOOR)
    stream.reset()
    step_alone(stream, random_frame(1), None, stay_silent, watch=DOOR)
    assert watches_in(model, stream) == [DOOR.text]


def test_a_chunk_whose_head_remembers_what_was_said_is_told_again(tuned: Path) -> None:
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
    assert len(words_of(model, stream, SegmentKind.HEAD)) > 1, "the chunk's head remembers"


def test_a_watch_costs_a_silent_tick_nothing(tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert len(fed) == 40, "one forward a tick"
    assert fed[2::2] == fed[3::2], "told once, not again"
    assert fed[1] > fed[0]


def test_a_watch_decides_by_cache_as_it_does_computed_anew_while_nothing_leaves(
    tuned: Path,
) -> None:
    kept, anew = (
        load_cached_model(settings_for(tuned, context__recompute=recompute))
        for recompute in (False, True)
    )
    streams = kept.open_stream("front"), anew.open_stream("front")
    for index in range(12):
        watch = DOOR if 2 <= index < 8 else RED if index >= 8 else None
        decisions = [
            step_alone(stream, random_frame(index), None, as_decided, watch=watch)
            for stream in streams
        ]
        assert (
            watches_in(kept, streams[0])
            == watches_in(anew, streams[1])
            == ([watch.text] if watch else [])
        )
        if index < 8:  # from then on the cache remembers a watch that has left
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


def test_a_watch_that_does_not_fit_is_refused_and_the_stream_goes_on(model: StreamingModel) -> None:
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
def test_a_watch_that_was_taken_fits_for_ever(tuned: Path, words: int) -> None:
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


def untuned_model(directory: Path, **settings: Any) -> StreamingModel:
    return load_cached_model(
        settings_for(directory, context__max_seconds=3.0, decision__max_new_tokens=6, **settings)
    )


def test_an_untuned_model_looks_without_judging_until_it_is_told(untuned: Path) -> None:
    model = untuned_model(untuned)
    stream = model.open_stream("front")
    for index in range(3):
        decision = step_alone(stream, random_frame(index, size=(56, 84)), None, as_decided)
        assert (decision.state, decision.probabilities[State.SILENCE]) == (State.SILENCE, 1.0)
    assert len({segment.turn for segment in stream.context if segment.grid}) == 3, (
        "every picture enters the context"
    )
    judged = step_alone(stream, random_frame(3, size=(56, 84)), None, as_decided, watch=DOOR)
    assert 0 < judged.probabilities[State.SILENCE] < 1
    assert (
        step_alone(stream, random_frame(4, size=(56, 84)), QUESTION, speak).state is State.RESPONSE
    )
    assert (
        step_alone(stream, random_frame(5, size=(56, 84)), None, as_decided).probabilities[
            State.SILENCE
        ]
        == 1.0
    )


def test_an_untuned_model_is_asked_for_a_judgement_about_every_picture_of_a_watch_and_told_once(
    untuned: Path,
) -> None:
    model = untuned_model(untuned)
    stream = model.open_stream("front")
    for index in range(12):
        step_alone(
            stream,
            random_frame(index, size=(56, 84)),
            QUESTION if index == 10 else None,
            stay_silent,
            watch=DOOR,
        )
    shown = sorted({segment.turn for segment in stream.context if segment.grid})
    judged = [segment.turn for segment in stream.context if segment.kind is SegmentKind.JUDGE]
    assert judged == [turn for turn in shown if turn != 10], "a question is answered, not judged"
    assert watches_in(model, stream) == [PROMPTED.watch.replace("{query}", DOOR.text).strip()]


@pytest.mark.parametrize(("unasked", "judges"), [("auto", False), ("always", True)])
def test_the_setting_makes_an_untuned_model_judge_unasked(
    untuned: Path, unasked: str, judges: bool
) -> None:
    stream = untuned_model(untuned, decision__unprompted=unasked).open_stream("front")
    decision = step_alone(stream, random_frame(0, size=(56, 84)), None, as_decided)
    assert (decision.probabilities[State.SILENCE] < 1) == judges


def test_a_model_that_cannot_be_told_refuses_by_name_and_goes_on_watching(tmp_path: Path) -> None:
    model = load_cached_model(
        settings_for(write_checkpoint(tmp_path / "compact"), cameras=["front"])
    )
    harness = StreamingHarness(model.settings, model, "session")
    frames = [random_frame(index) for index in range(2)]
    refused = harness.step(Tick(0, frames[0].stamp_ns, (frames[0],), (DOOR,)))
    assert refused.faults["front"].startswith(
        f"front: {model.model_id} was not made to be told what to wait for"
    )
    assert harness.watching == frozenset()
    assert set(harness.step(Tick(1, frames[1].stamp_ns, (frames[1],))).decisions) == {"front"}
