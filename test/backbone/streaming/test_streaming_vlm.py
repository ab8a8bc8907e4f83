"""A StreamingVLM checkpoint in a live stream: two frames in each turn, an ellipsis for silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_fixtures import random_frame, settings_for, step_alone
from trace_recording import write_streaming_vlm_checkpoint

from stream_vlm.backbone import StreamingModel, load_cached_model
from stream_vlm.backbone.checkpoint.stream_config import CheckpointError
from stream_vlm.backbone.kv_cache.cached_forward import feed_together
from stream_vlm.backbone.streaming.camera_stream import CachedStream
from stream_vlm.context.segments import SegmentKind
from stream_vlm.context.turn_formats import STREAMING_VLM
from stream_vlm.types import Decision, Query, State
from stream_vlm.vision.tower import VisionTokens

WINDOWS = {"vision_turns": 3, "text_turns": 4, "text_sink": 6, "text_window": 6}


def configure(directory: Path, **changes: Any) -> StreamingModel:
    """Load the checkpoint in `directory` with a stream configuration for StreamingVLM."""
    values: dict[str, Any] = {
        "name": "tiny",
        "turns": "streaming_vlm",
        "frames_per_turn": 2,
        "rate_hz": 2.0,
        "policy": "sliding",
        "sliding": WINDOWS,
    }
    (directory / "stream_config.json").write_text(json.dumps(values | changes))
    return load_cached_model(settings_for(directory, decision__max_new_tokens=6))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_streaming_vlm_checkpoint(tmp_path_factory.mktemp("live") / "model", layers=2)


@pytest.fixture(scope="module")
def model(directory: Path) -> StreamingModel:
    return configure(directory)


def speak(decision: Decision) -> Decision:
    return Decision(State.RESPONSE, decision.probabilities, confidence=decision.confidence)


def stay_silent(decision: Decision) -> Decision:
    return Decision(State.SILENCE, decision.probabilities, confidence=decision.confidence)


def text_of(model: StreamingModel, stream: CachedStream) -> str:
    """The context as text, with a dot for each vision token."""
    ids = [token for segment in stream.context for token in segment.token_ids]
    return (
        str(model.checkpoint.tokenizer.decode(ids))
        .replace("<|video_pad|>", ".")
        .replace("<|image_pad|>", ".")
    )


def test_two_frames_make_one_turn_in_one_temporal_patch(
    model: StreamingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []
    encode = model.parts.tower.encode

    def watching(pictures: np.ndarray) -> list[VisionTokens]:
        seen.append(pictures)
        return encode(pictures)

    monkeypatch.setattr(model.parts.tower, "encode", watching)
    stream = model.open_stream("front")
    frames = [random_frame(index, size=(56, 84)) for index in range(4)]
    first = step_alone(stream, frames[0], None, speak)
    assert (first.state, first.probabilities[State.SILENCE], stream.context) == (
        State.SILENCE,
        1.0,
        [],
    )
    for frame in frames[1:]:
        step_alone(stream, frame, None, stay_silent)
    expected = [
        np.stack([one.image, other.image])[None]
        for one, other in ((frames[0], frames[1]), (frames[2], frames[3]))
    ]
    assert [pictures.tolist() for pictures in seen] == [pictures.tolist() for pictures in expected]


def test_turns_equal_the_published_prompts(model: StreamingModel) -> None:
    stream = model.open_stream("front")
    for index in range(4):
        step_alone(
            stream,
            random_frame(index, size=(56, 84)),
            Query("q", "what is it", 0) if index == 1 else None,
            stay_silent,
        )
    prefix = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>previous"
        " text\n<|im_end|>\n"
    )
    turns = [
        (
            "<|im_start|>user\nTime=0.0-1.0s<|vision_start|>......<|vision_end|>what is"
            " it<|im_end|>\n<|im_start|>assistant\n...<|im_end|>\n"
        ),
        "<|im_start|>user\nTime=1.0-2.0s<|vision_start|>......<|vision_end|><|im_end|>\n"
        "<|im_start|>assistant\n",
    ]
    assert text_of(model, stream) == prefix + "".join(turns)


def test_a_question_at_the_first_frame_of_a_turn_is_answered_at_once(
    model: StreamingModel,
) -> None:
    stream = model.open_stream("front")
    decision = step_alone(stream, random_frame(0), Query("q", "what is it", 0), speak)
    assert decision.state is State.RESPONSE
    assert {segment.turn for segment in stream.context} == {-1, 0}


def test_the_decision_is_silence_if_the_ellipsis_is_the_best_token(model: StreamingModel) -> None:
    stream = model.open_stream("front")
    silence = model.parts.tokens.markers[State.SILENCE][0]
    logits = torch.zeros(model.checkpoint.model.config.text_config.vocab_size)
    logits[silence] = 3.0
    assert stream.decide(logits).state is State.SILENCE
    logits[65] = 4.0
    decision = stream.decide(logits)
    assert decision.state is State.RESPONSE
    assert sum(decision.probabilities.values()) == pytest.approx(1.0)
    # A response begins neither with an end of turn nor with its own end mark.
    logits[65] = 0.0
    for token in (*model.parts.tokens.stop, *model.parts.tokens.response_end):
        logits[token] = 9.0
    assert stream.decide(logits).state is State.SILENCE


def test_the_end_mark_of_a_response_is_neither_published_nor_moved_with_the_words(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = configure(directory)
    stream = model.open_stream("front")
    script = iter([*model.parts.encode_text("a b"), *model.parts.tokens.response_end])

    def scripted(entries: Any) -> torch.Tensor:
        logits = torch.zeros_like(feed_together(entries))
        logits[0, next(script, 0)] = 50.0
        return logits

    monkeypatch.setattr("stream_vlm.backbone.streaming.batched_step.feed_together", scripted)
    step_alone(stream, random_frame(0, size=(56, 84)), None, speak)
    decision = step_alone(stream, random_frame(1, size=(56, 84)), None, speak)
    assert decision.text == "a b"
    for index in range(2, 12):
        step_alone(stream, random_frame(index, size=(56, 84)), None, stay_silent)
    assert "previous text\na b<|im_end|>" in text_of(model, stream)


@pytest.mark.parametrize("compatible", [False, True])
def test_a_long_stream_of_utterances_stays_within_its_cache(
    directory: Path, compatible: bool
) -> None:
    model = configure(directory, sliding=WINDOWS | {"compatible": compatible})
    stream = model.open_stream("front")
    for index in range(80):
        query = Query("q", "what is it " * (index % 23), 0) if index % 20 == 19 else None
        step_alone(
            stream, random_frame(index, size=(56, 84 if index % 8 < 4 else 112)), query, speak
        )
    forward = stream.forward
    assert forward is not None
    assert forward.cache.used <= forward.cache.capacity
    assert sum(
        len(segment) for segment in stream.context if segment.kind is SegmentKind.PREVIOUS
    ) == (11 if compatible else 12)
    assert (
        len({segment.turn for segment in stream.context if segment.kind is SegmentKind.FRAME}) == 3
    )


def test_the_last_question_stays_after_its_pictures_and_words_have_left(
    model: StreamingModel,
) -> None:
    stream = model.open_stream("front")
    for index in range(40):
        step_alone(
            stream,
            random_frame(index, size=(56, 84)),
            Query("q", "what is it", 0) if index == 1 else None,
            stay_silent,
        )
    assert "<|im_end|>\n<|im_start|>user\nwhat is it<|im_end|>\n<|im_start|>user\n" in text_of(
        model, stream
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"turns": "streaming"},
            (
                "turn format 'streaming' is unknown; name one of streamo, instruct, compact,"
                " streaming_vlm"
            ),
        ),
        ({"frames_per_turn": 3}, "frames_per_turn 3 do not fit into a temporal patch of 2"),
        ({"pair_frames": True}, "use only one"),
        ({"sliding": {"text_turns": 1}}, "sliding.text_turns"),
        (
            {"turns": STREAMING_VLM.model_dump() | {"response_end": "the end"}},
            "response_end 'the end' is not one token",
        ),
    ],
)
def test_an_impossible_configuration_is_refused(
    directory: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        configure(directory, **changes)
