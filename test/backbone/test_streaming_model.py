"""The model with a KV cache gives the same logits as without one, in bounded memory."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_fixtures import random_frame, settings_for, step_alone, write_checkpoint

from stream_vlm.backbone import StreamingModel, load_cached_model
from stream_vlm.backbone.checkpoint.errors import ModelFault, QuestionTooLong
from stream_vlm.backbone.kv_cache.cached_forward import CachedForward, Entry, feed_together
from stream_vlm.backbone.kv_cache.slot_cache import CacheFull
from stream_vlm.context.segments import Segment, SegmentKind, positions, tokens_in, whole
from stream_vlm.loop.harness import StreamingHarness
from stream_vlm.types import Decision, Query, State, Tick
from stream_vlm.vision.tower import VisionTokens


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> StreamingModel:
    return load_cached_model(settings_for(checkpoint))


def unchanged(decision: Decision) -> Decision:
    return decision


def random_turns(
    count: int, seed: int, picture: int
) -> tuple[list[list[Segment]], list[torch.Tensor]]:
    """Turns of random words around random pictures, and the embeddings of the pictures."""
    rng = np.random.default_rng(seed)
    turns, vision = [], []
    for number in range(count):
        rows, columns = int(rng.integers(1, 5)), int(rng.integers(1, 5))
        before, after = (
            tuple(rng.integers(0, 20, int(rng.integers(1, 6))).tolist()) for _ in range(2)
        )
        turns.append(
            [
                Segment(
                    SegmentKind.TEXT,
                    number,
                    tuple(token for token in before if token != picture) or (1,),
                ),
                Segment(SegmentKind.FRAME, number, (picture,) * (rows * columns), (rows, columns)),
                Segment(
                    SegmentKind.ACTION,
                    number,
                    tuple(token for token in after if token != picture) or (1,),
                ),
            ]
        )
        vision.append(
            torch.from_numpy(rng.standard_normal((rows * columns, 256), dtype=np.float32))
        )
    return turns, vision


def plain_logits(
    checkpoint: Path, segments: list[Segment], vision: list[torch.Tensor], picture: int
) -> torch.Tensor:
    """Logits at every token from the model in transformers, without the slot cache."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    plain: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        checkpoint, dtype=torch.float32
    ).eval()
    ids = torch.tensor([token for segment in segments for token in segment.token_ids])
    where, _ = positions(segments)
    with torch.inference_mode():
        embeddings = plain.model.language_model.embed_tokens(ids).clone()
        embeddings[ids == picture] = torch.cat(vision)
        hidden = plain.model.language_model(
            inputs_embeds=embeddings[None],
            position_ids=torch.from_numpy(where.copy())[:, None],
            use_cache=False,
        ).last_hidden_state
        logits: torch.Tensor = plain.lm_head(hidden)[0]
    return logits


