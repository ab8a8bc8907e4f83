"""Models whose cache is not kept: every question is a new chat with the newest pictures."""

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_fixtures import (
    ARCHITECTURES,
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

from stream_vlm.backbone import RecomputingModel
from stream_vlm.backbone.checkpoint.errors import ModelFault, QuestionTooLong
from stream_vlm.backbone.foreign.processor import load_processor, whole_picture_options
from stream_vlm.cli import main
from stream_vlm.context.instructions import SYSTEM, judge_prompt
from stream_vlm.loop.harness import StreamingHarness
from stream_vlm.model_protocol import Outcome, Turn, WatchRefused
from stream_vlm.types import Decision, Limits, Query, State, Tick
from stream_vlm.vision.preprocess import PictureError


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_foreign(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module", params=ARCHITECTURES)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_foreign(tmp_path_factory.mktemp(request.param), request.param)


def recomputing(directory: Path, **settings: Any) -> RecomputingModel:
    model = load(directory, context__recompute=True, **settings)
    assert isinstance(model, RecomputingModel)
    return model


@pytest.fixture
def model(directory: Path) -> RecomputingModel:
    return recomputing(directory)


def silent(decision: Decision) -> Decision:
    return replace(decision, state=State.SILENCE)


def speaking(decision: Decision) -> Decision:
    return replace(decision, state=State.RESPONSE)


def test_the_probabilities_equal_those_of_one_full_forward_pass_in_transformers(
    directory: Path, model: RecomputingModel
) -> None:
    from transformers import AutoModelForImageTextToText

    plain: Any = AutoModelForImageTextToText.from_pretrained(directory, dtype=torch.float32)
    processor = load_processor(directory, "checkpoint")
    stream = model.open_stream("front")
    frames = [random_frame(index) for index in range(6)]
    said = [judged(model, stream, frame) for frame in frames]
    for newest in (0, 2, 5):
        shown = range(max(0, newest - 3), newest + 1)
        parts: list[dict[str, object]] = []
        for index in shown:
            parts += [{"type": "text", "text": f"<{index / 2:g} seconds>"}, {"type": "image"}]
        parts.append({"type": "text", "text": judge_prompt("the door opens")})
        chat = [
            {"role": "system", "content": [{"type": "text", "text": SYSTEM}]},
            {"role": "user", "content": parts},
        ]
        text = processor.apply_chat_template(chat, add_generation_prompt=True)
        inputs = processor(
            text=[text],
            images=[[Image.fromarray(frames[index].image) for index in shown]],
            return_tensors="pt",
            **whole_picture_options(processor),
        )
        inputs.pop("labels", None)
        with torch.inference_mode():
            logits = plain(**inputs, use_cache=False).logits[0, -1]
        encode = processor.tokenizer.encode
        scores = [
            torch.logsumexp(logits[sorted({encode(word)[0], encode(f" {word}")[0]})], 0)
            for word in STATE_WORDS
        ]
        expected = torch.softmax(torch.stack(scores), dim=0).tolist()
        assert [said[newest].probabilities[state] for state in State] == pytest.approx(
            expected, abs=1e-5
        )


# PaliGemma attends to the chat in both directions and to its reply in one direction only, so one
# forward pass over both is different; so does Gemma 3 within a picture, but not in its words.
@pytest.mark.parametrize("architecture", ["llava", "idefics2", "idefics3"])
def test_words_equal_those_of_full_forward_passes_without_a_cache(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = recomputing(write_foreign(tmp_path, architecture))
    seen: list[dict[str, torch.Tensor]] = []
    generate = model.checkpoint.model.generate

    def watching(**inputs: Any) -> Any:
        seen.append({name: inputs[name] for name in inputs if torch.is_tensor(inputs[name])})
        return generate(**inputs)

    monkeypatch.setattr(model.checkpoint.model, "generate", watching)
    decision = judged(model, model.open_stream("front"), random_frame(0), gate=speaking)
    checkpoint = model.checkpoint
    ids = [*seen[0]["input_ids"][0].tolist(), *checkpoint.states[State.RESPONSE][0]]
    written: list[int] = []
    while len(written) < 8 and not set(written) & checkpoint.stop:
        everything = seen[0] | {
            "input_ids": torch.tensor([ids]),
            "attention_mask": torch.ones((1, len(ids)), dtype=torch.long),
        }
        with torch.inference_mode():
            logits = checkpoint.model(**everything, use_cache=False).logits[0, -1].clone()
            logits[[*checkpoint.forbidden, *([] if written else checkpoint.stop)]] = -torch.inf
        written.append(int(logits.argmax()))
        ids.append(written[-1])
    expected = str(checkpoint.tokenizer.decode(written, skip_special_tokens=True)).split()
    assert decision.text.split() == (expected if written[-1] in checkpoint.stop else expected[:-1])


def test_questions_and_instructions_get_their_own_decisions(model: RecomputingModel) -> None:
    stream = model.open_stream("front")
    parts: list[str] = []
    outcome = take(
        model,
        stream,
        random_frame(0),
        query=QUESTION,
        on_text=parts.append,
        judgements=(judgement(gate=speaking, verify=True), judgement(1, "person in red")),
        limits=Limits(new_tokens=4),
    )
    assert outcome.decision.state is State.RESPONSE
    assert 0 < len(outcome.decision.text.split()) <= 4
    assert parts[-1] == outcome.decision.text
    verified = outcome.judged["i0"].verified
    assert verified is not None
    assert 0.0 < verified < 1.0
    assert outcome.judged["i1"].verified is None
    assert sum(outcome.judged["i1"].probabilities.values()) == pytest.approx(1.0, abs=1e-5)


def test_silence_costs_one_forward_pass_and_a_turn_without_judgement_none(
    model: RecomputingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    language = model.checkpoint.model.model.forward

    def counting(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        return language(*arguments, **named)

    monkeypatch.setattr(model.checkpoint.model.model, "forward", counting)
    stream = model.open_stream("front")
    judged(model, stream, random_frame(0), gate=silent)
    assert len(calls) == 1
    assert take(model, stream, random_frame(1)).decision.state is State.SILENCE
    assert len(calls) == 1


def test_the_same_frames_give_the_same_outcomes(directory: Path, model: RecomputingModel) -> None:
    frames = [random_frame(index) for index in range(4)]
    once = watch(model, model.open_stream("front"), frames, asked_at=2)
    loaded_again = recomputing(directory)
    assert once == watch(loaded_again, loaded_again.open_stream("front"), frames, asked_at=2)


@pytest.mark.parametrize("count", [1, 4])
def test_pictures_older_than_the_newest_few_do_not_change_the_decision(
    llava: Path, count: int
) -> None:
    model = recomputing(llava, context__frames=count)
    frames = [random_frame(index) for index in range(7)]
    others = [replace(frame, image=255 - frame.image) for frame in frames]
    same_newest = [*others[: 7 - count], *frames[7 - count :]]
    different_newest = [*others[: 8 - count], *frames[8 - count :]]
    last = [
        [judged(model, stream, frame, gate=silent) for frame in shown][-1]
        for shown in (frames, same_newest, different_newest)
        for stream in [model.open_stream("front")]
    ]
    assert last[0] == last[1]
    assert last[0] != last[2]


def test_the_last_question_and_its_answer_stay_in_the_prompt(
    llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = recomputing(llava)
    prompts: list[str] = []
    write = model.checkpoint.writer.write

    def recording(labels: Sequence[str], before: str, after: str) -> str:
        prompts.append(f"{before}|{after}")
        return write(labels, before, after)

    monkeypatch.setattr(model.checkpoint.writer, "write", recording)
    stream = model.open_stream("front")
    answer = take(model, stream, random_frame(0), query=QUESTION).decision.text
    judged(model, stream, random_frame(1), gate=silent)
    earlier = f"Asked at 0s: is the door open ?\nAnswered: {answer}\n"
    assert prompts == ["|is the door open ?", f"{earlier}|{judge_prompt('the door opens')}"]


def test_control_tokens_in_a_question_are_not_read_as_control(llava: Path) -> None:
    model = recomputing(llava)
    odd = Query("q", "<image> <turn> is the door <image> open ?", 0)
    answers = [
        take(model, model.open_stream("front"), random_frame(0), query=query).decision
        for query in (odd, QUESTION)
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("size", [(480, 641), (8, 300)])
def test_pictures_may_have_unusual_and_changing_sizes(
    model: RecomputingModel, size: tuple[int, int]
) -> None:
    stream = model.open_stream("front")
    for frame in (random_frame(0), random_frame(1, size=size), random_frame(2)):
        decision = judged(model, stream, frame)
        assert sum(decision.probabilities.values()) == pytest.approx(1.0, abs=1e-5)
        # A large picture is made smaller; its shape stays, to a pixel.
        height, width = stream.shown[-1].image.shape[:2]
        assert height * frame.image.shape[1] == pytest.approx(
            width * frame.image.shape[0], rel=0.01
        )


def test_a_picture_that_cannot_be_processed_leaves_its_stream_and_the_others_unchanged(
    llava: Path,
) -> None:
    model = recomputing(llava)
    disturbed, quiet = model.open_stream("front"), model.open_stream("front")
    judged(model, disturbed, random_frame(0))
    judged(model, quiet, random_frame(0))
    outcome, other = model.step(
        [
            Turn(disturbed, random_frame(1, size=(3, 64))),
            Turn(model.open_stream("back"), random_frame(1, "back"), query=QUESTION),
        ]
    )
    assert isinstance(outcome, PictureError)
    assert "64 x 3" in str(outcome)
    assert isinstance(other, Outcome)
    assert judged(model, disturbed, random_frame(2)) == judged(model, quiet, random_frame(2))


def test_after_a_reset_a_stream_decides_as_a_new_one(model: RecomputingModel) -> None:
    stream = model.open_stream("front")
    watch(model, stream, [random_frame(index) for index in range(3)], asked_at=1)
    stream.reset()
    assert judged(model, stream, random_frame(7)) == judged(
        model, model.open_stream("front"), random_frame(7)
    )


def test_logits_that_are_not_finite_are_reported_and_the_context_is_cleared(
    llava: Path,
) -> None:
    model = recomputing(llava)
    stream = model.open_stream("front")
    judged(model, stream, random_frame(0))
    model.checkpoint.model.get_output_embeddings().weight.fill_(torch.nan)
    (outcome,) = model.step([Turn(stream, random_frame(1), judgements=(judgement(),))])
    assert isinstance(outcome, ModelFault)
    assert "front" in str(outcome)
    assert "float32" in str(outcome)
    assert stream.shown == []


def test_out_of_memory_is_reported_and_the_context_is_cleared(
    llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = recomputing(llava)
    stream = model.open_stream("front")
    judged(model, stream, random_frame(0))

    def too_large(**_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(model.checkpoint.model, "generate", too_large)
        (outcome,) = model.step([Turn(stream, random_frame(1), query=QUESTION)])
    assert isinstance(outcome, ModelFault)
    assert "lower context.frames" in str(outcome)
    assert stream.shown == []


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"query": Query("q", "door " * 1100, 0)}, QuestionTooLong),
        ({"judgements": (judgement(0, "door " * 1100),)}, WatchRefused),
    ],
)
def test_words_too_long_for_the_model_are_refused(
    llava: Path, asked: dict[str, Any], error: type[Exception]
) -> None:
    model = recomputing(llava)
    (outcome,) = model.step([Turn(model.open_stream("front"), random_frame(0), **asked)])
    assert isinstance(outcome, error)
    assert "reads 1024" in str(outcome)


def test_the_harness_runs_the_model_and_gets_what_the_node_needs(model: RecomputingModel) -> None:
    assert model.device == "cpu"
    assert model.judges_instructions
    assert "recomputed at every tick" in model.engine
    harness = StreamingHarness(model.settings, model, "session")
    frames = [random_frame(index) for index in range(4)]
    results = [
        harness.step(Tick(index, frame.stamp_ns, (frame,), (QUESTION,) if index == 1 else ()))
        for index, frame in enumerate(frames)
    ]
    assert not any(result.faults for result in results)
    assert [said.query_id for said in results[1].utterances] == ["q"]
    assert {"prefill", "decode", "step"} <= set(results[1].seconds)


def test_memory_does_not_grow_with_the_stream(llava: Path) -> None:
    model = recomputing(llava)
    stream = model.open_stream("front")
    sizes = []
    tracemalloc.start()
    try:
        for index in range(60):
            judged(model, stream, random_frame(index % 7 + index * 10), gate=silent)
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # A kept picture would be 36,864 bytes a tick.
    assert max(sizes[30:]) - max(sizes[10:30]) < 10 * 36_864


def test_pictures_are_made_smaller_if_smaller_pictures_cost_less(tmp_path: Path) -> None:
    model = recomputing(write_foreign(tmp_path, "idefics2"))
    assert model.checkpoint.follows_picture_size
    stream = model.open_stream("front")
    take(model, stream, random_frame(0, size=(960, 1280)))
    take(model, stream, random_frame(1, size=(240, 320)), limits=Limits(picture_share=0.25))
    first, second = (shown.image.shape[0] * shown.image.shape[1] for shown in stream.shown)
    assert first == pytest.approx(448 * 448, rel=0.01)
    assert second == pytest.approx(240 * 320 / 4, rel=0.01)


def test_pictures_are_unchanged_if_the_model_takes_one_size(llava: Path) -> None:
    model = recomputing(llava)
    stream = model.open_stream("front")
    take(model, stream, random_frame(0), limits=Limits(picture_share=0.25))
    assert np.array_equal(stream.shown[0].image, random_frame(0).image)


@pytest.mark.parametrize("recompute", ["true", "false"])
def test_two_runs_with_a_simulated_camera_give_the_same_result(
    llava: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], recompute: str
) -> None:
    for folder in ("once", "again"):
        command = [
            "run",
            "world:1000000",
            "--seconds",
            "3",
            "--set",
            f"model.directory={llava}",
            "--set",
            f"context.recompute={recompute}",
        ]
        assert main([*command, "--out", str(tmp_path / folder)]) == 0
    assert "3 ticks" in capsys.readouterr().out
    for name in ("utterances.jsonl", "events.jsonl", "states.jsonl"):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert len((tmp_path / "once" / "states.jsonl").read_text().splitlines()) == 3
