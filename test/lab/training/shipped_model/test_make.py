"""Training uses the node's turn format, resumes after a kill and writes a usable checkpoint."""

from __future__ import annotations

import importlib
import json
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from model_fixtures import random_frame, settings_for, step_alone

from stream_vlm.backbone import load_cached_model
from stream_vlm.context.turn_formats import COMPACT
from stream_vlm.types import Decision, State, StreamError
from stream_vlm.vision.tower import TorchVisionTower
from stream_vlm_lab.simulation.scene.captions import ACTIONS, vocabulary
from stream_vlm_lab.simulation.world import World
from stream_vlm_lab.training.common import loop
from stream_vlm_lab.training.common.loop import TrainingPlan, accelerator_for
from stream_vlm_lab.training.common.losses import OBJECTIVES
from stream_vlm_lab.training.common.optimizers import LearningRateSchedule
from stream_vlm_lab.training.common.progress import LossLog
from stream_vlm_lab.training.shipped_model import make, render_cache
from stream_vlm_lab.training.shipped_model.architecture import (
    new_model,
    save_checkpoint,
    word_tokenizer,
)
from stream_vlm_lab.training.shipped_model.frame_pairs import PairDataset, shift
from stream_vlm_lab.training.shipped_model.language_stage import train_language
from stream_vlm_lab.training.shipped_model.picture_format import PICTURES
from stream_vlm_lab.training.shipped_model.rendering import (
    COLUMNS,
    EVENTS_PER_MINUTE,
    NAMES,
    ROWS,
    THING_CLASSES,
    render_stream,
)
from stream_vlm_lab.training.shipped_model.sequences import (
    HistoryNoise,
    SequenceWriter,
    TokenStream,
)
from stream_vlm_lab.training.shipped_model.vision_stage import (
    TrainingTower,
    VisionLearner,
    encode_stream,
    train_vision,
)
from stream_vlm_lab.training.train import command

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

TRUE_HISTORY = HistoryNoise(0.0, 0.0, 0.0)
SILENCE, STANDBY, RESPONSE = State.SILENCE, State.STANDBY, State.RESPONSE


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return word_tokenizer(vocabulary())


def stream_of(states: list[State], text: str = "door opens") -> TokenStream:
    """A stream with random vision tokens."""
    vision = torch.randn(
        len(states), ROWS * COLUMNS, 256, generator=torch.Generator().manual_seed(0)
    )
    return TokenStream(
        vision,
        states,
        [text if state is RESPONSE else "" for state in states],
        [None] * len(states),
    )


def decided(writer: SequenceWriter, written: Any) -> list[State]:
    """The target state of each tick."""
    names = {writer.marker(state): state for state in State}
    return [names[target] for target in written.targets if target in names]


def test_a_window_has_the_same_tokens_as_the_nodes_context(tokenizer: Any, tmp_path: Path) -> None:
    save_checkpoint(new_model(tokenizer, 0), tokenizer, tmp_path)
    stream = load_cached_model(settings_for(tmp_path)).open_stream("front")
    for index in range(5):
        step_alone(
            stream,
            random_frame(index),
            None,
            lambda decision: Decision(SILENCE, decision.probabilities),
        )
    fed = [token for segment in stream.context for token in segment.token_ids]
    written = SequenceWriter(tokenizer, TRUE_HISTORY, [0.0]).write(
        stream_of([SILENCE] * 5), 0, 5, np.random.default_rng(0)
    )
    # In the node, the action of the last tick is not in the context yet.
    assert written.ids[: len(fed)] == fed
    assert len(written.ids) == len(fed) + 2


def test_the_state_of_every_tick_and_the_words_of_every_response_are_targets(
    tokenizer: Any,
) -> None:
    writer = SequenceWriter(tokenizer, TRUE_HISTORY, [0.0])
    states = [SILENCE, STANDBY, STANDBY, RESPONSE, SILENCE]
    written = writer.write(stream_of(states), 0, 5, np.random.default_rng(0))
    assert decided(writer, written) == states
    markers = [writer.marker(state) for state in State]
    words = [target for target in written.targets if target >= 0 and target not in markers]
    assert tokenizer.decode(words) == "door opens <|im_end|>"
    assert (
        len(written.ids) == len(written.targets) == len(written.kinds) == written.positions.shape[1]
    )