@pytest.mark.parametrize("seed", range(3))
def test_feeding_turn_by_turn_gives_the_logits_of_one_full_forward_pass(
    checkpoint: Path, model: StreamingModel, seed: int
) -> None:
    picture = model.parts.tokens.picture
    turns, vision = random_turns(8, seed, picture)
    everything = [segment for turn in turns for segment in turn]
    expected = plain_logits(checkpoint, everything, vision, picture)
    forward = CachedForward(model.checkpoint.model, capacity=400)
    seen = 0
    with torch.inference_mode():
        for turn, picture_embeddings in zip(turns, vision, strict=True):
            logits = forward.feed(turn, VisionTokens(picture_embeddings))
            seen += sum(map(len, turn))
            assert torch.allclose(logits, expected[seen - 1], atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_after_an_eviction_a_one_layer_model_depends_on_the_kept_turns_only(
    tmp_path: Path, seed: int
) -> None:
    shallow = write_checkpoint(tmp_path / "shallow", layers=1)
    model = load_cached_model(settings_for(shallow))
    picture = model.parts.tokens.picture
    turns, vision = random_turns(8, seed, picture)
    forward = CachedForward(model.checkpoint.model, capacity=400)
    with torch.inference_mode():
        for turn, picture_embeddings in zip(turns[:6], vision[:6], strict=True):
            forward.feed(turn, VisionTokens(picture_embeddings))
        forward.arrange(
            [
                whole(index, segment)
                for index, segment in enumerate(forward.segments)
                if segment.turn not in (0, 1, 3)
            ]
        )
        for turn, picture_embeddings in zip(turns[6:], vision[6:], strict=True):
            logits = forward.feed(turn, VisionTokens(picture_embeddings))
    kept = [2, 4, 5, 6, 7]
    stayed = [segment for number in kept for segment in turns[number]]
    expected = plain_logits(shallow, stayed, [vision[number] for number in kept], picture)
    assert torch.allclose(logits, expected[-1], atol=1e-4)


def test_eviction_moves_no_key_and_later_tokens_reuse_the_slots(model: StreamingModel) -> None:
    turns, vision = random_turns(6, 0, model.parts.tokens.picture)
    forward = CachedForward(model.checkpoint.model, capacity=200)
    with torch.inference_mode():
        for turn, picture_embeddings in zip(turns[:4], vision[:4], strict=True):
            forward.feed(turn, VisionTokens(picture_embeddings))
        layer: Any = forward.cache.slot_layers[0]
        address, before, used = layer.stored.data_ptr(), layer.keys.clone(), forward.cache.used
        forward.arrange(
            [whole(index, segment) for index, segment in enumerate(forward.segments)][3:]
        )
        assert torch.equal(layer.keys, before)
        freed = used - forward.cache.used
        assert freed == sum(map(len, turns[0]))
        forward.feed(turns[4], VisionTokens(vision[4]))
    assert layer.stored.data_ptr() == address
    assert forward.next_position == positions(forward.segments)[1]


def test_a_full_cache_refuses_new_tokens_and_keeps_the_others(model: StreamingModel) -> None:
    forward = CachedForward(model.checkpoint.model, capacity=10)
    with torch.inference_mode():
        forward.feed([Segment(SegmentKind.TEXT, 0, (1,) * 8)])
        with pytest.raises(CacheFull, match="3 tokens do not fit into 2 free of 10"):
            forward.feed([Segment(SegmentKind.TEXT, 1, (1,) * 3)])
        assert forward.cache.used == 8
        forward.feed([Segment(SegmentKind.TEXT, 1, (1,) * 2)])
    assert forward.cache.used == 10


@pytest.mark.parametrize("policy", ["last_turns", "chunked", "sliding", "last_frames"])
def test_a_long_stream_stays_within_its_cache_and_its_positions(
    checkpoint: Path, policy: str
) -> None:
    model = load_cached_model(
        settings_for(checkpoint, context__policy=policy, context__max_seconds=6.0)
    )
    stream = model.open_stream("front")
    for index in range(36):  # three times as long as the context
        step_alone(stream, random_frame(index), None, unchanged)
    forward = stream.forward
    assert forward is not None
    assert forward.cache.used <= forward.cache.capacity
    assert forward.cache.bytes() == 3 * 4 * 2 * forward.cache.capacity * 64 * 4
    assert forward.next_position < forward.cache.capacity
    assert len({segment.turn for segment in forward.segments if segment.turn >= 0}) <= 12


def test_no_token_is_computed_twice(model: StreamingModel, monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[int] = []

    def counting(entries: Sequence[Entry]) -> torch.Tensor:
        fed.append(sum(tokens_in(entry.segments) for entry in entries))
        return feed_together(entries)

    monkeypatch.setattr("stream_vlm.backbone.streaming.batched_step.feed_together", counting)
    stream = model.open_stream("front")
    silent = lambda decision: Decision(State.SILENCE, decision.probabilities)  # noqa: E731
    for index in range(40):
        step_alone(stream, random_frame(index), None, silent)
    # The first tick also feeds the prefix. Each later tick feeds the pending end of the last turn,
    # the frame and its two markers.
    assert fed == [1 + 26] + [2 + 26] * 39


def test_probabilities_of_the_states_sum_to_one(model: StreamingModel) -> None:
    decision = step_alone(model.open_stream("front"), random_frame(0), None, unchanged)
    assert sum(decision.probabilities.values()) == pytest.approx(1.0)
    assert decision.probabilities[decision.state] == max(decision.probabilities.values())


def test_a_question_is_always_answered_and_its_text_grows_by_whole_words(
    model: StreamingModel,
) -> None:
    heard: list[tuple[str, str]] = []
    harness = StreamingHarness(settings_for(Path("unused")), model, "session")
    query = Query("q1", "is the door open ?", 0)
    frame = random_frame(0)
    result = harness.step(
        Tick(0, frame.stamp_ns, (frame,), (query,)),
        lambda query_id, text: heard.append((query_id, text)),
    )
    assert result.decisions["front"].state is State.RESPONSE
    texts = [text for _, text in heard]
    assert {query_id for query_id, _ in heard} == {"q1"}
    assert texts[-1] == result.decisions["front"].text
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert [utterance.query_id for utterance in result.utterances] == ["q1"]
    assert result.events == ()


def test_the_same_frames_give_the_same_decisions(model: StreamingModel) -> None:
    def decisions() -> list[Decision]:
        stream = model.open_stream("front")
        return [step_alone(stream, random_frame(index), None, unchanged) for index in range(12)]

    assert decisions() == decisions()


def test_two_cameras_do_not_disturb_each_other(model: StreamingModel) -> None:
    alone = model.open_stream("front")
    expected = [step_alone(alone, random_frame(index), None, unchanged) for index in range(6)]
    front, rear = model.open_stream("front"), model.open_stream("rear")
    together = []
    for index in range(6):
        step_alone(rear, random_frame(100 + index, "rear"), None, unchanged)
        together.append(step_alone(front, random_frame(index), None, unchanged))
    assert together == expected


def test_after_a_reset_a_stream_decides_as_a_new_one(model: StreamingModel) -> None:
    stream = model.open_stream("front")
    first = [step_alone(stream, random_frame(index), None, unchanged) for index in range(4)]
    stream.reset()
    assert [step_alone(stream, random_frame(index), None, unchanged) for index in range(4)] == first


def test_a_picture_size_may_change_within_a_stream(model: StreamingModel) -> None:
    stream = model.open_stream("front")
    for index, size in enumerate([(96, 128), (480, 640), (31, 57), (720, 1280)]):
        decision = step_alone(stream, random_frame(index, size=size), None, unchanged)
        assert sum(decision.probabilities.values()) == pytest.approx(1.0)


def test_a_question_longer_than_the_context_is_refused_and_the_stream_continues(
    checkpoint: Path,
) -> None:
    model = load_cached_model(settings_for(checkpoint, context__max_seconds=2.0))
    stream = model.open_stream("front")
    step_alone(stream, random_frame(0), None, unchanged)
    with pytest.raises(QuestionTooLong, match="ask a shorter question"):
        step_alone(stream, random_frame(1), Query("q", "is the door open ? " * 500, 0), unchanged)
    step_alone(stream, random_frame(2), None, unchanged)


def test_control_tokens_in_a_question_are_not_read_as_control(model: StreamingModel) -> None:
    assert model.parts.plain("is the <|im_end|> door </Response> open ?") == "is the door open ?"


def test_logits_that_are_not_finite_are_reported_and_the_context_is_cleared(
    checkpoint: Path,
) -> None:
    model = load_cached_model(settings_for(checkpoint))
    stream = model.open_stream("front")
    first = step_alone(stream, random_frame(0), None, unchanged)
    lm_head_weight = model.checkpoint.model.lm_head.weight
    healthy = lm_head_weight.clone()
    with torch.no_grad():
        lm_head_weight.fill_(float("nan"))
    with pytest.raises(ModelFault, match="front: the model's logits are not finite"):
        step_alone(stream, random_frame(1), None, unchanged)
    with torch.no_grad():
        lm_head_weight.copy_(healthy)
    assert step_alone(stream, random_frame(0), None, unchanged) == first
