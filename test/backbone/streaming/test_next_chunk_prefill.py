"""Chunks that begin with earlier lines: the prefix is prefilled in advance and computed once."""

import json
from collections.abc import Callable, Sequence

import pytest
import torch
from model_fixtures import WORDS, decisions, random_frame, settings_for, write_checkpoint

from stream_vlm.backbone import StreamingModel, load_cached_model
from stream_vlm.backbone.kv_cache.cached_forward import CachedForward, Entry, feed_together
from stream_vlm.backbone.streaming.camera_stream import CachedStream
from stream_vlm.backbone.streaming.next_chunk_prefill import LEAD_TURNS, newest_lines
from stream_vlm.context.segments import Segment, SegmentKind, tokens_in
from stream_vlm.loop.harness import StreamingHarness
from stream_vlm.model_protocol import Turn
from stream_vlm.types import Decision, Query, State, Tick, Utterance

CHUNK_TURNS = 20
MEMORY = [f"{second} s person in red enters from left" for second in range(30)]
HISTORY_WORDS = (*WORDS, "s", *(str(second) for second in range(30)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> StreamingModel:
    directory = write_checkpoint(tmp_path_factory.mktemp("checkpoint"), words=HISTORY_WORDS)
    config = directory / "stream_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"turns": "streamo"}))
    return load_cached_model(
        settings_for(
            directory,
            context__policy="chunked",
            context__max_seconds=CHUNK_TURNS / 2,
            context__memory_tokens=100,
        )
    )


def silent(decision: Decision) -> Decision:
    return Decision(State.SILENCE, decision.probabilities)


def watch(
    stream: CachedStream, model: StreamingModel, ticks: int, between: Callable[[], None]
) -> list[Decision]:
    seen: list[Decision] = []
    for index in range(ticks):
        outcome = decisions(
            model.step([Turn(stream, random_frame(index), gate=silent, memory=lambda: MEMORY)])
        )[0]
        assert isinstance(outcome, Decision)
        seen.append(outcome)
        between()
    return seen


def ids_of(stream: CachedStream, kind: SegmentKind) -> list[int]:
    return [
        token for segment in stream.context if segment.kind is kind for token in segment.token_ids
    ]


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of tokens that each forward pass of a step appended."""
    counts: list[int] = []

    def counting(entries: Sequence[Entry]) -> torch.Tensor:
        counts.append(sum(tokens_in(entry.segments) for entry in entries))
        return feed_together(entries)

    monkeypatch.setattr("stream_vlm.backbone.streaming.batched_step.feed_together", counting)
    return counts


def test_every_tick_feeds_only_its_own_turn_also_at_the_start_of_a_chunk(
    model: StreamingModel, fed: list[int]
) -> None:
    stream = model.open_stream("front")
    watch(stream, model, 3 * CHUNK_TURNS + 5, stream.prepare)
    # Only the first tick feeds a prefix. The first turn of a later chunk feeds the text that closes
    # the memory lines, but no end of an earlier turn.
    usual = fed[1]
    assert fed[0] > usual
    assert all(count <= usual + 2 for count in fed[1:])
    assert sum(count == usual for count in fed) >= 3 * CHUNK_TURNS + 5 - 1 - 3


def test_a_prefix_prefilled_in_advance_decides_as_one_fed_at_the_start_of_the_chunk(
    model: StreamingModel, fed: list[int]
) -> None:
    early, late = model.open_stream("front"), model.open_stream("front")
    in_advance = watch(early, model, 2 * CHUNK_TURNS + 8, early.prepare)
    most_in_advance = max(fed[1:])
    fed.clear()
    at_start = watch(late, model, 2 * CHUNK_TURNS + 8, lambda: None)
    assert max(fed[1:]) > most_in_advance, (
        "without prepare, the first step of a chunk feeds the prefix"
    )
    for one, other in zip(in_advance, at_start, strict=True):
        assert list(one.probabilities.values()) == pytest.approx(
            list(other.probabilities.values()), abs=1e-4
        )
    assert ids_of(early, SegmentKind.PREFIX) == ids_of(late, SegmentKind.PREFIX)


def test_a_chunk_begins_with_the_newest_lines_that_fit_the_budget(
    model: StreamingModel,
) -> None:
    stream = model.open_stream("front")
    watch(stream, model, CHUNK_TURNS + 1, stream.prepare)
    prefix = ids_of(stream, SegmentKind.PREFIX)
    text = str(model.checkpoint.tokenizer.decode(prefix))
    assert "29 s person in red enters from left" in text
    assert "0 s person" not in text.replace("20 s person", "").replace("10 s person", "")
    assert len(prefix) <= model.parts.tokens.prefix + 100 + 20


def test_the_prefix_is_prefilled_in_small_slices_and_the_cache_holds_both_chunks(
    model: StreamingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices: list[int] = []
    feed = CachedForward.feed

    def counting(
        self: CachedForward, segments: Sequence[Segment], vision: None = None
    ) -> torch.Tensor:
        slices.append(tokens_in(segments))
        return feed(self, segments, vision)

    monkeypatch.setattr(CachedForward, "feed", counting)
    stream = model.open_stream("front")
    watch(stream, model, 4 * CHUNK_TURNS, stream.prepare)
    prefix = tokens_in(
        [segment for segment in stream.context if segment.kind is SegmentKind.PREFIX]
    )
    assert slices
    assert max(slices) <= -(-prefix // LEAD_TURNS) + 1
    assert stream.forward is not None
    assert stream.forward.cache.used <= stream.forward.cache.capacity
    assert stream.forward.next_position < stream.forward.cache.capacity


def test_a_chunk_that_ends_early_still_gets_its_whole_prefix(model: StreamingModel) -> None:
    """Long utterances fill a chunk before the next prefix is complete or even begun."""
    stream = model.open_stream("front")
    speak = lambda decision: Decision(State.RESPONSE, decision.probabilities)  # noqa: E731
    for index in range(2 * CHUNK_TURNS):
        assert isinstance(
            decisions(
                model.step([Turn(stream, random_frame(index), gate=speak, memory=lambda: MEMORY)])
            )[0],
            Decision,
        )
        stream.prepare()
        assert stream.context[0].kind is SegmentKind.PREFIX
        assert tokens_in(stream.context) <= stream.plan.policy.max_tokens


def test_the_next_chunk_contains_the_questions_and_answers_of_the_harness(
    model: StreamingModel,
) -> None:
    harness = StreamingHarness(model.settings, model, "session")
    answers: list[Utterance] = []
    for index in range(CHUNK_TURNS + 5):
        frame = random_frame(index)
        queries = (Query("q", "is the door open ?", 0),) if index == 12 else ()
        answers += harness.step(Tick(index, frame.stamp_ns, (frame,), queries)).utterances
        harness.prepare()
    stream = harness.stream("front")
    assert isinstance(stream, CachedStream)
    assert ids_of(stream, SegmentKind.QUERY) == [], "the question's own turn has left"
    prefix = str(model.checkpoint.tokenizer.decode(ids_of(stream, SegmentKind.PREFIX)))
    assert answers[0].query_id == "q"
    assert "is the door open" in prefix
    assert answers[0].text in prefix


def test_the_newest_lines_are_kept_whole_and_within_the_budget() -> None:
    ids = lambda line: [len(word) for word in line.split()]  # noqa: E731
    assert newest_lines(["a b c", "d e", "f g"], 4, ids) == ["d e", "f g"]
    assert newest_lines(["a b c", "d e", "f g"], 3, ids) == ["f g"]
    assert newest_lines([], 3, ids) == []
    assert newest_lines(["a b c"], 0, ids) == []
