"""An instruct model: its context is one part of the user, and its judges leave no trace."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from instruct_fixtures import (
    frame,
    judgement,
    load_instruct,
    take,
    write_instruct_checkpoint,
    written,
)
from model_fixtures import FAMILIES, settings_for
from transformers import AutoModelForImageTextToText

from stream_vlm.backbone import StreamingModel, load_cached_model
from stream_vlm.backbone.kv_cache.cached_forward import Entry, feed_together
from stream_vlm.backbone.streaming.camera_stream import CachedStream
from stream_vlm.backbone.tokens.state_decision import yes_probability
from stream_vlm.context.instructions import verify_prompt
from stream_vlm.context.segments import Segment, SegmentKind, positions, tokens_in
from stream_vlm.model_protocol import JudgesInstructions, Turn, WatchRefused
from stream_vlm.types import Limits, Query, State

POLICIES = ("last_turns", "chunked", "sliding", "last_frames")
DOOR = judgement("door", "the red door opens")
PERSON = judgement("person", "a person comes in")
QUESTION = Query("q", "who is there?", 0)
EMPTY = "<|im_start|>assistant\n<|im_end|>"


@pytest.fixture(scope="module", params=FAMILIES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_instruct_checkpoint(tmp_path_factory.mktemp("model"), request.param)


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> StreamingModel:
    return load_instruct(checkpoint)


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[list[list[Segment]]]:
    """The segments of each entry of each forward pass."""
    passes: list[list[list[Segment]]] = []

    def counting(entries: Sequence[Entry]) -> torch.Tensor:
        passes.append([list(entry.segments) for entry in entries])
        return feed_together(entries)

    monkeypatch.setattr("stream_vlm.backbone.streaming.batched_step.feed_together", counting)
    return passes


@torch.inference_mode()
def unmodified_logits(
    directory: Path, model: StreamingModel, stream: CachedStream, suffix: Sequence[Segment]
) -> torch.Tensor:
    """Logits after the context and `suffix` from the model in transformers, without a cache."""
    plain: Any = AutoModelForImageTextToText.from_pretrained(directory, dtype=torch.float32).eval()
    segments = [*stream.context, *suffix]
    ids = torch.tensor([[token for segment in segments for token in segment.token_ids]])
    pictures = model.checkpoint.pictures
    shown = [segment.turn for segment in segments if segment.grid]
    patches, grids = [], []
    for turn in shown:
        picture = pictures.resize(frame(turn).image)
        patches.append(pictures.patches(torch.stack([torch.tensor(picture)] * 2)[None].numpy()))
        grids.append([1, *(side // pictures.patch_size for side in picture.shape[:2])])
    logits: torch.Tensor = plain(
        input_ids=ids,
        pixel_values=torch.cat(patches),
        image_grid_thw=torch.tensor(grids),
        mm_token_type_ids=(ids == model.parts.tokens.picture).int(),
        use_cache=False,
    ).logits
    return logits[0, -1]


@torch.inference_mode()
def next_logits(stream: CachedStream) -> torch.Tensor:
    """Logits after one more token, which does not stay in the context."""
    assert stream.forward is not None
    fork = stream.forward.fork()
    logits = fork.feed([Segment(SegmentKind.TEXT, 0, (9,))])
    fork.clear()
    return logits


def test_a_download_without_markers_is_an_instruct_model(model: StreamingModel) -> None:
    assert isinstance(model, JudgesInstructions)
    assert model.judges_instructions
    assert model.parts.turns.instruct


@pytest.mark.parametrize(
    ("family", "tokens"), [("qwen2_5_vl", [6, 6, 6, 6]), ("qwen3_vl", [8, 8, 8, 8])]
)
def test_a_silent_tick_feeds_a_time_marker_and_a_picture_only(
    family: str, tokens: list[int], tmp_path: Path, fed: list[list[list[Segment]]]
) -> None:
    model = load_instruct(write_instruct_checkpoint(tmp_path, family))
    stream = model.open_stream("front")
    for index in range(5):
        outcome = take(stream, frame(index))
        assert (outcome.decision.probabilities[State.SILENCE], outcome.judged) == (1.0, {})
    around = [tokens_in(segment for segment in one[0] if segment.grid is None) for one in fed[1:]]
    assert around == tokens, "boilerplate tokens of each silent tick after the first"


def test_after_silent_judged_ticks_the_context_equals_one_that_was_never_judged(
    model: StreamingModel,
) -> None:
    judged, never = model.open_stream("front"), model.open_stream("front")
    silent = [
        judgement("door", "the red door opens", State.SILENCE),
        judgement("person", "a person comes in", State.STANDBY),
    ]
    for index in range(6):
        outcome = take(judged, frame(index), silent if index else silent[:1])
        assert len(outcome.judged) == (2 if index else 1)
        take(never, frame(index))
    assert judged.context == never.context
    assert judged.forward is not None
    assert never.forward is not None
    assert judged.forward.cache.used == never.forward.cache.used
    assert torch.allclose(judged.forward.stored()[0], never.forward.stored()[0], atol=1e-4)
    assert torch.allclose(next_logits(judged), next_logits(never), atol=1e-4)


@pytest.mark.parametrize("branches", [1, 2, 4])
def test_each_branch_has_the_logits_of_the_unmodified_model_on_context_and_suffix_alone(
    checkpoint: Path, branches: int, fed: list[list[list[Segment]]], monkeypatch: Any
) -> None:
    model = load_instruct(checkpoint, decision__branches=branches)
    rows: list[torch.Tensor] = []

    def keeping(entries: Sequence[Entry]) -> torch.Tensor:
        logits = feed_together(entries)
        rows.extend(
            row
            for row, entry in zip(logits, entries, strict=True)
            if entry.segments[0].kind is SegmentKind.JUDGE
        )
        return logits

    monkeypatch.setattr("stream_vlm.backbone.streaming.batched_step.feed_together", keeping)
    stream = model.open_stream("front")
    reported = judgement(
        "again", "a person comes in", reported="A person comes in.", reported_ns=1_500_000_000
    )
    asked = [DOOR, PERSON, reported]
    for index in range(3):
        take(
            stream,
            frame(index),
            [
                judgement(one.instruction.instruction_id, one.instruction.text, State.SILENCE)
                for one in asked[:2]
            ]
            if index < 2
            else [],
        )
    rows.clear()
    silent = [
        judgement(
            one.instruction.instruction_id,
            one.instruction.text,
            State.SILENCE,
            reported=one.reported,
            reported_ns=one.reported_ns,
        )
        for one in asked
    ]
    outcome = take(stream, frame(3), silent)
    assert list(outcome.judged) == ["door", "person", "again"]
    assert len(rows) == 3
    for one, row in zip(silent, rows, strict=True):
        suffix = model.parts.writer.suffix(3, stream.judge_prompt(one))
        expected = unmodified_logits(checkpoint, model, stream, suffix)
        assert torch.allclose(row, expected, atol=1e-4)
        firsts = [ids[0] for ids in model.parts.tokens.firsts.values()]
        assert len(set(firsts)) == 3


def test_a_question_closes_the_part_of_the_user_and_the_next_turn_opens_it_again(
    model: StreamingModel,
) -> None:
    stream = model.open_stream("front")
    take(stream, frame(0))
    heard: list[str] = []
    outcome = take(stream, frame(1), [DOOR], QUESTION, on_text=heard.append)
    assert outcome.decision.state is State.RESPONSE
    assert outcome.decision.text
    assert heard[-1] == outcome.decision.text
    assert outcome.judged == {}, "a question comes first"
    take(stream, frame(2))
    text = written(model, stream)
    before, answer = text.split("\nwho is there?<|im_end|>\n<|im_start|>assistant\n")
    assert before.endswith("<|vision_end|>")
    assert answer.partition("<|im_end|>\n<|im_start|>user\n")[2].count("<|vision_start|>") == 1
    assert EMPTY not in text


def test_a_report_enters_the_context_with_the_next_turn_and_its_question_does_not(
    model: StreamingModel,
) -> None:
    stream = model.open_stream("front")
    speaking = [
        judgement("door", "the red door opens", State.RESPONSE),
        judgement("person", "a person comes in", State.STANDBY),
        judgement("dog", "who is there", State.RESPONSE),
    ]
    take(stream, frame(0))
    outcome = take(stream, frame(1), speaking)
    states = {name: decision.state for name, decision in outcome.judged.items()}
    assert states == {
        "door": State.RESPONSE,
        "person": State.STANDBY,
        "dog": State.RESPONSE,
    }
    said = [decision.text for decision in outcome.judged.values() if decision.text]
    assert said
    assert outcome.decision.state is State.SILENCE
    assert stream.forward is not None
    assert stream.forward.cache.used == tokens_in(stream.context)
    take(stream, frame(2))
    text = written(model, stream)
    # Words that two instructions share are written once.
    plain = "\n".join(model.parts.plain(words) for words in dict.fromkeys(said))
    assert f"<|im_start|>assistant\n{plain}<|im_end|>\n<|im_start|>user\n" in text
    assert "Judge" not in text


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("recompute", [False, True])
def test_the_text_stays_balanced_and_within_the_cache_under_every_policy(
    checkpoint: Path, policy: str, recompute: bool
) -> None:
    model = load_instruct(
        checkpoint,
        context__policy=policy,
        context__max_seconds=3.0,
        context__recompute=recompute,
        decision__branches=2,
    )
    stream = model.open_stream("front")
    talk = [State.RESPONSE, State.SILENCE, State.SILENCE, State.RESPONSE, State.STANDBY]
    for index in range(16):
        asked = [
            judgement(f"i{number}", "a person comes in", talk[(index + number) % len(talk)])
            for number in range(3)
        ]
        take(stream, frame(index), asked, QUESTION if index % 5 == 3 else None)
        text = written(model, stream)
        roles = [part.split("\n", 1)[0] for part in text.split("<|im_start|>")[1:]]
        assert roles[0] == "system"
        assert all(role != after for role, after in pairwise(roles))
        assert text.count("<|im_start|>") == text.count("<|im_end|>") + 1
        assert stream.forward is not None
        cache = stream.forward.cache
        assert cache.used == tokens_in(stream.context) <= stream.plan.policy.max_tokens
        assert stream.forward.next_position == positions(stream.context)[1]


def test_two_cameras_are_judged_in_one_forward_pass_as_alone(
    model: StreamingModel, fed: list[list[list[Segment]]]
) -> None:
    def judged(cameras: Sequence[str], together: bool) -> list[dict[str, Any]]:
        streams = {name: model.open_stream(name) for name in cameras}
        results: list[dict[str, Any]] = []
        for index in range(4):
            states = (State.RESPONSE, State.SILENCE) if index == 2 else (State.SILENCE,) * 2
            turns = [
                Turn(
                    stream,
                    frame(index + 100 * number, name),
                    judgements=tuple(
                        judgement(one.instruction.instruction_id, one.instruction.text, state)
                        for one, state in zip((DOOR, PERSON), states, strict=True)
                    ),
                )
                for number, (name, stream) in enumerate(streams.items())
            ]
            outcomes = model.step(turns) if together else [model.step([turn])[0] for turn in turns]
            results.append(
                {turn.frame.camera: outcome for turn, outcome in zip(turns, outcomes, strict=True)}
            )
        return results

    alone = judged(("front", "rear"), together=False)
    fed.clear()
    both = judged(("front", "rear"), together=True)
    assert len(fed[0]) == 6, "two pictures and four questions in one forward pass"
    for expected, got in zip(alone, both, strict=True):
        for camera in ("front", "rear"):
            for name, decision in expected[camera].judged.items():
                same = got[camera].judged[name]
                assert (same.state, same.text) == (decision.state, decision.text)
                assert same.probabilities == pytest.approx(decision.probabilities, abs=1e-4)


def test_more_instructions_than_branches_take_further_forward_passes(
    checkpoint: Path, fed: list[list[list[Segment]]]
) -> None:
    model = load_instruct(checkpoint, decision__branches=2)
    stream = model.open_stream("front")
    asked = [judgement(f"i{number}", "a person comes in", State.SILENCE) for number in range(5)]
    outcome = take(stream, frame(0), asked)
    assert [len(one) for one in fed] == [3, 2, 1]
    assert list(outcome.judged) == [f"i{number}" for number in range(5)]
    shares = [decision.probabilities for decision in outcome.judged.values()]
    assert all(share == pytest.approx(shares[0], abs=1e-4) for share in shares), "same question"


def test_an_instruction_that_does_not_fit_is_refused_and_the_stream_continues(
    model: StreamingModel,
) -> None:
    stream = model.open_stream("front")
    take(stream, frame(0))
    held = stream.context
    with pytest.raises(WatchRefused, match=r"front: the instruction 'red red .* in fewer words"):
        take(stream, frame(1), [judgement("long", "red " * 4000)])
    assert stream.context == held
    take(stream, frame(2), [DOOR])


def test_a_watch_of_a_tuned_model_is_refused(model: StreamingModel) -> None:
    watch = Query("w", "red", 0, is_watch=True)
    with pytest.raises(WatchRefused, match="no place for a watch"):
        take(model.open_stream("front"), frame(0), watch=watch)


def test_fixed_shapes_give_the_same_decisions(checkpoint: Path) -> None:
    def judged(choice: str) -> list[Any]:
        model = load_cached_model(settings_for(checkpoint, model__static_shapes=choice))
        stream = model.open_stream("front")
        return [
            take(
                stream,
                frame(index),
                [DOOR] if index % 4 else [DOOR, PERSON],
            ).judged
            for index in range(12)
        ]

    for plain, fixed in zip(judged("off"), judged("on"), strict=True):
        for name, decision in plain.items():
            assert fixed[name].probabilities == pytest.approx(decision.probabilities, abs=1e-4)
            assert fixed[name].text == decision.text


def test_logits_that_are_not_finite_clear_the_context_and_free_every_slot(checkpoint: Path) -> None:
    model = load_instruct(checkpoint)
    stream = model.open_stream("front")
    take(stream, frame(0), [DOOR, PERSON])
    weight = model.checkpoint.model.lm_head.weight
    healthy = weight.clone()
    with torch.no_grad():
        weight.fill_(float("nan"))
    (outcome,) = model.step([Turn(stream, frame(1), judgements=(DOOR, PERSON))])
    assert "logits are not finite" in str(outcome)
    with torch.no_grad():
        weight.copy_(healthy)
    assert stream.forward is not None
    assert stream.forward.cache.used == 0
    assert take(stream, frame(0), [DOOR]).judged["door"].probabilities == pytest.approx(
        take(model.open_stream("front"), frame(0), [DOOR]).judged["door"].probabilities, abs=1e-5
    )


def test_a_second_look_is_the_share_of_yes_after_the_context_and_the_question_alone(
    checkpoint: Path, model: StreamingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[Segment], torch.Tensor]] = []

    def keeping(entries: Sequence[Entry]) -> torch.Tensor:
        logits = feed_together(entries)
        asked.extend(
            (list(entry.segments), row)
            for entry, row in zip(entries, logits, strict=True)
            if entry.segments[0].kind is SegmentKind.JUDGE
        )
        return logits

    monkeypatch.setattr("stream_vlm.backbone.streaming.batched_step.feed_together", keeping)
    stream = model.open_stream("front")
    take(stream, frame(0))
    outcome = take(
        stream,
        frame(1),
        [
            judgement("door", "the red door opens", State.RESPONSE, verify=True),
            judgement("person", "a person comes in", State.RESPONSE),
            judgement("dog", "who is there", State.SILENCE, verify=True),
        ],
    )
    verified = {name: decision.verified for name, decision in outcome.judged.items()}
    assert verified["person"] is None
    assert verified["dog"] is None
    assert len(asked) == 4, "three judgements and one second look"
    prompt = verify_prompt(model.parts.plain(outcome.judged["door"].text))
    assert asked[-1][0] == model.parts.writer.suffix(1, prompt)
    expected = unmodified_logits(checkpoint, model, stream, asked[-1][0])
    assert torch.allclose(asked[-1][1], expected, atol=1e-4)
    assert verified["door"] == pytest.approx(
        yes_probability(expected, model.parts.tokens), abs=1e-4
    )
    assert stream.forward is not None
    assert stream.forward.cache.used == tokens_in(stream.context)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_report_that_a_second_look_finds_wrong_does_not_enter_the_context(
    model: StreamingModel, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "stream_vlm.backbone.streaming.instruct_turns.yes_probability", lambda *_: share
    )
    stream = model.open_stream("front")
    outcome = take(stream, frame(0), [judgement("door", "a person", State.RESPONSE, verify=True)])
    assert outcome.judged["door"].verified == share
    take(stream, frame(1))
    said = [segment for segment in stream.context if segment.kind is SegmentKind.ACTION]
    assert len(said) == (1 if share else 0)


def test_load_shedding_shortens_reports_and_answers(model: StreamingModel) -> None:
    stream = model.open_stream("front")
    limits = Limits(new_tokens=2)
    report = take(
        stream, frame(0), [judgement("door", "a person", State.RESPONSE)], limits=limits
    ).judged["door"]
    answer = take(stream, frame(1), query=QUESTION, limits=limits).decision
    for decision in (report, answer):
        assert len(model.parts.encode_text(decision.text)) <= 3


def test_the_confidence_of_an_answer_is_that_of_its_words_alone(tmp_path: Path) -> None:
    follows = {"Ċ": ":", ":": "It", "It": "Ġwas", "Ġwas": "Ġred", "Ġred": "<|im_end|>"}
    model = load_instruct(write_instruct_checkpoint(tmp_path, "qwen3_vl", follows=follows))
    decision = take(model.open_stream("front"), frame(0), query=QUESTION).decision
    assert decision.text == "It was red"
    assert decision.probabilities == dict.fromkeys(State, 0.0) | {State.RESPONSE: 1.0}
    head, table = model.checkpoint.model.lm_head.weight, model.parts.encode_text
    embeddings = model.checkpoint.model.model.language_model
    chances = []
    with torch.inference_mode():
        for before, word in pairwise(["\n", ":", "It", " was", " red"]):
            logits = head @ embeddings.norm(embeddings.embed_tokens.weight[table(before)[-1]])
            if before in ("\n", ":"):
                logits[list(model.parts.tokens.stop)] = -torch.inf  # it has said nothing yet
            chances.append(float(torch.softmax(logits, dim=0)[table(word)[0]]))
    assert decision.confidence == pytest.approx(sum(chances) / len(chances), abs=1e-4)


def test_an_end_token_is_never_the_first_word(tmp_path: Path) -> None:
    follows = {"Ċ": "<|im_end|>", "Response": "<|im_end|>", "It": "<|im_end|>"}
    model = load_instruct(write_instruct_checkpoint(tmp_path, "qwen2_5_vl", follows=follows))
    embeddings = model.checkpoint.model.model.language_model.embed_tokens.weight
    vocabulary = model.checkpoint.tokenizer.get_vocab()
    with torch.no_grad():
        for token in ("Ċ", "Response"):
            model.checkpoint.model.lm_head.weight[vocabulary["It"]] += (
                embeddings[vocabulary[token]] / 2
            )
    stream = model.open_stream("front")
    assert take(stream, frame(0), query=QUESTION).decision.text == "It"
    report = take(stream, frame(1), [judgement("door", "a person", State.RESPONSE)])
    assert report.judged["door"].text == "It"


def test_a_line_break_ends_a_report_but_not_an_answer(tmp_path: Path) -> None:
    follows = {"Ċ": "It", "Response": "It", "It": "Ġwas", "Ġwas": "Ċ"}
    model = load_instruct(write_instruct_checkpoint(tmp_path, "qwen2_5_vl", follows=follows))
    stream = model.open_stream("front")
    assert take(stream, frame(0), query=QUESTION).decision.text.startswith("It was\nIt was")
    report = take(stream, frame(1), [judgement("door", "a person", State.RESPONSE)])
    assert report.judged["door"].text == "It was"


def test_a_state_is_read_from_every_spelling_of_its_word(model: StreamingModel) -> None:
    firsts = model.parts.tokens.firsts
    for state, ids in firsts.items():
        word = state.value.capitalize()
        spelt = {model.parts.encode_text(text)[0] for text in (word, f" {word}")}
        assert spelt <= set(ids)
    assert not set.intersection(*(set(ids) for ids in firsts.values()))


def test_the_next_chunk_is_prefilled_beside_the_judges_and_begins_with_the_memory(
    checkpoint: Path,
) -> None:
    def history(in_advance: bool) -> list[str]:
        model = load_instruct(
            checkpoint,
            context__policy="chunked",
            context__max_seconds=3.0,
            context__memory_tokens=60,
            decision__branches=2,
        )
        stream = model.open_stream("front")
        lines: list[str] = []
        texts = []
        for index in range(14):
            state = State.RESPONSE if index % 3 == 0 else State.SILENCE
            asked = [judgement(f"i{number}", "a person comes in", state) for number in range(3)]
            take(stream, frame(index), asked, memory=lambda: list(lines))
            lines.append(f"{index} s a person comes in")
            if in_advance:
                stream.prepare()
            assert stream.forward is not None
            assert stream.forward.cache.used <= stream.forward.cache.capacity
            texts.append(written(model, stream))
        return texts

    texts = history(in_advance=True)
    assert "<|im_start|>user\n[Video History]\n" in texts[-1]
    assert texts[-1].count("<|im_start|>system") == 1
    assert all(text.count("<|im_start|>") == text.count("<|im_end|>") + 1 for text in texts)
    assert texts[6].count("<|vision_start|>") == 1, "a chunk of six turns ended"
    assert history(in_advance=False)[6].count("<|vision_start|>") == 1
