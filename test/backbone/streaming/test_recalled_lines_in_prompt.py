"""Lines from the memory before a question: the best matches that fit, oldest first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from foreign_fixtures import write_foreign
from model_fixtures import (
    WORDS,
    decisions,
    random_frame,
    settings_for,
    step_alone,
    write_checkpoint,
)

from stream_vlm.backbone import load_cached_model, load_model
from stream_vlm.backbone.recompute.model import RecomputingModel
from stream_vlm.backbone.streaming.camera_stream import CachedStream
from stream_vlm.backbone.streaming_model import StreamingModel
from stream_vlm.config.settings import load_settings
from stream_vlm.context.recalled_lines import lines_within_budget
from stream_vlm.context.segments import SegmentKind, tokens_in
from stream_vlm.loop.harness import StreamingHarness
from stream_vlm.model_protocol import Outcome, Turn
from stream_vlm.time_words import age, line, moment, span
from stream_vlm.types import (
    NANOSECONDS,
    Decision,
    Query,
    RecalledContext,
    RecalledLine,
    State,
    Tick,
)

RED = RecalledLine(0, 0, "person in red enters")
DOOR = RecalledLine(NANOSECONDS // 2, NANOSECONDS // 2, "the door is open")
LEFT = RecalledLine(NANOSECONDS, NANOSECONDS, "person enters from left")
RECALLED = RecalledContext("yes", (LEFT, RED, DOOR))
SPOKEN = (*WORDS, *"0123456789", ":", "(", ")", "s", "ago", "-", "From", "memory")


def asked(recalled: RecalledContext = RECALLED) -> Query:
    return Query("q", "is the door open ?", 0, recalled=recalled)


def words(said: str) -> int:
    return len(said.split())


def test_lines_are_chosen_best_first_and_written_oldest_first() -> None:
    now_ns = 10 * NANOSECONDS
    everything = lines_within_budget(RECALLED, now_ns, 1000, words)
    assert everything == [
        "From memory: yes",
        "00:00:00 (10 s ago) person in red enters",
        "00:00:00 (9 s ago) the door is open",
        "00:00:01 (9 s ago) person enters from left",
    ]
    assert lines_within_budget(RECALLED, now_ns, 3 + 8, words) == [
        "From memory: yes",
        everything[3],
    ], "the best alone"
    assert lines_within_budget(RECALLED, now_ns, 3 + 16, words) == [
        "From memory: yes",
        everything[1],
        everything[3],
    ]
    assert lines_within_budget(RECALLED, now_ns, 2, words) == []


def test_a_line_that_does_not_fit_is_left_out_and_a_shorter_one_is_taken() -> None:
    long = RecalledLine(0, 0, "a very long story about everything that was ever to be seen")
    assert lines_within_budget(RecalledContext("", (long, RED)), 0, 10, words) == [
        "00:00:00 (0 s ago) person in red enters"
    ]


@pytest.mark.parametrize("budget", range(0, 60, 7))
def test_the_budget_is_never_exceeded(budget: int) -> None:
    assert sum(map(words, lines_within_budget(RECALLED, 10 * NANOSECONDS, budget, words))) <= budget


def test_stamps_and_ages_are_short_texts() -> None:
    assert moment(3_725 * NANOSECONDS) == "01:02:05", "of a recording: since its beginning"
    assert len(moment(1_700_000_000 * NANOSECONDS)) == 8, "the local time of day"
    assert span(NANOSECONDS, 4 * NANOSECONDS) == "00:00:01-00:00:04"
    assert [age(0, seconds * NANOSECONDS) for seconds in (5, 150, 7200, 200_000)] == [
        "5 s ago",
        "2 min ago",
        "2 h ago",
        "2 d ago",
    ]
    assert age(NANOSECONDS, 0) == "", "stamped by another clock"
    assert line(RecalledLine(0, 0, "two\nlines")) == "00:00:00 two lines", (
        "nothing breaks out of its line"
    )


def streamo(directory: Path, **values: Any) -> StreamingModel:
    write_checkpoint(directory, words=SPOKEN)
    config = directory / "stream_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"turns": "streamo"}))
    return load_cached_model(settings_for(directory, **values))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("streamo")


@pytest.fixture(scope="module")
def model(directory: Path) -> StreamingModel:
    return streamo(directory)


def decided(
    stream: CachedStream, query: Query | None, index: int = 0, watch: Query | None = None
) -> Decision:
    return step_alone(
        stream,
        random_frame(index),
        query,
        lambda decision: Decision(State.SILENCE, decision.probabilities),
        watch=watch,
    )


def text_of(model: StreamingModel, stream: CachedStream, kind: SegmentKind) -> str:
    return str(
        model.checkpoint.tokenizer.decode(
            [
                token
                for segment in stream.context
                if segment.kind is kind
                for token in segment.token_ids
            ]
        )
    )


def test_recalled_lines_enter_before_the_question_oldest_first(model: StreamingModel) -> None:
    stream = model.open_stream("front")
    decided(stream, asked())
    kinds = [segment.kind for segment in stream.context if segment.turn == 0]
    assert (
        kinds.index(SegmentKind.RECALLED)
        < kinds.index(SegmentKind.QUERY)
        < kinds.index(SegmentKind.FRAME)
    )
    said = text_of(model, stream, SegmentKind.RECALLED)
    assert (
        said.index("yes")
        < said.index("in red")
        < said.index("the door is open")
        < said.index("from left")
    )


def test_recalled_lines_of_a_watch_leave_with_its_turn(directory: Path) -> None:
    model = streamo(directory, context__max_seconds=3.0)
    stream = model.open_stream("front")
    watch = Query("w", "person enters", 0, is_watch=True, recalled=RECALLED)
    decided(stream, None, 0, watch)
    assert "in red" in text_of(model, stream, SegmentKind.RECALLED)
    for index in range(1, 20):
        decided(stream, None, index, watch)
    assert text_of(model, stream, SegmentKind.WATCH).strip() == "person enters"
    assert text_of(model, stream, SegmentKind.RECALLED) == ""


@pytest.mark.parametrize("tokens", [0, 20, 40, 100])
def test_recalled_lines_stay_within_memory_tokens(directory: Path, tokens: int) -> None:
    model = streamo(directory, context__memory_tokens=tokens)
    stream = model.open_stream("front")
    decided(stream, asked())
    frame = len(model.parts.encode_text(model.parts.turns.recalled.replace("{memory}", "")))
    written = tokens_in(
        [segment for segment in stream.context if segment.kind is SegmentKind.RECALLED]
    )
    assert written <= tokens + frame
    assert bool(written) is (tokens >= 20)


def test_a_question_is_never_refused_because_of_recalled_lines(directory: Path) -> None:
    model = streamo(
        directory,
        context__memory_tokens=4000,
        context__max_seconds=1.0,
        context__policy="last_frames",
        context__frames=1,
    )
    stream = model.open_stream("front")
    many = RecalledContext(
        "",
        tuple(
            RecalledLine(second, second, "person in red enters from left") for second in range(1000)
        ),
    )
    for index in range(6):
        decided(stream, asked(many), index)
        assert stream.forward is not None
        assert tokens_in(stream.context) + stream.plan.reserve <= stream.plan.policy.max_tokens


def test_a_format_without_a_place_for_recalled_lines_gets_the_question_only(tmp_path: Path) -> None:
    model = load_cached_model(settings_for(write_checkpoint(tmp_path)))
    assert not model.reads_memory
    bare, with_lines = model.open_stream("front"), model.open_stream("front")
    assert decided(bare, asked(RecalledContext())) == decided(with_lines, asked())
    assert [segment.token_ids for segment in bare.context] == [
        segment.token_ids for segment in with_lines.context
    ]


def test_words_without_a_token_are_reported_as_unknown(model: StreamingModel) -> None:
    assert model.unknown_words("Is the door open?") == ()
    assert model.unknown_words("is the Zebra's door open, zebra?") == ("Zebra", "zebra")


def test_the_last_question_stays_but_its_recalled_lines_leave(directory: Path) -> None:
    model = streamo(directory, context__policy="sliding", context__max_seconds=3.0)
    stream = model.open_stream("front")
    decided(stream, asked())
    for index in range(1, 12):
        decided(stream, None, index)
    assert "door" in text_of(model, stream, SegmentKind.QUERY), "the last question stays"
    assert text_of(model, stream, SegmentKind.RECALLED) == ""


def test_a_model_without_a_cache_gets_recalled_lines_before_its_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(settings_for(write_foreign(tmp_path), context__recompute=True))
    assert isinstance(model, RecomputingModel)
    assert model.reads_memory
    befores: list[str] = []
    inputs = model.checkpoint.writer.inputs

    def noting(shown: Sequence[Any], before: str, after: str) -> Any:
        befores.append(before)
        return inputs(shown, before, after)

    monkeypatch.setattr(model.checkpoint.writer, "inputs", noting)
    stream = model.open_stream("front")
    assert isinstance(
        decisions(model.step([Turn(stream, random_frame(0), query=asked())]))[0], Decision
    )
    assert "person in red enters" in befores[0]
    assert isinstance(
        decisions(model.step([Turn(stream, random_frame(1), query=asked(RecalledContext()))]))[0],
        Decision,
    )
    assert "person in red enters" not in befores[1]


@pytest.mark.parametrize(
    ("in_prompt", "summaries", "expected"),
    [
        ("recall", ["a chunk of doors"], ["a chunk of doors"]),
        ("recall", [], ["0s: hello"]),
        ("full_history", ["a chunk of doors"], ["0s: hello"]),
        ("off", ["a chunk of doors"], None),
    ],
)
def test_a_chunk_begins_with_summaries_or_utterances_as_the_settings_say(
    in_prompt: str, summaries: list[str], expected: list[str] | None
) -> None:
    model = RecordingModel()
    settings = load_settings({"cameras": ["front"], "memory.in_prompt": in_prompt})
    loop = StreamingHarness(settings, model, "session", summaries=lambda camera: summaries)
    for index in range(2):
        frame = random_frame(index)
        loop.step(Tick(index, frame.stamp_ns, (frame,)))
    memory = model.turns[-1].memory
    assert (None if memory is None else list(memory())) == expected


class RecordingModel:
    """A model that says hello at its first picture and keeps its turns."""

    model_id = "recording"
    reads_memory = True
    activity_threshold = 0.0
    seconds: dict[str, float] = {}

    def __init__(self) -> None:
        self.turns: list[Turn] = []

    def open_stream(self, camera: str) -> Any:
        return self

    def unknown_words(self, text: str) -> Sequence[str]:
        return ()

    def step(self, turns: Sequence[Turn], upcoming: object = None) -> list[Any]:
        self.turns += turns
        state = State.RESPONSE if len(self.turns) == 1 else State.SILENCE
        return [
            Outcome(
                Decision(
                    state,
                    {one: float(one is state) for one in State},
                    "hello" if state is State.RESPONSE else "",
                    1.0,
                )
            )
            for _ in turns
        ]


def test_without_memory_in_the_prompt_a_chunk_begins_with_the_prefix_only(directory: Path) -> None:
    model = streamo(
        directory, context__policy="chunked", context__max_seconds=3.0, memory__in_prompt="off"
    )
    loop = StreamingHarness(model.settings, model, "session")
    for index in range(10):
        frame = random_frame(index)
        loop.step(
            Tick(index, frame.stamp_ns, (frame,), (asked(RecalledContext()),) if index == 1 else ())
        )
        loop.prepare()
    stream = loop.stream("front")
    assert isinstance(stream, CachedStream)
    assert (
        tokens_in([segment for segment in stream.context if segment.kind is SegmentKind.PREFIX])
        == model.parts.tokens.prefix
    )
