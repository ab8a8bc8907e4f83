"""Replies of models with a chat template of their own: states, words, answers."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from foreign_fixtures import write_foreign
from model_fixtures import settings_for

from stream_vlm.backbone.foreign.loader import ForeignCheckpoint, load_foreign
from stream_vlm.backbone.foreign.reply import Reply, probability_of_yes
from stream_vlm.backbone.tokens.state_decision import NotFinite
from stream_vlm.backbone.tokens.token_sampler import TokenSampler
from stream_vlm.config.model_settings import SamplingSettings
from stream_vlm.model_protocol import unchanged
from stream_vlm.types import Decision, State


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> ForeignCheckpoint:
    directory = write_foreign(tmp_path_factory.mktemp("qwen3_5"), "qwen3_5")
    return load_foreign(settings_for(directory).model)


def written(checkpoint: ForeignCheckpoint, text: str, **options: Any) -> Decision:
    """The decision of a model that would write `text` and then end its reply."""
    reply = Reply(
        checkpoint,
        TokenSampler(SamplingSettings()),
        unchanged,
        None,
        longest_words=60,
        on_decided=lambda: None,
        **options,
    )
    ids = [*checkpoint.tokenizer.encode(text, add_special_tokens=False), min(checkpoint.stop)]
    for token in ids:
        logits = torch.zeros(len(checkpoint.tokenizer))
        logits[token] = 20.0
        assert reply.choose(logits) == token or reply.is_over
        if reply.is_over:
            break
    return reply.outcome()


@pytest.mark.parametrize(
    ("text", "state", "words"),
    [
        ("Silence", State.SILENCE, ""),
        ("Standby", State.STANDBY, ""),
        ("Response: A person enters.", State.RESPONSE, "A person enters."),
        ("Response\nA person enters.", State.RESPONSE, "A person enters."),
        (
            "Response - A person enters.\nThe door is open, too.",
            State.RESPONSE,
            "A person enters.",
        ),
    ],
)
def test_a_judgement_is_a_state_and_one_sentence(
    checkpoint: ForeignCheckpoint, text: str, state: State, words: str
) -> None:
    decision = written(checkpoint, text)
    assert (decision.state, decision.text) == (state, words)
    assert decision.confidence > 0.9


def test_an_answer_may_have_several_lines(checkpoint: ForeignCheckpoint) -> None:
    assert written(checkpoint, "Yes.\nIt is open.", is_answer=True).text == "Yes.\nIt is open."


@pytest.mark.parametrize(("word", "share"), [("Yes", 1.0), ("No", 0.0), (" Yes", 1.0)])
def test_the_second_look_is_read_from_yes_and_no(
    checkpoint: ForeignCheckpoint, word: str, share: float
) -> None:
    logits = torch.zeros(len(checkpoint.tokenizer))
    logits[checkpoint.tokenizer.encode(word, add_special_tokens=False)[0]] = 20.0
    assert probability_of_yes(logits, checkpoint) == pytest.approx(share, abs=1e-6)


def test_logits_that_are_not_finite_are_refused(checkpoint: ForeignCheckpoint) -> None:
    broken: Sequence[float] = [float("nan")] * len(checkpoint.tokenizer)
    with pytest.raises(NotFinite):
        probability_of_yes(torch.tensor(broken), checkpoint)
