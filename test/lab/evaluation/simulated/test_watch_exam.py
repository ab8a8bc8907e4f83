"""Watches ("tell me when") on simulated rooms: only a report in time is correct."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from stream_vlm.cli import main
from stream_vlm.run_records import TimedUtterance
from stream_vlm_lab.evaluation.online.baselines import AlwaysSilent
from stream_vlm_lab.evaluation.online.online_pass import StreamResult, TimedQuestion
from stream_vlm_lab.evaluation.simulated.exam import examine
from stream_vlm_lab.evaluation.simulated.label_ceiling import CEILING
from stream_vlm_lab.evaluation.simulated.watch_exam import (
    NO_EVENT_WATCH_S,
    WATCH_EXTRA_S,
    Watch,
    outcome_of,
    plan_watches,
    score_watches,
)
from stream_vlm_lab.simulation.labels.event_pattern import all_patterns
from stream_vlm_lab.simulation.labels.visible_events import VisibleEvents
from stream_vlm_lab.simulation.script.script import HELD_OUT_SEED
from stream_vlm_lab.simulation.world import World

SIZE = (96, 64)


def watch(due: float | None, until: float = 30.0) -> Watch:
    return Watch(
        TimedQuestion(
            10.0, "Tell me when the door opens.", "door opens", is_watch=True, until=until
        ),
        due,
    )


def words(*times: float, text: str = "door opens") -> list[TimedUtterance]:
    return [TimedUtterance(t, text) for t in times]


@pytest.mark.parametrize(
    ("due", "times", "outcome"),
    [
        (20.0, [20.0], "correct"),
        (20.0, [19.5], "correct"),
        (20.0, [23.0], "correct"),
        (20.0, [23.5], "late"),
        (20.0, [12.0, 20.0], "false alarm"),
        (20.0, [], "missed"),
        (20.0, [9.0], "missed"),
        (20.0, [30.5], "missed"),
        (None, [], "correctly silent"),
        (None, [9.0, 30.5], "correctly silent"),
        (None, [25.0], "false alarm"),
    ],
)
def test_the_first_words_while_a_watch_is_active_decide_its_outcome(
    due: float | None, times: list[float], outcome: str
) -> None:
    assert outcome_of(watch(due), words(*times)) == outcome


def test_words_after_the_first_correct_ones_are_needless_and_the_named_thing_is_checked() -> None:
    streams = [
        ([watch(20.0)], StreamResult(utterances=words(20.0, 22.0))),
        ([watch(20.0)], StreamResult(utterances=words(20.0, text="lamp turns on"))),
    ]
    scores = score_watches(streams)
    assert (
        scores["correct"],
        scores["right_words"],
        scores["needless_words"],
        scores["accuracy"],
    ) == (2, 1, 1, 1.0)


def test_a_model_without_support_for_watches_gets_the_reason_instead_of_scores() -> None:
    refusing = StreamResult(
        refused=[(watch(20.0).question, "camera: the prompt format has no place for a watch")]
    )
    assert score_watches([([watch(20.0)], refusing)]) == {
        "watches": 1,
        "refused": 1,
        "why": "camera: the prompt format has no place for a watch",
    }


def test_watches_do_not_overlap_and_wait_for_the_first_matching_event_or_for_none() -> None:
    without_event = 0
    for seed in range(12):
        world = World(seed, 240.0, SIZE, faults=["dropped", "frozen"], faults_per_minute=3.0)
        ticks = [tick / 2 for tick in range(481) if world.has_picture(tick / 2)]
        planned = plan_watches(VisibleEvents(world), ticks)
        assert planned == plan_watches(VisibleEvents(world), ticks)
        assert all(
            later.question.t > (earlier.question.until or 0.0)
            for earlier, later in itertools.pairwise(planned)
        )
        for each in planned:
            pattern = max(
                (pattern for pattern in all_patterns() if pattern.words in each.question.text),
                key=lambda pattern: len(pattern.words),
            )
            ends = [
                (world.faults.visible_from(event.t_end), event.label)
                for event in world.script.events
                if pattern.matches(event)
            ]
            after = [(end, label) for end, label in ends if end > each.question.t]
            assert each.question.t in ticks
            assert each.question.is_watch
            assert each.question.until is not None
            if each.due is None:
                without_event += 1
                assert each.question.until == each.question.t + NO_EVENT_WATCH_S
                assert not any(end <= each.question.until for end, _ in after)
            else:
                assert after[0] == (each.due, each.question.answer)
                assert each.question.until == min(each.due + WATCH_EXTRA_S, 240.0)
    assert without_event


def test_the_ground_truth_is_always_correct_and_silence_only_if_nothing_comes() -> None:
    outcome = examine("heldout", 3.0, 2.0, [AlwaysSilent()], watches=True)
    watches = {name: scores["watches"] for name, scores in outcome.scores.items()}
    ceiling, silent, speaking = (
        watches[name] for name in (CEILING, "always silent", "always speaking")
    )
    assert ceiling["accuracy"] == 1.0
    assert ceiling["right_words"] == ceiling["correct"] > 1
    assert silent["missed"] == ceiling["correct"]
    assert silent["correct"] == silent["false_alarm"] == silent["needless_words"] == 0
    assert speaking["false_alarm"] == speaking["watches"] - speaking["correct"]
    assert speaking["needless_words"] > 100
    assert all(scores["questions"] == 0 for scores in outcome.scores.values())


def test_the_command_says_why_a_model_does_not_support_watches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            [
                "eval",
                "--world",
                "heldout",
                "--minutes",
                "0.4",
                "--watches",
                "--out",
                str(tmp_path),
                "--quiet",
            ]
        )
        == 0
    )
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["first_seed"] == HELD_OUT_SEED
    ours = report["scores"]["ours"]["watches"]
    assert ours["refused"] == ours["watches"] > 0
    assert "has no place for a watch" in ours["why"]
    assert "correct" in report["scores"]["motion threshold"]["watches"]
    text = (tmp_path / "report.md").read_text()
    assert "## Tell me when" in text
    assert "not supported" in text
    assert ours["why"] in text
    assert all(
        (tmp_path / name).stat().st_size > 10_000 for name in ("confusion.png", "watches.png")
    )


def test_watches_need_a_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["eval", "--footage", str(tmp_path), "--watches", "--out", str(tmp_path / "out")]) == 2
    )
    assert "--watches needs --world" in capsys.readouterr().err
