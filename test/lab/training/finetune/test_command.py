"""Fine-tuning uses the node's turn format, resumes after a kill and writes a loadable directory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from model_fixtures import FAMILIES, settings_for, step_alone, write_checkpoint
from numpy.typing import NDArray

from stream_vlm.backbone.streaming.context_budget import plan_context
from stream_vlm.backbone.streaming_model import StreamingModel, load_cached_model, load_model
from stream_vlm.cli import main
from stream_vlm.config.settings import load_settings
from stream_vlm.types import Decision, Frame, Query, State, StreamError
from stream_vlm_lab.training.common.loop import SampleOrder
from stream_vlm_lab.training.common.losses import OBJECTIVES, TargetKind
from stream_vlm_lab.training.data.sample import (
    RefusalReason,
    RowRefused,
    SampleTurn,
    StreamSample,
    VideoFolder,
)
from stream_vlm_lab.training.finetune.tuning.batch import collate, packed_rows
from stream_vlm_lab.training.finetune.tuning.dataset import SampleDataset
from stream_vlm_lab.training.finetune.tuning.learner import StreamLearner
from stream_vlm_lab.training.finetune.tuning.markers import in_words
from stream_vlm_lab.training.finetune.tuning.sequences import NO_TARGET, SampleWriter
from stream_vlm_lab.training.shipped_model.picture_format import PICTURE_SIZE

SECONDS = 6
WORDS = (
    "silence",
    "standby",
    "response",
    "no",
    "...",
    "is",
    "the",
    "door",
    "open",
    "?",
    "yes",
    "person",
    "in",
    "red",
    "enters",
    "now",
)


pytestmark = pytest.mark.usefixtures("fresh_accelerator")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model") / "small", layers=1, words=WORDS)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Messages of four videos, a row without a video and a row without a time.

    In each video a dark picture becomes bright, at second 2, 3, 4 or 5.
    """
    folder = tmp_path_factory.mktemp("data")
    rows: list[dict[str, Any]] = []
    for bright in (2, 3, 4, 5):
        writer = cv2.VideoWriter(
            str(folder / f"{bright}.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 4.0, (96, 64)
        )
        for index in range(4 * SECONDS):
            writer.write(np.full((64, 96, 3), 220 if index // 4 >= bright else 20, np.uint8))
        writer.release()
        messages = []
        for second in range(SECONDS):
            said = (
                "</Response> person enters"
                if second == bright
                else "</Standby>"
                if second == bright - 1
                else "</Silence>"
            )
            messages.append({"role": "user", "content": f"<{second}s-{second + 1}s>\n<stream>"})
            messages.append({"role": "assistant", "content": said})
        rows.append({"messages": messages, "videos": [f"{bright}.mp4"]})
    rows.append({"messages": rows[0]["messages"], "videos": ["lost.mp4"]})
    rows.append(
        {
            "messages": [
                {"role": "user", "content": "<stream>"},
                {"role": "assistant", "content": "</Silence>"},
            ],
            "videos": ["2.mp4"],
        }
    )
    path = folder / "data.json"
    path.write_text(json.dumps(rows))
    return path


def arguments(checkpoint: Path, data: Path, out: Path, *more: str) -> list[str]:
    return [
        "train",
        str(checkpoint),
        str(data),
        "--out",
        str(out),
        "--batch",
        "2",
        "--learning-rate",
        "2e-3",
        *more,
    ]


def losses(out: Path) -> list[float]:
    rows = [json.loads(line) for line in (out / "losses.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(len(rows)))
    return [row["loss"] for row in rows]


def sample(*turns: tuple[State, str, str]) -> StreamSample:
    return StreamSample(
        "a.mp4", tuple(SampleTurn(float(at), at + 1.0, *turn) for at, turn in enumerate(turns))
    )


def blank(turns: int) -> NDArray[np.uint8]:
    """Black temporal patches in the small checkpoint's picture size."""
    return np.zeros((turns, 2, *PICTURE_SIZE, 3), np.uint8)


def test_the_loss_falls_and_the_node_loads_the_result(
    checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tuned"
    assert (
        main(
            arguments(
                checkpoint, data, out, "--train", "language", "--steps", "10", "--loss", "focal"
            )
        )
        == 0
    )
    curve = losses(out)
    assert len(curve) == 10
    assert curve[-1] < 0.5 * curve[0]
    printed = capsys.readouterr().out
    assert "4 rows read, 2 refused" in printed
    assert "1 x missing video: row 5" in printed
    assert "1 x unreadable time: row 6" in printed
    assert json.loads((out / "training.json").read_text())["refused"] == {
        "missing video": 1,
        "unreadable time": 1,
    }
    assert not (out / "state.pt").exists()
    model = load_model(settings_for(out))
    assert isinstance(model, StreamingModel)
    assert model.model_id.startswith("stream-vlm-small-tuned")
    assert model.checkpoint.stream.rate_hz == 1.0
    assert model.activity_threshold == 0.0, "the threshold was calibrated for the old weights"
    frame = Frame("front", 1_000_000_000, "", np.full((64, 96, 3), 20, np.uint8))
    decided = step_alone(model.open_stream("front"), frame, None, lambda decision: decision)
    assert sum(decided.probabilities.values()) == pytest.approx(1.0)


def test_a_finished_run_is_not_overwritten(
    checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "training.json").write_text("{}")
    assert main(arguments(checkpoint, data, tmp_path)) == 1
    assert "contains a finished run" in capsys.readouterr().err


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("parts", [("lora",), ("lora", "connector")], ids="+".join)
def test_only_the_chosen_parts_are_trained_and_adapters_are_merged(
    family: str, parts: tuple[str, ...], data: Path, tmp_path: Path
) -> None:
    start = write_checkpoint(tmp_path / "start", layers=2, words=WORDS, family=family)
    out = tmp_path / "out"
    more = (
        "--train",
        *parts,
        "--steps",
        "2",
        "--loss",
        "weighted",
        "--accumulate",
        "2",
        "--batch",
        "1",
        "--bf16",
        "--checkpointing",
    )
    assert main(arguments(start, data, out, *more)) == 0
    before, after = (
        dict(load_cached_model(settings_for(place)).checkpoint.model.named_parameters())
        for place in (start, out)
    )
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.endswith("q_proj.weight") for name in moved)
    merger = {name for name in moved if "merger" in name}
    assert bool(merger) == ("connector" in parts)
    assert all("language_model.layers" in name for name in moved - merger)


def test_a_killed_and_resumed_run_has_the_losses_of_an_uninterrupted_run(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    more = ("--train", "lora", "--steps", "12", "--loss", "weighted-sum", "--save-every", "2")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(arguments(checkpoint, data, whole, *more)) == 0
    command = [
        sys.executable,
        "-m",
        "stream_vlm_lab.training.train",
        *arguments(checkpoint, data, killed, *more)[1:],
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    )
    path, deadline = killed / "losses.jsonl", time.monotonic() + 300
    while (
        process.poll() is None
        and time.monotonic() < deadline
        and not (path.is_file() and path.read_text().count("\n") >= 3)
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, (
        process.stderr.read().decode() if process.stderr else ""
    )
    assert (killed / "state.pt").is_file()
    assert not (killed / "training.json").exists()
    AcceleratorState._reset_state(reset_partial_state=True)
    assert main(arguments(checkpoint, data, killed, *more)) == 0
    assert losses(killed) == pytest.approx(losses(whole), rel=1e-5)


def test_a_run_does_not_resume_from_the_state_of_another_run(
    checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"settings": {"loss": "focal"}}, tmp_path / "state.pt")
    assert main(arguments(checkpoint, data, tmp_path, "--steps", "4")) == 1
    captured = capsys.readouterr()
    assert "belongs to a run with form None, this run has 'messages'" in captured.err
    assert "4 rows read, 2 refused" in captured.out


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("turns", ["auto", "words", "streaming_vlm"])
def test_training_computes_the_same_tokens_and_logits_as_the_node(
    family: str, turns: str, tmp_path: Path
) -> None:
    start = write_checkpoint(tmp_path / "start", layers=2, words=WORDS, family=family)
    if turns != "auto":
        (start / "stream_config.json").unlink()
    settings = settings_for(
        start,
        model__prompt_format="instruct" if turns == "words" else turns,
        model__dtype="float32",
        context__policy="last_turns",
    )
    model = load_cached_model(settings)
    if turns == "words":
        model = StreamingModel(in_words(model.checkpoint), settings)
    tuned = sample(
        (State.SILENCE, "", ""),
        (State.SILENCE, "", "is the door open ?"),
        (State.SILENCE, "", ""),
        (State.SILENCE, "", ""),
    )
    count = model.checkpoint.stream.frames_per_turn
    images = [
        np.random.default_rng(index).integers(0, 256, (64, 96, 3), dtype=np.uint8)
        for index in range(4 * count)
    ]
    stream, decided, watch = model.open_stream("front"), [], None
    for index, image in enumerate(images):
        if index >= count and model.parts.turns.watch:
            watch = Query("q", "is the door open ?", 0)
        query = (
            Query("q", "is the door open ?", 0)
            if index == 2 * count - 1 and not model.parts.turns.watch
            else None
        )
        frame = Frame("front", index * 1_000_000_000 // count + 1, "", image)
        said = step_alone(
            stream,
            frame,
            query,
            lambda decision: Decision(State.SILENCE, decision.probabilities),
            watch=watch,
        )
        if (index + 1) % count == 0:
            decided.append(said)
    rows = SampleDataset(
        [1],
        [tuned],
        VideoFolder(Path()),
        SampleWriter(model.parts),
        model.checkpoint.pictures,
        count,
    )
    sequence = SampleWriter(model.parts).write(
        tuned, rows.temporal_patches([rows.pictures.resize(image) for image in images])
    )
    held = [token for segment in stream.context for token in segment.token_ids]
    assert sequence.ids[: len(held)].tolist() == held
    logits = StreamLearner(model.checkpoint, ("connector",), 1, saves_memory=False).eval()(
        collate([sequence, sequence], torch.device("cpu"))
    )
    kinds = sequence.kinds[sequence.targets != NO_TARGET]
    at_markers = logits[: len(kinds)][torch.from_numpy(kinds != TargetKind.REST)]
    assert len(at_markers) == len(decided) == 4
    # Some formats decide nothing before a question or a watch.
    first_judged = 0 if model.parts.turns.judges_unprompted else 1
    for row, decision in zip(at_markers[first_judged:], decided[first_judged:], strict=True):
        first = [ids[0] for ids in model.parts.tokens.markers.values()]
        ours = torch.softmax(row[first], dim=0)
        theirs = torch.tensor(
            [decision.probabilities[state] for state in model.parts.tokens.markers]
        )
        assert torch.allclose(ours, theirs / theirs.sum(), atol=1e-4)


def test_only_states_words_and_end_of_turn_tokens_are_targets(checkpoint: Path) -> None:
    model = load_cached_model(settings_for(checkpoint))
    pictures = blank(3)
    sequence = SampleWriter(model.parts).write(
        sample(
            (State.SILENCE, "", "is the door open ?"),
            (State.STANDBY, "", ""),
            (State.RESPONSE, "person enters now", ""),
        ),
        pictures,
    )
    learned = sequence.targets != NO_TARGET
    said = model.checkpoint.tokenizer.convert_ids_to_tokens(sequence.targets[learned].tolist())
    assert said == [
        "</Silence>",
        "<|im_end|>",
        "</Standby>",
        "<|im_end|>",
        "</Response>",
        "person",
        "enters",
        "now",
        "<|im_end|>",
    ]
    assert sequence.kinds[learned].tolist() == [
        TargetKind.FIRST_SILENCE,
        0,
        TargetKind.STANDBY,
        0,
        TargetKind.RESPONSE,
        0,
        0,
        0,
        0,
    ]
    assert (sequence.ids[1:][learned[:-1]] == sequence.targets[learned]).all()


def test_streaming_vlm_learns_its_ellipsis_in_silent_seconds_and_after_words(
    tmp_path: Path,
) -> None:
    start = write_checkpoint(tmp_path / "start", layers=1, words=WORDS)
    (start / "stream_config.json").unlink()
    model = load_cached_model(settings_for(start, model__prompt_format="streaming_vlm"))
    pictures = blank(2)
    sequence = SampleWriter(model.parts).write(
        sample((State.SILENCE, "", ""), (State.RESPONSE, "red door", "")), pictures
    )
    said = model.checkpoint.tokenizer.convert_ids_to_tokens(
        sequence.targets[sequence.targets != NO_TARGET].tolist()
    )
    assert said == ["...", "<|im_end|>", "red", "door", "...", "<|im_end|>"]


def test_a_sample_longer_than_the_context_is_refused(checkpoint: Path) -> None:
    model = load_cached_model(settings_for(checkpoint))
    model.checkpoint.model.config.text_config.max_position_embeddings = 50
    pictures = blank(2)
    with pytest.raises(RowRefused, match="lower --chunk") as refused:
        SampleWriter(model.parts).write(
            sample((State.SILENCE, "", ""), (State.SILENCE, "", "")), pictures
        )
    assert refused.value.reason is RefusalReason.TOO_LONG


def test_a_row_that_cannot_be_decoded_is_reported_and_replaced_by_the_next(
    checkpoint: Path, data: Path
) -> None:
    model = load_cached_model(settings_for(checkpoint))
    late = StreamSample("2.mp4", (SampleTurn(50.0, 51.0, State.SILENCE),))
    fine = StreamSample("2.mp4", (SampleTurn(0.0, 1.0, State.SILENCE),))
    rows = SampleDataset(
        [7, 8],
        [late, fine],
        VideoFolder(data.parent),
        SampleWriter(model.parts),
        model.checkpoint.pictures,
    )
    drawn = rows[0]
    assert len(drawn.sequence.pictures) == 1
    assert [(refusal.row, refusal.reason) for refusal in drawn.refusals] == [
        (7, RefusalReason.UNDECODABLE)
    ]
    with pytest.raises(StreamError, match="none of the 1 samples can be used"):
        SampleDataset(
            [7],
            [late],
            VideoFolder(data.parent),
            SampleWriter(model.parts),
            model.checkpoint.pictures,
        )[0]


def test_every_epoch_uses_every_row_once_in_a_new_order() -> None:
    order = SampleOrder(rows=6, per_step=4, seed=1)
    drawn = [index for step in range(3) for index in order.of_step(step)]
    assert sorted(drawn[:6]) == sorted(drawn[6:]) == list(range(6))
    assert drawn[:6] != drawn[6:]


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_samples_have_the_same_logits_and_loss_as_unpacked_ones(
    family: str, tmp_path: Path
) -> None:
    model = load_cached_model(
        settings_for(
            write_checkpoint(tmp_path, layers=2, words=WORDS, family=family), model__dtype="float32"
        )
    )
    writer, rng = SampleWriter(model.parts), np.random.default_rng(0)
    turns = [
        (State.SILENCE, "", ""),
        (State.STANDBY, "", "is the door open ?"),
        (State.RESPONSE, "person enters now", ""),
        (State.SILENCE, "", ""),
    ]
    sequences = [
        writer.write(
            sample(*turns[:count]),
            rng.integers(0, 256, (count, 2, *PICTURE_SIZE, 3), dtype=np.uint8),
        )
        for count in (1, 4, 2, 1)
    ]
    learner = StreamLearner(model.checkpoint, ("connector",), 1, saves_memory=False).eval()
    alone, packed = (
        collate(sequences, torch.device("cpu"), packed=packed) for packed in (False, True)
    )
    assert len(packed.ids) == 2 < len(alone.ids) == 4
    rows = {}
    for batch in (alone, packed):
        logits = learner(batch)
        by_owner = {number: logits[batch.owners[batch.chosen] == number] for number in range(4)}
        rows[len(batch.ids)] = (
            by_owner,
            OBJECTIVES["focal"].loss(
                logits, batch.targets[batch.chosen], batch.kinds[batch.chosen]
            ),
        )
    for number in range(4):
        assert torch.allclose(rows[2][0][number], rows[4][0][number], atol=1e-4)
    assert rows[2][1].item() == pytest.approx(rows[4][1].item(), abs=1e-4)


def test_the_result_of_a_model_with_few_positions_has_a_context_that_fits(
    checkpoint: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = shutil.copytree(checkpoint, tmp_path / "small")
    config = json.loads((small / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 320
    (small / "config.json").write_text(json.dumps(config))
    before = json.loads((small / "stream_config.json").read_text())
    more = ("--train", "language", "--steps", "1")
    assert main(arguments(small, data, tmp_path / "out", *more)) == 0
    written = json.loads((tmp_path / "out" / "stream_config.json").read_text())
    assert 2 <= written["keep_turns"] < written["max_turns"] < before["max_turns"]
    caplog.clear()
    tuned = load_cached_model(load_settings({"model.directory": str(tmp_path / "out")}))
    tokens = tuned.checkpoint.pictures.fewest_tokens
    assert plan_context(tuned.parts, tokens).policy.most_turns == written["max_turns"]
    assert "was trained for" not in caplog.text


def test_no_packed_row_is_longer_than_the_longest_sample() -> None:
    assert packed_rows([10, 3, 10, 4, 3, 1]) == [[0], [2], [3, 1, 4], [5]]
    assert packed_rows([10, 4, 3, 3]) == [[0], [1, 2, 3]]


def test_a_packed_run_has_the_losses_of_an_unpacked_one(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    more = ("--train", "language", "--steps", "3", "--batch", "4", "--chunk", "5")
    assert main(arguments(checkpoint, data, tmp_path / "alone", *more)) == 0
    AcceleratorState._reset_state(reset_partial_state=True)
    assert main(arguments(checkpoint, data, tmp_path / "packed", *more, "--pack")) == 0
    assert losses(tmp_path / "packed") == pytest.approx(losses(tmp_path / "alone"), rel=1e-4)


def test_two_processes_have_the_same_losses_as_one_process_with_all_samples(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    more = ("--train", "lora", "--steps", "4", "--loss", "focal", "--accumulate", "2")
    assert main(arguments(checkpoint, data, tmp_path / "one", *more)) == 0
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "stream_vlm_lab.training.train",
    ]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "ACCELERATE_USE_CPU": "true",
    }
    command = [*launch, *arguments(checkpoint, data, tmp_path / "two", *more)[1:], "--batch", "1"]
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("4 rows read, 2 refused") == 1
    # Sums are computed in another order.
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-3)
    assert (
        json.loads((tmp_path / "two" / "training.json").read_text())["settings"]["processes"] == 2
    )