def test_a_response_that_is_missing_in_the_history_is_due_one_tick_later(tokenizer: Any) -> None:
    writer = SequenceWriter(tokenizer, HistoryNoise(flip=0.0, miss=1.0, invent=0.0), [0.0])
    written = writer.write(
        stream_of([STANDBY, RESPONSE, SILENCE, SILENCE]), 0, 4, np.random.default_rng(0)
    )
    assert decided(writer, written)[:3] == [STANDBY, RESPONSE, RESPONSE]


def test_wrong_states_in_the_history_do_not_change_the_targets(tokenizer: Any) -> None:
    states = [SILENCE, STANDBY] * 8
    writer = SequenceWriter(tokenizer, HistoryNoise(flip=1.0, miss=0.0, invent=0.0), [0.0])
    true = SequenceWriter(tokenizer, TRUE_HISTORY, [0.0]).write(
        stream_of(states), 0, 16, np.random.default_rng(0)
    )
    written = writer.write(stream_of(states), 0, 16, np.random.default_rng(0))
    assert decided(writer, written) == states
    assert written.ids != true.ids


def test_a_question_is_answered_in_its_own_tick(tokenizer: Any) -> None:
    stream = stream_of([SILENCE] * 3)
    stream.questions[1] = ("is the door open ?", "yes")
    writer = SequenceWriter(tokenizer, TRUE_HISTORY, question_rates=[1.0])
    written = writer.write(stream, 0, 3, np.random.default_rng(0))
    assert decided(writer, written) == [SILENCE, RESPONSE, SILENCE]
    assert "is the door open ?" in tokenizer.decode(written.ids)


def test_ticks_of_an_event_are_standby_and_the_tick_after_its_end_is_a_response() -> None:
    rendered = render_stream(3, 110, 2.0, dense=False)
    events = [
        event
        for event in World(3, 60.0).script.events
        if rendered.times[0] < event.t_end < rendered.times[-1]
    ]
    assert len(events) > 3
    for event in events:
        end = int(np.searchsorted(rendered.times, event.t_end))
        assert (rendered.states[end], rendered.texts[end]) == (RESPONSE, event.label)
        begin = int(np.searchsorted(rendered.times, event.t_start))
        assert all(state is STANDBY for state in rendered.states[begin:end])


def test_dense_targets_are_mirrored_together_with_the_picture() -> None:
    rendered = render_stream(5, 6, 2.0, dense=True)
    data = PairDataset([rendered])
    assert data.classes.sum() > 0
    for index, choices in enumerate(NAMES.values()):
        assert set(np.unique(data.names[..., index])) <= set(range(-1, len(choices)))
    held = [
        data.batch(np.arange(6), np.random.default_rng(seed))[1]["classes"]
        .numpy()
        .reshape(6, ROWS, COLUMNS, -1)
        for seed in range(4)
    ]
    plain = data.classes.reshape(6, ROWS, COLUMNS, -1)
    for batch in held:
        for index in range(6):
            assert np.array_equal(batch[index], plain[index]) or np.array_equal(
                batch[index], plain[index][:, ::-1]
            )


def test_cells_of_an_acting_person_have_the_action_and_the_handled_object() -> None:
    seed = next(
        seed for seed in range(40) if any(event.actor for event in World(seed, 60.0).script.events)
    )
    script = World(
        seed, 60.0, events_per_minute=EVENTS_PER_MINUTE[seed % len(EVENTS_PER_MINUTE)]
    ).script
    rendered = render_stream(seed, 110, 2.0, dense=True)
    assert rendered.dense is not None
    names = {name: rendered.dense.names[..., index] for index, name in enumerate(NAMES)}
    checked = 0
    for tick, t_s in enumerate(rendered.times):
        state, event = script.at(float(t_s))
        cells = names["action"][tick] >= 0
        if event is None:
            assert not cells.any()
        elif cells.any():
            assert set(names["action"][tick][cells]) == {ACTIONS.index(event.action)}
            if event.actor and not state.holding:
                checked += 1
                assert set(names["handled kind"][tick][cells]) == {THING_CLASSES.index(event.kind)}
    assert checked


