"""An instruct model in the loop: instructions, a watch and a question, as a user sees them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from instruct_fixtures import frame, judgement, load_instruct, write_instruct_checkpoint, written
from model_fixtures import FAMILIES

from stream_vlm.backbone import StreamingModel
from stream_vlm.backbone.kv_cache.cached_forward import Entry, feed_together
from stream_vlm.backbone.streaming.camera_stream import CachedStream
from stream_vlm.config.settings import Settings
from stream_vlm.loop.harness import StreamingHarness
from stream_vlm.model_protocol import Outcome, Turn
from stream_vlm.types import Query, State, StepResult, Tick

FOLLOWS = {
    "Ċ": "Response",
    "Response": ":",
    ":": "Ġa",
    "Ġa": "Ġperson",
    "Ġperson": "Ġcomes",
    "Ġcomes": "Ġin",
    "Ġin": "<|im_end|>",
}
"""The model finds at every picture that what it is asked about has just happened."""
SAID = "a person comes in"
WATCH = Query("w1", "the red door opens", 0, is_watch=True)
QUESTION = Query("q1", "who is there?", 0)


@pytest.fixture(scope="module", params=FAMILIES)
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> StreamingModel:
    directory = write_instruct_checkpoint(
        tmp_path_factory.mktemp("model"), request.param, follows=FOLLOWS
    )
    return load_instruct(directory, cameras=["front"], decision__max_new_tokens=16)


def step(harness: StreamingHarness, index: int, *queries: Query) -> StepResult:
    shown = frame(index)
    return harness.step(Tick(index, shown.stamp_ns, (shown,), queries))


def test_each_instruction_the_watch_and_the_question_are_reported_once_by_their_own_id(
    model: StreamingModel,
) -> None:
    settings: Settings = model.settings
    settings.instructions = ["people who come in", "doors that open"]
    harness = StreamingHarness(settings, model, "session")
    first = step(harness, 0)
    assert [utterance.text for utterance in first.utterances] == [SAID, SAID]
    assert len({utterance.instruction_id for utterance in first.utterances} - {""}) == 2
    watched = step(harness, 1, WATCH)
    assert [utterance.query_id for utterance in watched.utterances] == ["w1"]
    assert step(harness, 2).utterances == (), "what goes on is not reported again"
    asked = step(harness, 3, QUESTION)
    assert [(utterance.text, utterance.query_id) for utterance in asked.utterances] == [
        (SAID, "q1")
    ]
    assert not (first.faults)
    assert not (watched.faults)
    assert not (asked.faults)
    step(harness, 4)
    stream = harness.stream("front")
    assert isinstance(stream, CachedStream)
    reply = f"<|im_end|>\n<|im_start|>assistant\n{SAID}<|im_end|>\n<|im_start|>user\n"
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    times = [model.parts.turns.time.format(time=f"{0.5 * index:.1f}") for index in range(5)]
    turns = [time + picture for time in times]
    history = written(model, stream).partition("<|im_start|>user\n")[2]
    question = f"\n{QUESTION.text}" + reply.replace(SAID, f"Response: {SAID}")
    assert history == (
        turns[0] + reply + turns[1] + reply + turns[2] + turns[3] + question + turns[4]
    )


def test_one_camera_answers_while_the_other_reports_in_the_same_forward_passes(
    model: StreamingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []

    def counting(entries: Sequence[Entry]) -> torch.Tensor:
        passes.append(len(entries))
        return feed_together(entries)

    monkeypatch.setattr("stream_vlm.backbone.streaming.batched_step.feed_together", counting)
    asked, judged = model.step(
        [
            Turn(model.open_stream("front"), frame(0), query=QUESTION),
            Turn(
                model.open_stream("rear"),
                frame(1, "rear"),
                judgements=(judgement("a", "doors"), judgement("b", "people", State.SILENCE)),
            ),
        ]
    )
    assert isinstance(asked, Outcome)
    assert isinstance(judged, Outcome)
    assert (asked.decision.text, judged.judged["a"].text) == (SAID, SAID)
    assert judged.judged["b"].text == ""
    assert passes[0] == 4, "two pictures and two instructions"
    assert passes[1] == 2, "both write at once"
