"""Utterances while they are decoded: whole words, up to the end of the turn or the token limit."""

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
    """A tokenizer with one token for each byte; most tokens end inside a word or a character."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(
        write_streaming_vlm_checkpoint(tmp_path_factory.mktemp("bytes") / "model")
    )


SPACELESS = "我看到一只猫进来了ひらがなカタカナ、。「」？𠀋"
"""Chinese and Japanese characters of three bytes, and one of four."""

HALF = "\N{REPLACEMENT CHARACTER}"
"""A tokenizer decodes an incomplete character to this; it is never published."""

letters = st.characters(codec="utf-8", categories=("L", "N", "S"), exclude_characters=HALF)
narrow = letters.filter(lambda character: unicodedata.east_asian_width(character) not in "WFH")
"""Characters of scripts with spaces between words, so no wide characters."""

words = st.lists(st.text(narrow, min_size=1, max_size=6), min_size=1, max_size=6)


@given(words)
@settings(max_examples=100, deadline=None)
def test_an_incomplete_word_is_never_returned(bytes_tokenizer: Any, spoken: list[str]) -> None:
    stream, text = WordStream(bytes_tokenizer), " ".join(spoken)
    whole = [" ".join(spoken[:count]) for count in range(len(spoken) + 1)]
    for token in bytes_tokenizer.encode(text, add_special_tokens=False):
        assert stream.push(token) in whole
    assert stream.finish(complete=True) == text
    assert stream.finish(complete=False) == whole[-2]


@given(st.text(st.sampled_from(SPACELESS), min_size=1, max_size=12), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_in_a_script_without_spaces_all_whole_characters_are_returned(
    bytes_tokenizer: Any, text: str, missing: int
) -> None:
    stream, ids = (
        WordStream(bytes_tokenizer),
        bytes_tokenizer.encode(text, add_special_tokens=False),
    )
    written = ids[: len(ids) - min(missing, len(ids) - 1)]
    whole = bytes_tokenizer.decode(written).rstrip(HALF)
    returned = [stream.push(token) for token in written]
    assert all(text.startswith(part) for part in returned)
    assert returned == sorted(returned, key=len)
    assert stream.finish(complete=False) == whole == returned[-1]


@pytest.mark.parametrize(
    ("text", "returned"),
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
def test_a_cut_text_ends_at_its_last_whole_word_or_character(
    bytes_tokenizer: Any, text: str, returned: str
) -> None:
    stream = WordStream(bytes_tokenizer)
    for token in bytes_tokenizer.encode(text, add_special_tokens=False):
        stream.push(token)
    assert stream.finish(complete=False) == returned
    assert stream.finish(complete=True) == text


def test_an_incomplete_character_at_the_end_is_left_out(bytes_tokenizer: Any) -> None:
    stream = WordStream(bytes_tokenizer)
    for token in bytes_tokenizer.encode("one café", add_special_tokens=False)[:-1]:
        stream.push(token)
    assert stream.finish(complete=True) == "one"


class Written:
    """The result of one turn in which the model writes `ids`."""

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
    assert written.forwards == 1 + len(ids), "no forward pass follows the end"
    assert written.fed == ids[:2], "the end of the turn is fed with the next one"


def test_an_utterance_at_the_token_limit_is_cut_at_a_whole_word(
    model: StreamingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = list(model.parts.encode_text(SENTENCE))
    assert len(ids) == BUDGET
    written = Written(model, monkeypatch, ids)
    assert written.text == "is the red door"
    assert written.partial == ["is", "is the", "is the red", "is the red door", "is the red door"]
    assert written.forwards == 1 + BUDGET


@pytest.mark.parametrize(("limit", "text"), [(1, ""), (3, "is the"), (50, "is the red door")])
def test_the_limits_of_a_step_can_only_shorten_an_utterance(
    model: StreamingModel, monkeypatch: pytest.MonkeyPatch, limit: int, text: str
) -> None:
    written = Written(
        model, monkeypatch, list(model.parts.encode_text(SENTENCE)), Limits(new_tokens=limit)
    )
    assert written.text == text
    assert written.forwards == 1 + min(limit, BUDGET)


def test_a_response_that_ends_at_once_has_no_words(
    model: StreamingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Written(model, monkeypatch, list(model.parts.encode_text("<|im_end|>")))
    assert (written.text, written.partial, written.fed) == ("", [], [])
