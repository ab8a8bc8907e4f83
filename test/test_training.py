"""The trainer writes what the node feeds, learns, goes on after a kill and leaves a checkpoint that watches."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_fixtures import random_frame, settings_for

from stream_vlm.backbone import load_cached_model
from stream_vlm.context.turns import COMPACT
from stream_vlm.stream import Decision, State
from stream_vlm.training import train
from stream_vlm.training.architecture import PICTURES, new_model, save_checkpoint, word_tokenizer
from stream_vlm.training.language_stage import collate, language_loss, train_language
from stream_vlm.training.rendering import COLUMNS, EVENTS_PER_MINUTE, NAMES, ROWS, THING_CLASSES, render_stream
from stream_vlm.training.sequences import HistoryNoise, SequenceWriter, TokenStream
from stream_vlm.training.vision_stage import PairDataset, encode_stream
from stream_vlm.world.language import ACTIONS, vocabulary
from stream_vlm.world.render import World

TRUE_HISTORY = HistoryNoise(0.0, 0.0, 0.0)
SILENCE, STANDBY, RESPONSE = State.SILENCE, State.STANDBY, State.RESPONSE


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return word_tokenizer(vocabulary())


def stream_of(states: list[State], text: str = "door opens") -> TokenStream:
    """A stream with random vision tokens."""
    vision = torch.randn(len(states), ROWS * COLUMNS, 256, generator=torch.Generator().manual_seed(0))
    return TokenStream(vision, states, [text if state is RESPONSE else "" for state in states], [None] * len(states))


def decided(writer: SequenceWriter, written: Any) -> list[State]:
    """The state that each tick is to decide on, read off the targets."""
    names = {writer.marker(state): state for state in State}
    return [names[target] for target in written.targets if target in names]


def test_a_window_is_written_in_the_very_turns_that_the_node_feeds(tokenizer: Any, tmp_path: Path) -> None:
    save_checkpoint(new_model(tokenizer, 0), tokenizer, tmp_path)
    stream = load_cached_model(settings_for(tmp_path)).open_stream("front")
    for index in range(5):
        stream.step(random_frame(index), None, lambda decision: Decision(SILENCE, decision.probabilities))
    fed = [token for segment in stream.context for token in segment.token_ids]
    written = SequenceWriter(tokenizer, TRUE_HISTORY, [0.0]).write(stream_of([SILENCE] * 5), 0, 5, np.random.default_rng(0))
    # The last tick's action is still pending in the node.
    assert written.ids[: len(fed)] == fed
    assert len(written.ids) == len(fed) + 2


def test_every_tick_learns_its_state_and_every_response_its_words(tokenizer: Any) -> None:
    writer = SequenceWriter(tokenizer, TRUE_HISTORY, [0.0])
    states = [SILENCE, STANDBY, STANDBY, RESPONSE, SILENCE]
    written = writer.write(stream_of(states), 0, 5, np.random.default_rng(0))
    assert decided(writer, written) == states
    markers = [writer.marker(state) for state in State]
    words = [target for target in written.targets if target >= 0 and target not in markers]
    assert tokenizer.decode(words) == "door opens <|im_end|>"
    assert len(written.ids) == len(written.targets) == len(written.weights) == written.positions.shape[1]


def test_a_response_that_the_history_missed_falls_due_a_tick_later(tokenizer: Any) -> None:
    writer = SequenceWriter(tokenizer, HistoryNoise(flip=0.0, miss=1.0, invent=0.0), [0.0])
    written = writer.write(stream_of([STANDBY, RESPONSE, SILENCE, SILENCE]), 0, 4, np.random.default_rng(0))
    assert decided(writer, written)[:3] == [STANDBY, RESPONSE, RESPONSE]


def test_falsified_states_change_the_history_and_not_what_is_learned(tokenizer: Any) -> None:
    states = [SILENCE, STANDBY] * 8
    writer = SequenceWriter(tokenizer, HistoryNoise(flip=1.0, miss=0.0, invent=0.0), [0.0])
    true = SequenceWriter(tokenizer, TRUE_HISTORY, [0.0]).write(stream_of(states), 0, 16, np.random.default_rng(0))
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


def test_rendered_labels_say_when_each_event_is_under_way_and_complete() -> None:
    rendered = render_stream(3, 110, 2.0, dense=False)
    events = World(3, 60.0).script.events
    for event in events:
        if rendered.times[0] < event.t_end < rendered.times[-1]:
            end = int(np.searchsorted(rendered.times, event.t_end))
            assert (rendered.states[end], rendered.texts[end]) == (RESPONSE, event.label)
            begin = int(np.searchsorted(rendered.times, event.t_start))
            assert all(state is STANDBY for state in rendered.states[begin:end])


def test_dense_targets_lie_where_things_are_and_mirror_with_the_picture() -> None:
    rendered = render_stream(5, 6, 2.0, dense=True)
    data = PairDataset([rendered])
    assert data.classes.sum() > 0
    for index, choices in enumerate(NAMES.values()):
        assert set(np.unique(data.names[..., index])) <= set(range(-1, len(choices)))
    held = [data.batch(np.arange(6), np.random.default_rng(seed))[1]["classes"].numpy().reshape(6, ROWS, COLUMNS, -1) for seed in range(4)]
    plain = data.classes.reshape(6, ROWS, COLUMNS, -1)
    for batch in held:
        for index in range(6):
            assert np.array_equal(batch[index], plain[index]) or np.array_equal(batch[index], plain[index][:, ::-1])


def test_cells_of_who_handles_something_name_it_and_the_event() -> None:
    seed = next(seed for seed in range(40) if any(event.actor for event in World(seed, 60.0).script.events))
    script = World(seed, 60.0, events_per_minute=EVENTS_PER_MINUTE[seed % len(EVENTS_PER_MINUTE)]).script
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


def test_something_can_be_asked_at_every_silent_tick_and_at_no_other() -> None:
    rendered = render_stream(3, 56, 2.0, dense=False)
    assert [asked is not None for asked in rendered.questions] == [state is SILENCE for state in rendered.states]


def test_vision_tokens_of_training_are_those_of_the_node(tokenizer: Any) -> None:
    model = new_model(tokenizer, 0).eval()
    frames = np.random.default_rng(0).integers(0, 256, (3, 128, 192, 3), dtype=np.uint8)
    with torch.no_grad():
        ours = encode_stream(model.model.visual, frames, torch.device("cpu")).float()
        pairs = PICTURES.patches(np.stack([frames[[0, 0, 1]], frames], axis=1))
        plain = model.model.visual(pairs, grid_thw=torch.tensor([[1, 8, 12]] * 3)).pooler_output.view(3, ROWS * COLUMNS, -1)
    assert torch.nn.functional.cosine_similarity(ours.flatten(), plain.flatten(), dim=0) > 0.999


def test_the_language_part_learns_and_repeats_itself_under_a_seed(tokenizer: Any) -> None:
    stream = stream_of([SILENCE, STANDBY, STANDBY, RESPONSE] * 4)

    def losses() -> tuple[float, float]:
        model = new_model(tokenizer, 0)
        writer = SequenceWriter(tokenizer, TRUE_HISTORY, [0.0])
        batch = collate([writer.write(stream, 0, 16, np.random.default_rng(0))], torch.device("cpu"))
        before = language_loss(model, batch)[0].item()
        train_language(model, [stream], writer, steps=12, batch=2, ticks=16, learning_rate=2e-3, seed=0, log=[], save=lambda: None)
        return before, language_loss(model, batch)[0].item()

    before, after = losses()
    assert after < 0.5 * before
    assert losses() == (before, after)


def test_a_run_with_held_out_worlds_is_refused() -> None:
    with pytest.raises(ValueError, match="reaches the held-out worlds"):
        train.range_of(100, 10)


def test_the_command_trains_goes_on_from_finished_stages_and_its_checkpoint_watches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    small = ["--vision-worlds", "8", "--language-worlds", "4", "--language-steps", "2", "--held-out-worlds", "2", "--processes", "1"]
    arguments = parser.parse_args([*small, "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")])
    assert train.main(arguments) == 0
    assert "taken from" not in capsys.readouterr().out
    assert train.main(arguments) == 0
    assert "vision: taken from" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "training.json").read_text())
    assert 0.0 <= report["language"]["silence"] <= 1.0
    model = load_cached_model(settings_for(tmp_path / "out"))
    assert model.turns == COMPACT
    decision = model.open_stream("front").step(random_frame(0), None, lambda decision: decision)
    assert sum(decision.probabilities.values()) == pytest.approx(1.0)
