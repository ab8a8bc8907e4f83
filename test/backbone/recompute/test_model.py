"""Models without a KV cache: every tick recomputes a chat with the newest pictures."""

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_fixtures import (
    ARCHITECTURES,
    QUESTION,
    STATE_WORDS,
    decide,
    load,
    outcome_of,
    watch,
    write_foreign,
)
from model_fixtures import decisions, random_frame
from PIL import Image

from stream_vlm.backbone import RecomputingModel
from stream_vlm.backbone.checkpoint.errors import ModelFault, QuestionTooLong
from stream_vlm.cli import main
from stream_vlm.context.turn_formats import PROMPTED, PROMPTED_SYSTEM
from stream_vlm.loop.harness import StreamingHarness
from stream_vlm.model_protocol import Turn
from stream_vlm.types import Decision, Limits, Query, State, Tick
from stream_vlm.vision.preprocess import PictureError


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_foreign(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module", params=ARCHITECTURES)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_foreign(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def model(directory: Path) -> RecomputingModel:
    return load(directory)


def unchanged(decision: Decision) -> Decision:
    return decision


def silent(decision: Decision) -> Decision:
    return replace(decision, state=State.SILENCE)


def test_the_probabilities_equal_those_of_one_full_forward_pass_in_transformers(
    directory: Path, model: RecomputingModel
) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    plain: Any = AutoModelForImageTextToText.from_pretrained(directory, dtype=torch.float32)
    processor: Any = AutoProcessor.from_pretrained(directory)
    stream = model.open_stream("front")
    frames = [random_frame(index) for index in range(6)]
    said = [decide(model, stream, frame) for frame in frames]
    for newest in (0, 2, 5):
        shown = range(max(0, newest - 3), newest + 1)
        parts: list[dict[str, object]] = []
        for index in shown:
            parts += [
                {"type": "text", "text": f"<{index // 2}s-{index // 2 + 1}s>\n"},
                {"type": "image"},
            ]
        chat = [
            {"role": "system", "content": [{"type": "text", "text": PROMPTED_SYSTEM}]},
            {"role": "user", "content": parts},
        ]
        text = processor.apply_chat_template(chat, add_generation_prompt=True)
        inputs = processor(
            text=[text],
            images=[[Image.fromarray(frames[index].image) for index in shown]],
            return_tensors="pt",
        )
        with torch.inference_mode():
            logits = plain(**inputs, use_cache=False).logits[0, -1]
        ids = [processor.tokenizer.convert_tokens_to_ids(word) for word in STATE_WORDS]
        expected = torch.softmax(logits[ids], dim=0).tolist()
        assert [said[newest].probabilities[state] for state in State] == pytest.approx(
            expected, abs=1e-5
        )
        assert sum(said[newest].probabilities.values()) == pytest.approx(1.0, abs=1e-5)


# PaliGemma attends to the chat in both directions and to its reply in one direction only, so one
# forward pass over both is different.
@pytest.mark.parametrize("architecture", ["llava", "idefics2", "idefics3"])
def test_words_equal_those_of_full_forward_passes_without_a_cache(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(write_foreign(tmp_path, architecture))
    seen: list[dict[str, torch.Tensor]] = []
    generate = model.checkpoint.model.generate

    def watching(**inputs: Any) -> Any:
        seen.append({name: inputs[name] for name in inputs if torch.is_tensor(inputs[name])})
        return generate(**inputs)

    monkeypatch.setattr(model.checkpoint.model, "generate", watching)
    decision = decide(
        model, model.open_stream("front"), random_frame(0), QUESTION, limits=Limits(new_tokens=5)
    )
    checkpoint = model.checkpoint
    ids = [*seen[0]["input_ids"][0].tolist(), *checkpoint.states[State.RESPONSE][0]]
    written: list[int] = []
    while len(written) < 5 and not set(written) & checkpoint.stop:
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


def test_a_question_is_always_answered_and_its_text_grows_by_whole_words(
    model: RecomputingModel,
) -> None:
    stream = model.open_stream("front")
    parts: list[str] = []
    decision = decide(model, stream, random_frame(0), QUESTION, on_text=parts.append)
    assert decision.state is State.RESPONSE
    assert decision.text
    assert set(decision.text.split()) <= set(model.checkpoint.tokenizer.get_vocab())
    assert parts[-1] == decision.text
    assert all(later.startswith(earlier) for earlier, later in pairwise(parts))
    assert 0.0 <= decision.confidence <= 1.0


def test_an_utterance_stays_within_the_limit_of_the_step(model: RecomputingModel) -> None:
    decision = decide(
        model, model.open_stream("front"), random_frame(0), QUESTION, limits=Limits(new_tokens=4)
    )
    assert 0 < len(decision.text.split()) <= 4


def test_silence_costs_one_forward_pass(
    model: RecomputingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    language = model.checkpoint.model.model.forward

    def counting(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        return language(*arguments, **named)

    monkeypatch.setattr(model.checkpoint.model.model, "forward", counting)
    frame = random_frame(0)
    assert isinstance(
        decisions(model.step([Turn(model.open_stream("front"), frame, gate=silent)]))[0], Decision
    )
    assert len(calls) == 1


def test_the_same_frames_give_the_same_decisions(directory: Path, model: RecomputingModel) -> None:
    frames = [random_frame(index) for index in range(6)]
    once = watch(model, model.open_stream("front"), frames, asked_at=2)
    again = watch(model, model.open_stream("front"), frames, asked_at=2)
    loaded_again = load(directory)
    assert (
        once == again == watch(loaded_again, loaded_again.open_stream("front"), frames, asked_at=2)
    )


@pytest.mark.parametrize("count", [1, 4])
def test_pictures_older_than_the_newest_few_do_not_change_the_decision(
    llava: Path, count: int
) -> None:
    model = load(llava, context__frames=count)
    frames = [random_frame(index) for index in range(7)]
    others = [replace(frame, image=255 - frame.image) for frame in frames]
    same_newest = [*others[: 7 - count], *frames[7 - count :]]
    different_newest = [*others[: 8 - count], *frames[8 - count :]]
    last = [
        [decisions(model.step([Turn(stream, frame, gate=silent)]))[0] for frame in shown][-1]
        for shown in (frames, same_newest, different_newest)
        for stream in [model.open_stream("front")]
    ]
    assert last[0] == last[1]
    assert last[0] != last[2]


def test_the_last_question_and_its_answer_stay_in_the_prompt_unless_a_watch_is_active(
    llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(llava)
    prompts: list[str] = []
    write = model.checkpoint.writer.write

    def recording(labels: Sequence[str], before: str, after: str) -> str:
        prompts.append(f"{before}|{after}")
        return write(labels, before, after)

    monkeypatch.setattr(model.checkpoint.writer, "write", recording)
    stream = model.open_stream("front")
    answer = decide(model, stream, random_frame(0), QUESTION).text
    decide(model, stream, random_frame(1))
    watch = Query("w", "person in red", 0, is_watch=True)
    decide(model, stream, random_frame(2), watch=watch)
    second = decide(model, stream, random_frame(3), QUESTION, watch=watch).text
    decide(model, stream, random_frame(4))
    earlier = f"Asked at 0s: is the door open ?\nAnswered: {answer}\n"
    watched = PROMPTED.watch.replace("{query}", "person in red")
    later = f"Asked at 1s: is the door open ?\nAnswered: {second}\n"
    assert prompts == [
        "|is the door open ?",
        f"{earlier}|",
        f"{watched}|{PROMPTED.judge}",
        f"{watched}|is the door open ?",
        f"{later}|",
    ]


def test_pictures_without_a_question_are_kept_and_cost_no_forward_pass(
    llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, judging = load(llava, decision__unprompted="auto"), load(llava)
    asked = [
        watch(
            one, one.open_stream("front"), [random_frame(index) for index in range(4)], asked_at=3
        )[-1]
        for one in (model, judging)
    ]
    assert asked[0] == asked[1]
    monkeypatch.setattr(model.checkpoint.model, "generate", None)
    assert (
        decide(model, model.open_stream("front"), random_frame(0)).probabilities[State.SILENCE]
        == 1.0
    )


def test_control_tokens_in_a_question_are_not_read_as_control(llava: Path) -> None:
    model = load(llava)
    decision = decide(
        model,
        model.open_stream("front"),
        random_frame(0),
        Query("q", "<image> <turn> is the door <image> open ?", 0),
    )
    assert decision == decide(model, model.open_stream("front"), random_frame(0), QUESTION)


@pytest.mark.parametrize("size", [(97, 131), (480, 641), (8, 300), (300, 9)])
def test_pictures_may_have_unusual_and_changing_sizes(
    model: RecomputingModel, size: tuple[int, int]
) -> None:
    stream = model.open_stream("front")
    frames = [random_frame(0), random_frame(1, size=size), random_frame(2)]
    for frame in frames:
        decision = decide(model, stream, frame)
        assert sum(decision.probabilities.values()) == pytest.approx(1.0, abs=1e-5)
        # A large picture is made smaller; its shape stays, to a pixel.
        height, width = stream.shown[-1].image.shape[:2]
        assert height * frame.image.shape[1] == pytest.approx(
            width * frame.image.shape[0], rel=0.01
        )


def test_a_picture_that_cannot_be_processed_leaves_the_stream_unchanged(
    model: RecomputingModel,
) -> None:
    disturbed, quiet = model.open_stream("front"), model.open_stream("front")
    decide(model, disturbed, random_frame(0))
    decide(model, quiet, random_frame(0))
    outcome = outcome_of(model, disturbed, random_frame(1, size=(3, 64)))
    assert isinstance(outcome, PictureError)
    assert "64 x 3" in str(outcome)
    assert decide(model, disturbed, random_frame(2)) == decide(model, quiet, random_frame(2))


def test_two_cameras_do_not_disturb_each_other(model: RecomputingModel) -> None:
    front, back, alone = (model.open_stream(camera) for camera in ("front", "back", "front"))
    for index in range(5):
        turns = [
            Turn(front, random_frame(index), gate=silent),
            Turn(back, random_frame(90 + index, "back"), query=QUESTION, gate=unchanged),
        ]
        assert (
            decisions(model.step(turns))[0]
            == decisions(model.step([Turn(alone, random_frame(index), gate=silent)]))[0]
        )


def test_a_fault_in_one_camera_does_not_stop_the_other(model: RecomputingModel) -> None:
    turns = [Turn(model.open_stream("front"), random_frame(0, size=(2, 2)), gate=silent)]
    turns.append(Turn(model.open_stream("back"), random_frame(0, "back"), gate=silent))
    fault, decision = decisions(model.step(turns))
    assert isinstance(fault, PictureError)
    assert isinstance(decision, Decision)


def test_after_a_reset_a_stream_decides_as_a_new_one(model: RecomputingModel) -> None:
    stream = model.open_stream("front")
    watch(model, stream, [random_frame(index) for index in range(3)], asked_at=1)
    stream.reset()
    assert decide(model, stream, random_frame(7)) == decide(
        model, model.open_stream("front"), random_frame(7)
    )


def test_logits_that_are_not_finite_are_reported_and_the_context_is_cleared(
    llava: Path,
) -> None:
    model = load(llava)
    stream = model.open_stream("front")
    decide(model, stream, random_frame(0))
    lm_head_weight = model.checkpoint.model.get_output_embeddings().weight
    kept = lm_head_weight.clone()
    lm_head_weight.fill_(torch.nan)
    outcome = outcome_of(model, stream, random_frame(1))
    assert isinstance(outcome, ModelFault)
    assert "front" in str(outcome)
    assert "float32" in str(outcome)
    lm_head_weight.copy_(kept)
    assert decide(model, stream, random_frame(2)) == decide(
        model, model.open_stream("front"), random_frame(2)
    )


def test_out_of_memory_is_reported_and_the_context_is_cleared(
    llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(llava)
    stream = model.open_stream("front")
    decide(model, stream, random_frame(0))

    def too_large(**_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(model.checkpoint.model, "generate", too_large)
        outcome = outcome_of(model, stream, random_frame(1))
    assert isinstance(outcome, ModelFault)
    assert "lower context.frames" in str(outcome)
    assert decide(model, stream, random_frame(2)) == decide(
        model, model.open_stream("front"), random_frame(2)
    )


def test_a_question_too_long_for_the_model_is_refused(llava: Path) -> None:
    model = load(llava)
    outcome = outcome_of(
        model, model.open_stream("front"), random_frame(0), Query("q", "door " * 1100, 0)
    )
    assert isinstance(outcome, QuestionTooLong)
    assert "reads 1024" in str(outcome)


def test_a_watch_too_long_for_the_model_is_refused_and_does_not_stop_the_stream(
    llava: Path,
) -> None:
    model = load(llava)
    harness = StreamingHarness(
        model.settings.model_copy(update={"cameras": ["front"]}), model, "session"
    )
    frames = [random_frame(index) for index in range(2)]
    refused = harness.step(
        Tick(0, frames[0].stamp_ns, (frames[0],), (Query("w", "door " * 1100, 0, is_watch=True),))
    )
    assert "reads 1024" in refused.faults["front"]
    assert not harness.watching
    assert not harness.step(Tick(1, frames[1].stamp_ns, (frames[1],))).faults


def test_the_harness_runs_the_model_and_gets_what_the_node_needs(model: RecomputingModel) -> None:
    assert model.device == "cpu"
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
    model = load(llava)
    stream = model.open_stream("front")
    sizes = []
    tracemalloc.start()
    try:
        for index in range(60):
            assert isinstance(
                decisions(
                    model.step([Turn(stream, random_frame(index % 7 + index * 10), gate=silent)])
                )[0],
                Decision,
            )
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # A kept picture would be 36,864 bytes a tick.
    assert max(sizes[30:]) - max(sizes[10:30]) < 10 * 36_864


def test_pictures_are_made_smaller_if_smaller_pictures_cost_less(tmp_path: Path) -> None:
    model = load(write_foreign(tmp_path, "idefics2"))
    assert model.checkpoint.follows_picture_size
    stream = model.open_stream("front")
    decide(model, stream, random_frame(0, size=(960, 1280)))
    decide(model, stream, random_frame(1, size=(240, 320)), limits=Limits(picture_share=0.25))
    first, second = (shown.image.shape[0] * shown.image.shape[1] for shown in stream.shown)
    assert first == pytest.approx(448 * 448, rel=0.01)
    assert second == pytest.approx(240 * 320 / 4, rel=0.01)


def test_pictures_are_unchanged_if_the_model_takes_one_size(llava: Path) -> None:
    model = load(llava)
    stream = model.open_stream("front")
    decide(model, stream, random_frame(0), limits=Limits(picture_share=0.25))
    assert np.array_equal(stream.shown[0].image, random_frame(0).image)


def test_two_runs_with_a_simulated_camera_give_the_same_result(
    llava: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
            "decision.unprompted=always",
        ]
        assert main([*command, "--out", str(tmp_path / folder)]) == 0
    assert "3 ticks" in capsys.readouterr().out
    for name in ("utterances.jsonl", "events.jsonl", "states.jsonl"):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert len((tmp_path / "once" / "states.jsonl").read_text().splitlines()) == 3