def test_there_is_a_question_for_every_silent_tick_and_for_no_other() -> None:
    rendered = render_stream(3, 56, 2.0, dense=False)
    assert [asked is not None for asked in rendered.questions] == [
        state is SILENCE for state in rendered.states
    ]


def test_vision_tokens_in_training_equal_those_of_the_unmodified_model(tokenizer: Any) -> None:
    model = new_model(tokenizer, 0).eval()
    frames = np.random.default_rng(0).integers(0, 256, (3, 128, 192, 3), dtype=np.uint8)
    with torch.no_grad():
        ours = encode_stream(model.model.visual, frames, torch.device("cpu")).float()
        pairs = PICTURES.patches(np.stack([frames[[0, 0, 1]], frames], axis=1))
        plain = model.model.visual(
            pairs, grid_thw=torch.tensor([[1, 8, 12]] * 3)
        ).pooler_output.view(3, ROWS * COLUMNS, -1)
    assert torch.nn.functional.cosine_similarity(ours.flatten(), plain.flatten(), dim=0) > 0.999


def plan_of(folder: Path, steps: int | None, seconds: float | None = None) -> TrainingPlan:
    folder.mkdir(parents=True, exist_ok=True)
    return TrainingPlan(
        folder, "test", {"steps": steps}, seed=0, steps=steps, seconds=seconds, save_every=2
    )


def losses(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(len(rows)))
    return [row["loss"] for row in rows]


def train_language_part(tokenizer: Any, plan: TrainingPlan) -> None:
    """Train the language part of a new model on one stream of 8 ticks."""
    model = new_model(tokenizer, 0)
    writer = SequenceWriter(tokenizer, TRUE_HISTORY, [0.0])
    stream = stream_of([SILENCE, STANDBY, STANDBY, RESPONSE] * 2)
    objective = OBJECTIVES["fixed"]
    train_language(
        accelerator_for("no"),
        model,
        [stream],
        writer,
        plan,
        objective=objective,
        batch=2,
        ticks=8,
        learning_rate=2e-3,
    )


def test_sequences_for_a_model_with_two_states_have_no_standby(tokenizer: Any) -> None:
    writer = SequenceWriter(
        tokenizer, HistoryNoise(flip=0.9, miss=0.9, invent=0.0), [0.0], has_standby=False
    )
    written = writer.write(
        stream_of([SILENCE, STANDBY, STANDBY, RESPONSE] * 4), 0, 16, np.random.default_rng(0)
    )
    assert writer.marker(STANDBY) not in {*written.ids, *written.targets}
    assert decided(writer, written)[:3] == [SILENCE] * 3
    assert RESPONSE in decided(writer, written)


def train_vision_tower(tokenizer: Any, plan: TrainingPlan) -> None:
    """Train a vision tower on one stream of 8 ticks."""
    streams = [render_stream(5, 8, 2.0, dense=True)]
    train_vision(
        accelerator_for("no"),
        new_model(tokenizer, 0),
        streams,
        plan,
        batch=2,
        learning_rate=1e-3,
        compiles=False,
    )


STAGES = {"vision": train_vision_tower, "language": train_language_part}
STEPS = {"vision": 8, "language": 12}


@pytest.fixture(scope="module", params=STAGES)
def stage(
    request: pytest.FixtureRequest, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, list[float]]:
    """A stage that was trained without interruption: its name and its losses."""
    folder = tmp_path_factory.mktemp("whole")
    AcceleratorState._reset_state(reset_partial_state=True)
    STAGES[request.param](tokenizer, plan_of(folder, STEPS[request.param]))
    return request.param, losses(folder)


def test_the_loss_of_a_stage_falls(stage: tuple[str, list[float]]) -> None:
    name, curve = stage
    assert curve[-1] < {"vision": 0.9, "language": 0.5}[name] * curve[0]


