"""Labels of simulated streams: states by tick, questions with answers, files."""

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from stream_vlm.types import State
from stream_vlm_lab.simulation.labels.export import write_stream
from stream_vlm_lab.simulation.labels.ground_truth import (
    VisibleQuestions,
    labels_document,
    questions,
    recall_questions,
    tick_states,
)
from stream_vlm_lab.simulation.scene.captions import NOTHING, parse_label
from stream_vlm_lab.simulation.script.script import WorldError
from stream_vlm_lab.simulation.script.script_writer import make_script
from stream_vlm_lab.simulation.world import World


@pytest.mark.parametrize("rate_hz", [1.0, 2.0, 5.0])
def test_every_event_is_reported_once_at_the_first_tick_at_or_after_its_end(rate_hz: float) -> None:
    script = make_script(4, 120.0)
    spoken = [
        (tick.t_s, tick.text)
        for tick in tick_states(script, rate_hz)
        if tick.state is State.RESPONSE
    ]
    assert [text for _, text in spoken] == [event.label for event in script.events]
    for (t_s, _), event in zip(spoken, script.events, strict=True):
        assert 0 <= t_s - event.t_end < 1 / rate_hz


def test_ticks_during_an_event_are_standby_and_the_others_are_silence() -> None:
    script = make_script(4, 120.0)
    for tick in tick_states(script, 2.0):
        _, under_way = script.at(tick.t_s)
        if tick.state is not State.RESPONSE:
            assert tick.state is (State.STANDBY if under_way else State.SILENCE)
            assert tick.text == ""


def test_an_offset_moves_every_tick() -> None:
    ticks = tick_states(make_script(4, 10.0), 2.0, offset_s=0.2)
    assert [tick.t_s for tick in ticks[:3]] == pytest.approx([0.2, 0.7, 1.2])


def test_ticks_need_a_rate() -> None:
    with pytest.raises(WorldError, match="0 Hz"):
        tick_states(make_script(4, 10.0), 0.0)


def test_questions_are_asked_only_while_no_event_is_in_progress() -> None:
    for seed in range(20):
        script = make_script(seed, 120.0)
        assert all(script.at(asked.t_s)[1] is None for asked in questions(script))


def test_answers_agree_with_the_picture() -> None:
    checked: Counter[str] = Counter()
    for seed in range(40):
        world = World(seed, 40.0, (160, 120))
        for asked in questions(world.script):
            things = world.view(asked.t_s).things
            words = asked.question.split()
            named = [thing for thing in things if thing.kind == words[-2]]
            if asked.question.startswith("is there a") and asked.answer == "no":
                assert not named
            elif words[:3] == ["what", "colour", "is"] and named:
                assert [thing.colour for thing in named] == [asked.answer]
            elif words[-2] == "open" or words[-2] == "on":
                state = {"open": ("open", "closed"), "on": ("on", "off")}[words[-2]]
                fixture = next((thing for thing in things if thing.kind == words[2]), None)
                if fixture:
                    assert fixture.state == (state[0] if asked.answer == "yes" else state[1])
            elif asked.question.startswith("where") and named and named[0].visible_fraction > 0.9:
                mine = world.view(asked.t_s).instances == named[0].instance
                middle = np.flatnonzero(mine.any(axis=0)).mean() / 160
                assert ["left", "middle", "right"][int(middle * 3)] == asked.answer
            checked[words[0]] += 1
    assert set(checked) == {"is", "what", "where", "how"}


def test_the_last_event_is_its_caption_or_nothing_after_eight_seconds() -> None:
    answers: list[str] = []
    for seed in range(30):
        script = make_script(seed, 120.0)
        for asked in questions(script):
            if asked.question != "what happened last ?":
                continue
            last = script.last_event(asked.t_s)
            assert asked.answer == (last.label if last and asked.t_s - last.t_end <= 8 else NOTHING)
            answers.append(asked.answer)
    assert NOTHING in answers
    assert len(set(answers)) > 20


def test_no_answer_is_frequent_enough_to_be_guessed() -> None:
    answers: dict[str, Counter[str]] = {}
    for seed in range(150):
        for asked in questions(make_script(seed, 120.0)):
            answers.setdefault(asked.question, Counter())[asked.answer] += 1
    for question, counted in answers.items():
        if sum(counted.values()) >= 60:
            assert max(counted.values()) / sum(counted.values()) < 0.75, question


def test_different_questions_are_asked_at_the_same_time() -> None:
    visible_questions = VisibleQuestions(make_script(12, 60.0))
    assert len({visible_questions.ask(0.5).question for _ in range(30)}) > 3


def test_recall_questions_are_answered_by_the_newest_event_of_their_kind() -> None:
    script = make_script(9, 180.0)
    asked = recall_questions(script)
    assert asked
    for question in asked:
        same = [
            event
            for event in script.events
            if parse_label(event.label) == parse_label(question.answer_label)
        ]
        assert same[-1].t_end == question.t_end
        assert same[-1].t_start == question.t_start
        assert question.question.startswith("when ")
        assert question.question.endswith("?")


def test_a_written_stream_is_a_video_with_a_labels_file(tmp_path: Path) -> None:
    world = World(5, 6.0, (160, 120))
    files = write_stream(world, tmp_path / "stream", fps=5, progress=False)
    video = cv2.VideoCapture(str(files.video))
    shapes = []
    while True:
        read, frame = video.read()
        if not read:
            break
        shapes.append(frame.shape)
    video.release()
    assert shapes == [(120, 160, 3)] * 30
    assert files.frames == 30
    document = json.loads(files.labels.read_text(encoding="utf-8"))
    assert document == json.loads(json.dumps(labels_document(world, 5)))
    assert (document["seed"], document["duration_s"], document["size"], document["fps"]) == (
        5,
        6.0,
        [160, 120],
        5,
    )


def test_a_written_video_shows_the_pictures_of_the_world(tmp_path: Path) -> None:
    files = write_stream(World(5, 3.0, (160, 120)), tmp_path, fps=5, progress=False)
    video = cv2.VideoCapture(str(files.video))
    read, frame = video.read()
    video.release()
    assert read
    shown = World(5, 3.0, (160, 120)).view(0.0).image.astype(int)
    assert np.abs(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB).astype(int) - shown).mean() < 12


def test_the_labels_file_lists_every_event_with_times_in_seconds() -> None:
    world = World(6, 60.0, (160, 120))
    document = labels_document(world, 10.0)
    assert [event["label"] for event in document["events"]] == [
        event.label for event in world.script.events
    ]
    assert set(document["events"][0]) == {"label", "action", "object", "colour", "t_start", "t_end"}
    assert [state["t"] for state in document["states"]] == list(range(61))


@pytest.mark.parametrize("fps", [0.5, 200.0, float("nan")])
def test_a_frame_rate_out_of_range_is_refused(tmp_path: Path, fps: float) -> None:
    with pytest.raises(WorldError, match=f"fps: {fps} is refused"):
        write_stream(World(1, 6.0, (160, 120)), tmp_path, fps=fps, progress=False)
    assert not list(tmp_path.iterdir())


def test_an_output_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(WorldError, match="cannot be used as the output folder"):
        write_stream(World(1, 6.0, (160, 120)), blocked, progress=False)
