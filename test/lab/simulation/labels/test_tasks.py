"""Tasks about simulated streams: answers and their times, the same in every published format."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from stream_vlm.cli import main
from stream_vlm.types import State
from stream_vlm_lab.evaluation.benchmarks.streamo_bench import named_span, read_streamo_items
from stream_vlm_lab.simulation.labels.event_pattern import EventPattern, all_patterns, steps
from stream_vlm_lab.simulation.labels.streamo_format import raw_row
from stream_vlm_lab.simulation.labels.tasks import KINDS, Task, tasks_of
from stream_vlm_lab.simulation.labels.visible_events import VisibleEvents
from stream_vlm_lab.simulation.script.script import WorldError
from stream_vlm_lab.simulation.world import World
from stream_vlm_lab.training.data.messages import (
    messages_to_sample,
    read_messages,
    sample_to_messages,
)
from stream_vlm_lab.training.data.sample import VideoFolder
from stream_vlm_lab.training.data.streamo import raw_to_sample, read_raw, sample_to_raw

SIZE = (96, 64)
SEEDS = range(8)


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    plain = [World(seed, 300.0, SIZE) for seed in SEEDS]
    return [
        *plain,
        *(
            World(
                seed,
                600.0,
                SIZE,
                quiet_minutes=2.0,
                faults=["dropped", "frozen"],
                faults_per_minute=4.0,
            )
            for seed in SEEDS
        ),
    ]


def asked(worlds: list[World], kind: str) -> list[tuple[World, Task]]:
    found = [(world, task) for world in worlds for task in tasks_of(world, [kind], each=6)]
    assert found
    return found


def pattern_in(question: str) -> EventPattern:
    """The event pattern that a question asks about."""
    return max(
        (pattern for pattern in all_patterns() if pattern.words in question),
        key=lambda pattern: len(pattern.words),
    )


def test_tasks_are_repeatable_and_those_of_one_kind_do_not_depend_on_the_others(
    worlds: list[World],
) -> None:
    every = tasks_of(worlds[3])
    assert every == tasks_of(World(3, 300.0, SIZE))
    assert [task for task in every if task.kind == "tell-me-when"] == tasks_of(
        worlds[3], ["tell-me-when"]
    )


def test_a_long_stream_has_every_kind_of_task(worlds: list[World]) -> None:
    assert {task.kind for task in tasks_of(worlds[3])} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_are_asked_at_whole_seconds_without_event_or_fault_and_replies_are_in_order(
    kind: str, worlds: list[World]
) -> None:
    for world, task in asked(worlds, kind):
        assert task.t_s == int(task.t_s)
        assert world.script.at(task.t_s)[1] is None
        assert task.t_s == 0 or world.faults.visible_from(task.t_s) == task.t_s
        ends = [reply.t_end for reply in task.replies]
        assert ends == sorted(ends)
        assert all(
            task.t_s <= reply.t_start <= reply.t_end <= world.script.duration_s
            for reply in task.replies
        )


def test_no_reply_is_due_while_a_fault_hides_the_scene(worlds: list[World]) -> None:
    for world in worlds:
        for task in tasks_of(world, each=3):
            assert all(
                world.faults.visible_from(reply.t_end) == reply.t_end for reply in task.replies
            )


def test_a_narration_has_every_event_when_a_picture_shows_it_complete(
    worlds: list[World],
) -> None:
    for world, task in asked(worlds, "narration"):
        due = [
            (event.label, world.faults.visible_from(event.t_end)) for event in world.script.events
        ]
        assert [(reply.text, reply.t_end) for reply in task.replies] == due


def test_an_event_caption_names_the_span_of_its_event(worlds: list[World]) -> None:
    for _, task in asked(worlds, "event-caption"):
        for reply in task.replies:
            assert named_span(reply.text) == pytest.approx((reply.t_start, reply.t_end), abs=0.051)


def test_the_steps_of_an_event_cover_it_from_start_to_end_without_gaps(
    worlds: list[World],
) -> None:
    parts = set()
    for world in worlds:
        for event in world.script.events:
            made = steps(event)
            assert made[0][1] == event.t_start
            assert made[-1][2] == event.t_end
            assert all(earlier[2] == later[1] for earlier, later in pairwise(made))
            parts.add(len(made))
    assert parts == {1, 2, 3}


def test_tell_me_when_is_answered_by_the_first_matching_event_or_never(
    worlds: list[World],
) -> None:
    no_event = 0
    for world, task in asked(worlds, "tell-me-when"):
        pattern = pattern_in(task.question)
        fitting = [
            event
            for event in world.script.events
            if pattern.matches(event) and world.faults.visible_from(event.t_end) > task.t_s
        ]
        due = [(event.label, world.faults.visible_from(event.t_end)) for event in fitting[:1]]
        assert [(reply.text, reply.t_end) for reply in task.replies] == due
        no_event += not due
    assert no_event


@pytest.mark.parametrize("kind", ["grounding-forward", "grounding-backward"])
def test_grounding_names_the_next_or_the_last_matching_event(
    kind: str, worlds: list[World]
) -> None:
    for world, task in asked(worlds, kind):
        visible, pattern = VisibleEvents(world), pattern_in(task.question)
        fitting = [
            seen
            for seen in visible.events
            if pattern.matches(seen.event)
            and (seen.t_end > task.t_s) == (kind == "grounding-forward")
        ]
        right = fitting[0] if kind == "grounding-forward" else fitting[-1]
        (reply,) = task.replies
        assert named_span(reply.text) == pytest.approx((right.t_start, right.t_end), abs=0.051)
        assert reply.t_end == (right.t_end if kind == "grounding-forward" else task.t_s)


def test_a_changing_answer_is_due_at_once_and_at_every_change(
    worlds: list[World],
) -> None:
    for world, task in asked(worlds, "time-sensitive"):
        texts = [reply.text for reply in task.replies]
        assert len(texts) > 1
        assert task.replies[0].t_end == task.t_s
        assert all(earlier != later for earlier, later in pairwise(texts))
        if task.question.startswith("Is the door open"):
            changes = [
                event
                for event in world.script.events
                if event.kind == "door" and world.faults.visible_from(event.t_end) > task.t_s
            ]
            assert [reply.t_end for reply in task.replies[1:]] == [
                world.faults.visible_from(event.t_end) for event in changes
            ]
            assert texts[1:] == ["yes" if event.action == "opens" else "no" for event in changes]
        elif task.question.startswith("How many people"):
            for reply in task.replies:
                state, _ = world.script.at(reply.t_end)
                count = sum(
                    world.script.things[instance].kind == "person" for instance in state.resting
                )
                assert reply.text == ("none", "one", "two", "three")[count]


def test_questions_about_the_past_have_one_correct_answer(
    worlds: list[World],
) -> None:
    kinds = set()
    for world, task in asked(worlds, "long-memory"):
        past = VisibleEvents(world).before(task.t_s)
        (reply,) = task.replies
        words = task.question.split()
        kinds.add(" ".join(words[:3]))
        if task.question.startswith("What happened about"):
            near = [seen for seen in past if abs(task.t_s - 60 * int(words[3]) - seen.t_end) <= 40]
            assert [seen.event.label for seen in near] == (
                [] if reply.text == "nothing" else [reply.text]
            )
        elif task.question.startswith("About how many minutes"):
            last = [seen for seen in past if pattern_in(task.question).matches(seen.event)][-1]
            assert abs((task.t_s - last.t_end) / 60 - int(reply.text.split()[0])) <= 0.3
        elif task.question.startswith("How often"):
            assert (
                int(reply.text)
                == sum(pattern_in(task.question).matches(seen.event) for seen in past)
                > 0
            )
        else:
            assert reply.text == past[0].event.label
    assert len(kinds) == 4


def plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "kind"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_converted_to_messages_and_back_is_unchanged_and_no_reply_is_too_early(
    kind: str, worlds: list[World]
) -> None:
    for world, task in asked(worlds, kind):
        row = raw_row(task, "video.mp4", world.script.duration_s, "here")
        sample = raw_to_sample(row, {"video.mp4": world.script.duration_s}.__getitem__)
        assert sample_to_raw(sample) == plain(row)
        again = messages_to_sample(sample_to_messages(sample, "Watch."))
        assert sample_to_raw(again) == plain(row)
        said = [turn for turn in sample.turns if turn.state is State.RESPONSE]
        due = [reply for reply in task.replies if math.ceil(reply.t_end) < len(sample.turns)]
        assert {turn.start_s for turn in said} == {float(math.ceil(reply.t_end)) for reply in due}
        asking = [turn.start_s for turn in sample.turns if turn.question]
        assert asking == [task.t_s]
        for turn in sample.turns:
            if turn.state is State.STANDBY:
                assert any(reply.t_start <= turn.start_s < reply.t_end for reply in task.replies)


def test_the_command_writes_two_formats_that_are_read_into_the_same_samples(
    tmp_path: Path,
) -> None:
    arguments = [
        "simulate",
        "--seed",
        "3",
        "--minutes",
        "1.5",
        "--fps",
        "2",
        "--size",
        "96",
        "64",
        "--out",
        str(tmp_path),
    ]
    assert (
        main(
            [*arguments, "--tasks", "all", "--faults", "dropped,frozen", "--faults-per-minute", "4"]
        )
        == 0
    )
    raw, stream = (
        read_raw(tmp_path / "streamo-raw.json", VideoFolder(tmp_path)),
        read_messages(tmp_path / "streamo-stream.json", VideoFolder(tmp_path)),
    )
    assert not raw.refusals
    assert not stream.refusals
    assert len(raw.samples) == len(stream.samples) > 10
    for mine, theirs in zip(raw.samples, stream.samples, strict=True):
        assert (mine.turns, mine.task, mine.video) == (theirs.turns, theirs.task, theirs.video)
    document = json.loads((tmp_path / "labels.json").read_text())
    world = World(3, 90.0, SIZE, faults=["dropped", "frozen"], faults_per_minute=4.0)
    assert [(task["kind"], task["question"]) for task in document["tasks"]] == [
        (task.kind, task.question) for task in tasks_of(world)
    ]
    assert (
        main(
            [
                "dataset",
                "convert",
                str(tmp_path / "streamo-raw.json"),
                "--from",
                "streamo-raw",
                "--videos",
                str(tmp_path),
            ]
        )
        == 0
    )


def test_the_streamo_benchmark_reads_each_kind_of_task_correctly(
    worlds: list[World], tmp_path: Path
) -> None:
    tasks = tasks_of(worlds[3])
    (tmp_path / "rows.json").write_text(
        json.dumps([raw_row(task, "video.mp4", 300.0, "here") for task in tasks])
    )
    waiting = {
        "narration",
        "event-caption",
        "action-caption",
        "grounding-forward",
        "time-sensitive",
        "tell-me-when",
    }
    for task, item in zip(tasks, read_streamo_items(tmp_path / "rows.json"), strict=True):
        assert item.asked_at == task.t_s
        assert len(item.due) == len(task.replies)
        assert item.is_backward == (task.kind == "grounding-backward")
        assert item.questions[0].is_watch == (task.kind in waiting)
        if task.kind == "grounding-backward":
            assert item.due[0].span == named_span(task.replies[0].text)


@pytest.mark.parametrize(
    ("kinds", "each", "named"),
    [(["riddle"], 4, "tasks: 'riddle'"), (["question"], 0, "tasks of each kind: 0")],
)
def test_an_unknown_kind_of_task_or_a_number_below_one_is_refused(
    kinds: list[str], each: int, named: str
) -> None:
    with pytest.raises(WorldError, match=named):
        tasks_of(World(3, 20.0, SIZE), kinds, each=each)