def test_a_stopped_and_resumed_stage_has_the_losses_of_an_uninterrupted_one(
    stage: tuple[str, list[float]], tokenizer: Any, tmp_path: Path
) -> None:
    name, whole = stage
    broken = plan_of(tmp_path / "broken", len(whole))
    last = len(whole) - 2  # one step after the newest saved state
    add = LossLog.add

    def add_and_break(self: LossLog, step: int, values: dict[str, float]) -> None:
        add(self, step, values)
        if step == last:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(LossLog, "add", add_and_break)
        STAGES[name](tokenizer, broken)
    assert losses(broken.folder) == whole[: last + 1], "the same seed gives the same losses"
    STAGES[name](tokenizer, broken)
    assert losses(broken.folder) == pytest.approx(whole, rel=1e-6)


def test_the_curves_of_a_resumed_run_have_each_step_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    # Imported by name: it has no types.
    reader = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")

    # The first run was killed after its fourth step; its newest saved state had two steps.
    for first, last in ((0, 4), (2, 6)):
        with LossLog(tmp_path, first) as log:
            assert log.has_curves
            for step in range(first, last):
                log.add(step, {"loss": 10.0 * first + step})
    curves = reader.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in curves.Scalars("loss")] == [
        (0, 0.0),
        (1, 1.0),
        (2, 22.0),
        (3, 23.0),
        (4, 24.0),
        (5, 25.0),
    ]


def test_a_run_with_a_time_limit_stops_in_time_and_its_learning_rate_rises_and_falls(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticking = count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: 0.25 * next(ticking)))
    train_language_part(tokenizer, plan_of(tmp_path, None, seconds=3.0))
    rates = [
        json.loads(line)["learning_rate"]
        for line in (tmp_path / "losses.jsonl").read_text().splitlines()
    ]
    highest = rates.index(max(rates))
    assert rates == sorted(rates[: highest + 1]) + sorted(rates[highest + 1 :], reverse=True)
    assert rates[-1] < max(rates)
    assert 5 <= len(rates) <= 12


def test_the_learning_rate_is_the_peak_after_the_warm_up_and_the_floor_at_both_ends() -> None:
    rate = LearningRateSchedule(2.0, warm_up=0.1, floor=0.25)
    assert [rate.at(share) for share in (0.0, 0.05, 0.1, 0.55, 1.0)] == pytest.approx(
        [0.5, 1.25, 2.0, 1.25, 0.5]
    )


