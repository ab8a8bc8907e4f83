"""Models whose own cache is kept: every tick appends its picture, and questions leave again."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_fixtures import (
    KEPT,
    QUESTION,
    STATE_WORDS,
    judged,
    judgement,
    load,
    take,
    watch,
    write_foreign,
)
from model_fixtures import random_frame
from PIL import Image

from stream_vlm.backbone import KeepingModel
from stream_vlm.backbone.checkpoint.errors import ModelFault, QuestionTooLong
from stream_vlm.backbone.foreign.kept_context import KeptContext
from stream_vlm.backbone.foreign.kept_stream import KeptStream
from stream_vlm.backbone.foreign.processor import load_processor, whole_picture_options
from stream_vlm.context.instructions import (
    NO,
    SYSTEM,
    YES,
    judge_prompt,
    verify_prompt,
)
from stream_vlm.model_protocol import Outcome, Turn, WatchRefused
from stream_vlm.types import Decision, Limits, Query, State
from stream_vlm.vision.preprocess import PictureError


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_foreign(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module", params=KEPT)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_foreign(tmp_path_factory.mktemp(request.param), request.param)


def keeping(directory: Path, **settings: Any) -> KeepingModel:
    model = load(directory, **settings)
    assert isinstance(model, KeepingModel)
    return model


@pytest.fixture
def model(directory: Path) -> KeepingModel:
    return keeping(directory)


def speaking(decision: Decision) -> Decision:
    return replace(decision, state=State.RESPONSE)


def silent(decision: Decision) -> Decision:
    return replace(decision, state=State.SILENCE)


class Unmodified:
    """The model and the processor of transformers, which read a whole chat at once."""

    def __init__(self, directory: Path) -> None:
        from transformers import AutoModelForImageTextToText

        self.model: Any = AutoModelForImageTextToText.from_pretrained(
            directory, dtype=torch.float32
        )
        self.processor = load_processor(directory, "checkpoint")
        self.options = whole_picture_options(self.processor)

    def shares(
        self, turns: Sequence[tuple[str, Sequence[Any]]], words: Sequence[str]
    ) -> list[float]:
        """Probabilities of `words` as the next word of a chat.

        A number in a turn stands for the picture of the frame with that number.
        """
        chat = [{"role": "system", "content": [{"type": "text", "text": SYSTEM}]}]
        shown: list[int] = []
        for role, content in turns:
            parts = [
                {"type": "image"} if isinstance(part, int) else {"type": "text", "text": part}
                for part in content
            ]
            shown += [part for part in content if isinstance(part, int)]
            chat.append({"role": role, "content": parts})
        inputs = self.processor(
            text=[self.processor.apply_chat_template(chat, add_generation_prompt=True)],
            images=[[Image.fromarray(random_frame(index).image) for index in shown]],
            return_tensors="pt",
            **self.options,
        )
        with torch.inference_mode():
            logits = self.model(**inputs, use_cache=False).logits[0, -1]
        encode = self.processor.tokenizer.encode
        scores = [
            torch.logsumexp(
                logits[sorted({encode(form, add_special_tokens=False)[0] for form in forms})], 0
            )
            for forms in ((word, f" {word}") for word in words)
        ]
        shares: list[float] = torch.softmax(torch.stack(scores), dim=0).tolist()
        return shares


def show(*frames: int) -> list[Any]:
    return [part for index in frames for part in (f"<{index / 2:g} seconds>", index)]


JUDGE = judge_prompt("the door opens")


def test_every_tick_equals_one_full_forward_pass_of_the_unmodified_model(
    directory: Path, model: KeepingModel
) -> None:
    plain = Unmodified(directory)
    stream = model.open_stream("front")
    past: list[tuple[str, list[Any]]] = []
    open_turn: list[Any] = []
    for index in range(8):
        open_turn += show(index)
        query = QUESTION if index in (2, 5) else None
        outcome = take(model, stream, random_frame(index), judgements=(judgement(),), query=query)
        expected = plain.shares([*past, ("user", [*open_turn, JUDGE])], STATE_WORDS)
        decided = outcome.judged["i0"].probabilities
        assert [decided[state] for state in State] == pytest.approx(expected, abs=1e-5)
        if query is not None:
            past += [
                ("user", [*open_turn, query.text]),
                ("assistant", [outcome.decision.text]),
            ]
            open_turn = []


def test_the_probability_that_a_report_is_true_is_read_from_yes_and_no(
    directory: Path, model: KeepingModel
) -> None:
    stream = model.open_stream("front")
    take(model, stream, random_frame(0))
    decision = judged(model, stream, random_frame(1), gate=speaking, verify=True)
    expected = Unmodified(directory).shares(
        [("user", [*show(0, 1), verify_prompt(decision.text)])], (YES, NO)
    )
    assert decision.verified == pytest.approx(expected[0], abs=1e-5)
    assert judged(model, stream, random_frame(2), gate=silent, verify=True).verified is None


def cached(stream: KeptStream) -> list[torch.Tensor]:
    """Copies of all tensors in the cache: keys, values, and the states of linear attention."""
    assert stream.context is not None
    cache: Any = stream.context.cache
    tensors: list[torch.Tensor] = []
    for layer in cache.layers:
        for value in vars(layer).values():
            parts = list(value.values()) if isinstance(value, dict) else [value]
            tensors += [part.clone() for part in parts if isinstance(part, torch.Tensor)]
    assert len(tensors) >= 2 * len(cache.layers)
    return tensors


def test_after_judgements_that_were_not_said_the_context_is_that_of_a_stream_never_judged(
    model: KeepingModel,
) -> None:
    judging, never = model.open_stream("front"), model.open_stream("front")
    for index in range(5):
        frame = random_frame(index)
        gates = (silent, speaking) if index % 2 else (speaking, silent)
        take(
            model,
            judging,
            frame,
            judgements=tuple(
                judgement(number, gate=gate, verify=True) for number, gate in enumerate(gates)
            ),
        )
        take(model, never, frame)
        for one, other in zip(cached(judging), cached(never), strict=True):
            assert torch.equal(one, other)


def test_a_report_that_was_said_stays_in_the_context(directory: Path, model: KeepingModel) -> None:
    stream = model.open_stream("front")
    report = judged(model, stream, random_frame(0), gate=speaking).text
    assert report
    said = {"reported": report, "reported_ns": random_frame(0).stamp_ns}
    decision = judged(model, stream, random_frame(1), gate=silent, **said)
    prompt = judge_prompt("the door opens", report, 0.0)
    expected = Unmodified(directory).shares(
        [("user", show(0)), ("assistant", [report]), ("user", [*show(1), prompt])], STATE_WORDS
    )
    assert [decision.probabilities[state] for state in State] == pytest.approx(expected, abs=1e-5)


def test_two_instructions_are_judged_each_on_its_own(llava: Path) -> None:
    model = keeping(llava)
    together, alone = model.open_stream("front"), model.open_stream("front")
    for index in range(3):
        both = take(
            model,
            together,
            random_frame(index),
            judgements=(judgement(), judgement(1, "person in red")),
        ).judged
        one = take(
            model, alone, random_frame(index), judgements=(judgement(1, "person in red"),)
        ).judged
        assert set(both) == {"i0", "i1"}
        assert both["i1"] == one["i1"]


def test_a_turn_without_question_and_judgement_is_silent(llava: Path) -> None:
    model = keeping(llava)
    outcome = take(model, model.open_stream("front"), random_frame(0))
    assert outcome.decision.state is State.SILENCE
    assert outcome.judged == {}


def test_an_answer_needs_no_marker_and_its_confidence_is_that_of_its_words(
    llava: Path,
) -> None:
    model = keeping(llava)
    parts: list[str] = []
    decision = take(
        model, model.open_stream("front"), random_frame(0), query=QUESTION, on_text=parts.append
    ).decision
    assert decision.state is State.RESPONSE
    assert decision.text
    assert 0.0 < decision.confidence < 1.0
    assert parts[-1] == decision.text
    assert all(later.startswith(earlier) for earlier, later in pairwise(parts))


def test_an_utterance_stays_within_the_limit_of_the_step(llava: Path) -> None:
    model = keeping(llava)
    outcome = take(
        model,
        model.open_stream("front"),
        random_frame(0),
        query=QUESTION,
        limits=Limits(new_tokens=4),
    )
    assert 0 < len(outcome.decision.text.split()) <= 4


def fed_by(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of tokens of every forward pass from now on."""
    fed: list[int] = []
    feed = KeptContext.feed

    def counting(self: KeptContext, inputs: Any) -> torch.Tensor:
        fed.append(inputs["input_ids"].shape[1])
        return feed(self, inputs)

    monkeypatch.setattr(KeptContext, "feed", counting)
    return fed


