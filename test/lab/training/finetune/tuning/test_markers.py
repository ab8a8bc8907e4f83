"""A tokenizer without state markers is reported, or gets markers as new tokens that are trained."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from model_fixtures import FAMILIES, random_frame, settings_for, step_alone, write_checkpoint

from stream_vlm.backbone.checkpoint.loader import Checkpoint, load_checkpoint
from stream_vlm.backbone.streaming_model import load_cached_model
from stream_vlm.cli import main
from stream_vlm.context.turn_formats import HARNESS
from stream_vlm.types import StreamError
from stream_vlm_lab.training.finetune.tuning.learner import StreamLearner
from stream_vlm_lab.training.finetune.tuning.markers import add_markers

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

WORDS = ("silence", "standby", "response", "silent", "answer", "person", "enters", "yes", "no")


def untuned(folder: Path, family: str = "qwen2_5_vl", *, tied: bool = False) -> Path:
    """A checkpoint whose tokenizer knows the words of `instruct` and no marker of `harness`."""
    start = write_checkpoint(folder, layers=2, words=WORDS, family=family)
    (start / "stream_config.json").unlink()
    if tied:
        model = load_checkpoint(settings_for(start, model__prompt_format="instruct").model).model
        model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = True
        model.tie_weights()
        model.save_pretrained(start)
    return start


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of four seconds in which a person enters in the third second."""
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for name in ("a.mp4", "b.mp4"):
        writer = cv2.VideoWriter(str(folder / name), cv2.VideoWriter.fourcc(*"mp4v"), 4.0, (96, 64))
        for index in range(16):
            writer.write(np.full((64, 96, 3), 220 if index >= 8 else 20, np.uint8))
        writer.release()
        messages = []
        for second in range(4):
            messages.append({"role": "user", "content": f"<{second}s-{second + 1}s>\n<stream>"})
            messages.append(
                {
                    "role": "assistant",
                    "content": "</Response> person enters" if second == 2 else "</Silence>",
                }
            )
        rows.append({"messages": messages, "videos": [name]})
    (folder / "data.json").write_text(json.dumps(rows))
    return folder / "data.json"


def loaded(folder: Path) -> Checkpoint:
    return load_checkpoint(
        settings_for(folder, model__prompt_format="instruct", model__dtype="float32").model
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("part", ["lora", "language"])
def test_added_markers_are_trained_and_the_node_uses_them_without_a_setting(
    family: str, part: str, data: Path, tmp_path: Path
) -> None:
    start, out = untuned(tmp_path / "start", family), tmp_path / "out"
    more = [
        "--turns",
        "harness",
        "--add-markers",
        "--train",
        part,
        "--steps",
        "3",
        "--learning-rate",
        "2e-3",
    ]
    assert main(["train", str(start), str(data), "--out", str(out), *more]) == 0
    model = load_cached_model(settings_for(out, model__dtype="float32"))
    assert model.parts.turns == HARNESS
    assert [len(ids) for ids in model.parts.tokens.markers.values()] == [1, 1]
    decided = step_alone(
        model.open_stream("front"), random_frame(0), None, lambda decision: decision
    )
    assert sum(decided.probabilities.values()) == pytest.approx(1.0)
    begun, new = add_markers(loaded(start), start, "harness")
    for table in ("get_input_embeddings", "get_output_embeddings"):
        before, after = (
            getattr(checkpoint.model, table)().weight for checkpoint in (begun, model.checkpoint)
        )
        moved = (before - after).abs().amax(dim=1) > 1e-6
        # Weights are stored in bfloat16; with adapters only the new rows may have changed.
        assert moved[new].all()
        if part == "lora":
            assert not [row for row in moved.nonzero().flatten().tolist() if row not in new]


@pytest.mark.parametrize("tied", [False, True])
def test_a_new_marker_is_initialised_from_the_word_that_describes_it(
    tied: bool, tmp_path: Path
) -> None:
    start = untuned(tmp_path, tied=tied)
    before = loaded(start)
    word = before.tokenizer.convert_tokens_to_ids("silent")
    row = before.model.get_input_embeddings().weight[word].clone()
    marked, new = add_markers(before, start, "harness")
    assert marked.tokenizer.tokenize("</silence>") == ["</silence>"]
    assert len(new) == 2
    at = marked.tokenizer.convert_tokens_to_ids("</silence>")
    assert torch.equal(marked.model.get_input_embeddings().weight[at], row)
    assert (
        marked.model.get_input_embeddings().weight is marked.model.get_output_embeddings().weight
    ) == tied
    assert add_markers(marked, start, "harness")[1] == []


def test_new_rows_of_tied_weights_are_merged_into_both(tmp_path: Path) -> None:
    start = untuned(tmp_path, tied=True)
    checkpoint, new = add_markers(loaded(start), start, "harness")
    learner = StreamLearner(checkpoint, ("lora",), 4, saves_memory=False, new_tokens=new)
    (delta,) = (
        parameter for name, parameter in learner.trainable.items() if "trainable_tokens" in name
    )
    with torch.no_grad():
        delta.add_(1.0)
    wanted = delta.detach().clone()
    merged = learner.merged()
    for table in (merged.get_input_embeddings(), merged.get_output_embeddings()):
        assert torch.allclose(table.weight[new], wanted)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (
            ["--turns", "harness"],
            "has no </silence> as one token (it splits it into 3: <|unknown|> silence <|unknown|>)",
        ),
        (["--turns", "harness"], "--turns harness --add-markers"),
        (
            ["--add-markers"],
            (
                "--turns auto has no markers that are single tokens; use --turns streamo or"
                " compact or harness"
            ),
        ),
        (
            ["--turns", "harness", "--add-markers", "--train", "connector"],
            "with --train connector the new tokens are not trained",
        ),
    ],
)
def test_options_that_do_not_fit_the_markers_are_refused_with_the_remedy(
    more: list[str], complaint: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            [
                "train",
                str(untuned(tmp_path / "start")),
                str(data),
                "--out",
                str(tmp_path / "out"),
                *more,
            ]
        )
        == 1
    )
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert "2 rows read, 0 refused" in printed.out


def test_a_message_says_that_a_checkpoint_without_markers_learns_words_for_states(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = untuned(tmp_path / "start")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        path = start / name
        path.write_text(path.read_text().replace("</Standby>", "<|spare|>"))
    assert (
        main(["train", str(start), str(data), "--out", str(tmp_path / "out"), "--steps", "1"]) == 0
    )
    assert (
        "the tokenizer has no state markers, so the model learns the words Silence, Standby,"
        " Response for the states" in capsys.readouterr().out
    )


def test_a_format_without_markers_is_refused(tmp_path: Path) -> None:
    start = untuned(tmp_path)
    with pytest.raises(StreamError, match="--turns instruct has no markers"):
        add_markers(loaded(start), start, "instruct")