def test_the_training_tower_has_the_same_outputs_and_gradients_as_the_nodes_tower(
    tokenizer: Any,
) -> None:
    model = new_model(tokenizer, 0)
    patches = torch.randn(2, 96, 1536, generator=torch.Generator().manual_seed(0))
    outcomes = []
    for tower in (
        TorchVisionTower(model.model.visual, PICTURES),
        TrainingTower(model.model.visual, PICTURES),
    ):
        tokens = tower.encode_patches(patches, 2, 128, 192)
        tokens.square().sum().backward()
        outcomes.append(
            (tokens.detach(), model.model.visual.blocks[0].attn.qkv.weight.grad.clone())
        )
        model.zero_grad()
    for ours, theirs in zip(*outcomes, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_tower_that_cannot_be_compiled_is_trained_uncompiled_and_says_why(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled(function: Any, **_: Any) -> Any:
        def run(*_: Any) -> Any:
            raise RuntimeError("no C++ compiler\nand much more")

        return run

    learner = VisionLearner(new_model(tokenizer, 0))
    patches, targets = PairDataset([render_stream(5, 4, 2.0, dense=True)]).batch(
        np.arange(4), np.random.default_rng(0)
    )
    monkeypatch.setattr(torch, "compile", compiled)
    assert learner.compile_for(patches, targets) == "RuntimeError: no C++ compiler"
    assert torch.isfinite(learner(patches, targets))


def test_most_pairs_are_shifted_by_a_few_pixels_and_the_shift_is_returned() -> None:
    pairs = (
        np.arange(128 * 192, dtype=np.uint32)
        .astype(np.uint8)
        .reshape(128, 192)[None, None, :, :, None]
        .repeat(3, -1)
        .repeat(2, 1)
        .repeat(40, 0)
    )
    pairs[:, :, 60:70, 100:110] = 255
    moved, by = shift(pairs, np.random.default_rng(0))
    pixels = (by * 32).round().astype(int)
    assert np.abs(pixels).max() == 5
    assert 0.5 < (pixels != 0).any(axis=1).mean() < 0.9
    for picture, (down, right) in zip(moved, pixels, strict=True):
        assert (picture[:, 60 + down : 70 + down, 100 + right : 110 + right] == 255).all()


def test_rooms_are_rendered_once_and_a_longer_run_renders_only_the_missing_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def rendered(
        seeds: list[int], ticks: int, rate_hz: float, *, dense: bool, processes: int
    ) -> Any:
        asked.extend(seeds)
        return (render_stream(seed, ticks, rate_hz, dense) for seed in seeds)

    monkeypatch.setattr(render_cache, "render_streams", rendered)
    monkeypatch.setattr(render_cache, "STREAMS_PER_FILE", 2)
    cache = render_cache.RenderCache(tmp_path, 2.0, processes=1)
    first = cache.streams(range(3, 6), 6, dense=True, what="dense")
    assert asked == [3, 4, 5]
    assert isinstance(first[0].frames, np.memmap)
    longer = cache.streams(range(3, 7), 6, dense=True, what="dense")
    assert asked == [3, 4, 5, 6]
    assert [stream.seed for stream in longer] == [3, 4, 5, 6]
    spoken = cache.streams(range(3, 5), 6, dense=False, what="spoken")
    for got, seed, dense in ((longer[1], 4, True), (spoken[0], 3, False)):
        fresh = render_stream(seed, 6, 2.0, dense)
        assert (got.states, got.texts, got.questions) == (
            fresh.states,
            fresh.texts,
            fresh.questions,
        )
        assert np.array_equal(got.frames, fresh.frames)
        assert np.array_equal(got.times, fresh.times)
        assert (got.dense is None) == (fresh.dense is None)
        if got.dense is not None and fresh.dense is not None:
            assert all(
                np.array_equal(getattr(got.dense, name), getattr(fresh.dense, name))
                for name in ("classes", "names", "motion", "place")
            )


def test_a_run_that_would_train_on_held_out_rooms_is_refused() -> None:
    with pytest.raises(StreamError, match="reaches the held-out rooms"):
        make.training_seeds(100, 10)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--rank", "4"], "--rank is for fine-tuning; give CHECKPOINT and DATA"),
        (
            ["a", "b", "--out", "c", "--vision-worlds", "4"],
            "--vision-worlds is for making the shipped model; leave out CHECKPOINT",
        ),
        (["a", "--out", "c"], "fine-tuning needs DATA"),
        (["--minutes", "0"], "--minutes 0: must be above 0"),
    ],
)
def test_options_of_the_other_training_are_refused_by_name(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command(arguments)
    assert complaint in capsys.readouterr().err


def test_the_command_trains_reuses_finished_stages_and_writes_a_usable_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "VISION_BATCH", 16)
    monkeypatch.setattr(make, "LANGUAGE_BATCH", 2)
    arguments = [
        *("--vision-worlds", "1"),
        *("--language-worlds", "1"),
        *("--language-steps", "1"),
        *("--held-out-worlds", "1"),
        *("--processes", "1"),
        "--no-compile",
        *("--work", str(tmp_path / "work")),
        *("--out", str(tmp_path / "out")),
    ]
    assert command(arguments) == 0
    assert "loaded from" not in capsys.readouterr().out
    assert (
        len(losses(tmp_path / "work" / "vision-0"))
        == len(losses(tmp_path / "work" / "language-0"))
        == 1
    )
    assert not list((tmp_path / "work").rglob("state.pt"))
    assert command(arguments) == 0
    assert "vision: loaded from" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "training.json").read_text())
    assert 0.0 <= report["language"]["silence"] <= 1.0
    model = load_cached_model(settings_for(tmp_path / "out"))
    assert model.parts.turns == COMPACT
    decision = step_alone(
        model.open_stream("front"), random_frame(0), None, lambda decision: decision
    )
    assert sum(decision.probabilities.values()) == pytest.approx(1.0)
