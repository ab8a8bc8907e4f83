"""Utterances while they are written: whole words only, to the end of the turn and no further, never
over the budget.
"""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_fixtures import decisions, random_frame, settings_for, write_checkpoint
from trace_recording import write_streaming_vlm_checkpoint

from stream_vlm.backbone import StreamingModel, load_cached_model
from stream_vlm.backbone.kv_cache.cached_forward import feed_together
from stream_vlm.backbone.tokens.detokenizer import WordStream
from stream_vlm.context.segments import SegmentKind
from stream_vlm.model_protocol import Turn
from stream_vlm.types import Decision, Limits, Query, State

BUDGET = 5
SENTENCE = "is the red door open"
NO_LIMITS = Limits()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> StreamingModel:
    directory = write_checkpoint(tmp_path_factory.mktemp("checkpoint"))
    return load_cached_model(settings_for(directory, decision__max_new_tokens=BUDGET))


@pytest.fixture(scope="module")
def bytes_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tokenizer whose tokens are single bytes, so that every token ends inside a word and most
    inside a character.
    """
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(
        write_streaming_vlm_checkpoint(tmp_path_factory.mktemp("bytes") / "model")
    )


SPACELESS = "我看到一只猫进来了ひらがなカタカナ、。「」？𠀋"
"""Characters of Chinese and Japanese of three bytes, and one of four."""

HALF = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer shows of bytes that are no whole character; nobody says it."""

letters = st.characters(codec="utf-8", categories=("L", "N", "S"), exclude_characters=HALF)
narrow = letters.filter(lambda character: unicodedata.east_asian_width(character) not in "WFH")
"""Characters of scripts that set their words apart, and so none of the wide ones."""

words = st.lists(st.text(narrow, min_size=1, max_size=6), min_size=1, max_size=6)


@given(words)
@settings(max_examples=100, deadline=None)
def test_half_a_word_is_never_told(bytes_tokenizer: Any, spoken: list[str]) -> None:
    stream, text = WordStream(bytes_tokenizer), " ".join(spoken)
    whole = [" ".join(spoken[:count]) for count in range(len(spoken) + 1)]
    for token in bytes_tokenizer.encode(text, add_special_tokens=False):
        assert stream.push(token) in whole
    assert stream.finish(complete=True) == text
    assert stream.finish(complete=False) == whole[-2]


@given(st.text(st.sampled_from(SPACELESS), min_size=1, max_size=12), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_of_a_script_without_spaces_all_whole_characters_are_told_though_the_end_is_cut(
    bytes_tokenizer: Any, text: str, missing: int
) -> None:
    stream, ids = (
        WordStream(bytes_tokenizer),
        bytes_tokenizer.encode(text, add_special_tokens=False),
    )
    written = ids[: len(ids) - min(missing, len(ids) - 1)]
    whole = bytes_tokenizer.decode(written).rstrip(HALF)
    told = [stream.push(token) for token in written]
    assert all(text.startswith(part) for part in told)
    assert told == sorted(told, key=len)
    assert stream.finish(complete=False) == whole == told[-1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("我看到一只猫", "我看到一只猫"),
        ("ドアが開いた。", "ドアが開いた。"),
        ("这是一部 iPho", "这是一部"),
        ("这是一部iPho", "这是一部"),
        ("the word 猫 mea", "the word 猫"),
        ("고양이가 들어", "고양이가"),
        ("one", ""),
    ],
)
def test_what_a_budget_cuts_off_is_told_to_its_last_whole_word_or_character(
    bytes_tokenizer: Any, text: str, told: str
) -> None:
    stream = WordStream(bytes_tokenizer)
    for token in bytes_tokenizer.encode(text, add_special_tokens=False):
        stream.push(token)
    assert stream.finish(complete=False) == told
    assert stream.finish(complete=True) == text


def test_a_character_that_the_model_left_unfinished_is_not_told(bytes_tokenizer: Any) -> None:
    stream = WordStream(bytes_tokenizer)
    for token in bytes_tokenizer.encode("one café", add_special_tokens=False)[:-1]:
        stream.push(token)
    assert stream.finish(complete=True) == "one"


class Written:
    """One turn in which the model is made to write `ids`, and what came of it."""

    def __init__(
        self,
        model: StreamingModel,
        monkeypatch: pytest.MonkeyPatch,
        ids: list[int],
        limits: Limits = NO_LIMITS,
    ) -> None:
        self.partial: list[str] = []
        self.forwards = 0
        script = iter(ids)

        def scripted(entries: Any) -> torch.Tensor:
            logits = torch.zeros_like(feed_together(entries))
            self.forwards += 1
            if self.forwards > 1:  # the first one reads the picture
                logits[0, next(script)] = 50.0
            return logits

        monkeypatch.setattr("stream_vlm.backbone.streaming.batched_step.feed_together", scripted)
        self.stream = model.open_stream("front")
        turn = Turn(
            self.stream,
            random_frame(0),
            query=Query("q", "is the door open ?", 0),
            gate=answer,
            on_text=self.partial.append,
            limits=limits,
        )
        (decision,) = decisions(model.step([turn]))
        assert isinstance(decision, Decision)
        self.text = decision.text
        self.fed = [
            token
            for segment in self.stream.context
            if segment.kind is SegmentKind.ACTION
            for token in segment.token_ids
        ]


def answer(decision: Decision) -> Decision:
    return Decision(State.RESPONSE, decision.probabilities, confidence=decision.confidence)


def test_an_utterance_ends_where_the_model_ends_its_turn(
    model: StreamingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = list(model.parts.encode_text("the door<|im_end|>"))
    written = Written(model, monkeypatch, ids)
    assert written.text == "the door"
    assert written.partial == ["the", "the door"]
    assert written.forwards == 1 + len(ids), "nothing is computed after the end"
    assert written.fed == ids[:2], "the end of the turn is fed with the next one"


def test_an_utterance_that_reaches_the_budget_is_cut_at_a_whole_word(
    model: StreamingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = list(model.parts.encode_text(SENTENCE))
    assert len(ids) == BUDGET
    written = Written(model, monkeypatch, ids)
    assert written.text == "is the red door"
    assert written.partial == ["is", "is the", "is the red", "is the red door", "is the red door"]
    assert written.forwards == 1 + BUDGET


@pytest.mark.parametrize(("limit", "text"), [(1, ""), (3, "is the"), (50, "is the red door")])
def test_a_limit_of_the_step_shortens_the_budget_and_never_lengthens_it(
    model: StreamingModel, monkeypatch: pytest.MonkeyPatch, limit: int, text: str
) -> None:
    written = Written(
        model, monkeypatch, list(model.parts.encode_text(SENTENCE)), Limits(new_tokens=limit)
    )
    assert written.text == text
    assert written.forwards == 1 + min(limit, BUDGET)


def test_a_turn_that_ends_at_once_says_nothing(
    model: StreamingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Written(model, monkeypatch, list(model.parts.encode_text("<|im_end|>")))
    assert (written.text, written.partial, written.fed) == ("", [], [])