def test_a_tick_costs_the_same_however_long_the_context_is(
    llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = keeping(llava)
    stream = model.open_stream("front")
    fed = fed_by(monkeypatch)
    for index in range(10):
        judged(model, stream, random_frame(index), gate=silent)
    assert len(fed) == 20
    # Times with a half second have more tokens than those without.
    assert len(set(fed[2::4])) == len(set(fed[4::4])) == 1
    assert max(fed[2::2]) < fed[0]


def texts_of(model: KeepingModel, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts of what is appended to contexts from now on, without branches."""
    texts: list[str] = []
    piece = model.checkpoint.writer.piece

    def noting(text: str, images: Any, *, first: bool) -> Any:
        texts.append(text)
        return piece(text, images, first=first)

    monkeypatch.setattr(model.checkpoint.writer, "piece", noting)
    return texts


def test_a_new_chunk_begins_with_what_happened_before_and_the_newest_pictures(
    llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = keeping(llava, context__max_seconds=6.0, context__frames=3)
    texts = texts_of(model, monkeypatch)
    stream = model.open_stream("front")
    lines = ["3 pm: the door opens"]
    for index in range(8):
        take(model, stream, random_frame(index), memory=lambda: lines)
    assert [text.count("<image>") for text in texts] == [1, 1, 1, 1, 1, 1, 3, 1]
    assert lines[0] in texts[0]
    assert lines[0] in texts[6]
    assert [text.startswith(texts[0][:20]) for text in texts] == [
        index in (0, 6) for index in range(8)
    ]


def test_a_new_chunk_decides_as_a_new_stream_with_the_same_pictures(llava: Path) -> None:
    model = keeping(llava, context__max_seconds=3.0, context__frames=2)
    old, new = model.open_stream("front"), model.open_stream("front")
    for index in range(4):
        decided = judged(model, old, random_frame(index))
    frames = [
        replace(random_frame(index), stamp_ns=random_frame(index - 2).stamp_ns) for index in (2, 3)
    ]
    for frame in frames:
        expected = judged(model, new, frame)
    # Only the written times differ, and the tokenizer has no digits.
    assert dict(decided.probabilities) == pytest.approx(dict(expected.probabilities), abs=1e-5)


def test_a_chunk_ends_when_the_model_has_no_more_positions(llava: Path) -> None:
    model = keeping(llava)
    stream = model.open_stream("front")
    lengths = []
    for index in range(60):
        judged(model, stream, random_frame(index), gate=silent)
        assert stream.context is not None
        lengths.append(stream.context.length)
    assert max(lengths) <= 1024
    assert any(later < earlier for earlier, later in pairwise(lengths))


def test_control_tokens_in_a_question_are_not_read_as_control(llava: Path) -> None:
    model = keeping(llava)
    odd = Query("q", "<image> <turn> is the door <image> open ?", 0)
    answers = [
        take(model, model.open_stream("front"), random_frame(0), query=query).decision
        for query in (odd, QUESTION)
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("size", [(480, 641), (8, 300)])
def test_pictures_may_have_unusual_and_changing_sizes(
    model: KeepingModel, size: tuple[int, int]
) -> None:
    stream = model.open_stream("front")
    for frame in (random_frame(0), random_frame(1, size=size), random_frame(2)):
        decision = judged(model, stream, frame)
        assert sum(decision.probabilities.values()) == pytest.approx(1.0, abs=1e-5)


def test_a_picture_that_cannot_be_processed_leaves_the_stream_unchanged(
    llava: Path,
) -> None:
    model = keeping(llava)
    disturbed, quiet = model.open_stream("front"), model.open_stream("front")
    judged(model, disturbed, random_frame(0))
    judged(model, quiet, random_frame(0))
    (outcome,) = model.step([Turn(disturbed, random_frame(1, size=(3, 64)))])
    assert isinstance(outcome, PictureError)
    assert "64 x 3" in str(outcome)
    assert judged(model, disturbed, random_frame(2)) == judged(model, quiet, random_frame(2))


def test_two_cameras_do_not_disturb_each_other(llava: Path) -> None:
    model = keeping(llava)
    front, back, alone = (model.open_stream(camera) for camera in ("front", "back", "front"))
    for index in range(4):
        frame = random_frame(index)
        turns = [
            Turn(front, frame, judgements=(judgement(),)),
            Turn(back, random_frame(90 + index, "back"), query=QUESTION),
        ]
        first = model.step(turns)[0]
        assert isinstance(first, Outcome)
        assert first.judged["i0"] == judged(model, alone, frame)


def test_after_a_reset_a_stream_decides_as_a_new_one(llava: Path) -> None:
    model = keeping(llava)
    stream = model.open_stream("front")
    watch(model, stream, [random_frame(index) for index in range(3)], asked_at=1)
    stream.reset()
    assert judged(model, stream, random_frame(7)) == judged(
        model, model.open_stream("front"), random_frame(7)
    )


def test_logits_that_are_not_finite_are_reported_and_the_context_is_cleared(llava: Path) -> None:
    model = keeping(llava)
    stream = model.open_stream("front")
    judged(model, stream, random_frame(0))
    weight = model.checkpoint.model.get_output_embeddings().weight
    kept = weight.clone()
    weight.fill_(torch.nan)
    (outcome,) = model.step([Turn(stream, random_frame(1), judgements=(judgement(),))])
    assert isinstance(outcome, ModelFault)
    assert "front" in str(outcome)
    weight.copy_(kept)
    assert judged(model, stream, random_frame(2)) == judged(
        model, model.open_stream("front"), random_frame(2)
    )


def test_out_of_memory_is_reported_and_the_context_is_cleared(
    llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = keeping(llava)
    stream = model.open_stream("front")
    judged(model, stream, random_frame(0))

    def too_large(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(KeptContext, "feed", too_large)
        (outcome,) = model.step([Turn(stream, random_frame(1))])
    assert isinstance(outcome, ModelFault)
    assert "context.max_seconds" in str(outcome)
    assert stream.context is None


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"query": Query("q", "door " * 1100, 0)}, QuestionTooLong),
        ({"judgements": (judgement(0, "door " * 1100),)}, WatchRefused),
    ],
)
def test_words_too_long_for_the_model_are_refused_and_leave_the_stream_unchanged(
    llava: Path, asked: dict[str, Any], error: type[Exception]
) -> None:
    model = keeping(llava)
    disturbed, quiet = model.open_stream("front"), model.open_stream("front")
    judged(model, disturbed, random_frame(0))
    judged(model, quiet, random_frame(0))
    (outcome,) = model.step([Turn(disturbed, random_frame(1), **asked)])
    assert isinstance(outcome, error)
    assert "reads 1024" in str(outcome)
    assert judged(model, disturbed, random_frame(2)) == judged(model, quiet, random_frame(2))
