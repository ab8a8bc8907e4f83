"""Requests of the form "tell me when" on simulated rooms.

Who speaks when it comes is right; who speaks before, late or for nothing is not.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from stream_vlm.cli import main
from stream_vlm.run_records import TimedUtterance
from stream_vlm_lab.evaluation.online.baselines import AlwaysSilent
from stream_vlm_lab.evaluation.online.online_pass import TimedQuestion, Watched
from stream_vlm_lab.evaluation.simulated.exam import examine
from stream_vlm_lab.evaluation.simulated.label_ceiling import CEILING
from stream_vlm_lab.evaluation.simulated.watch_exam import (
    IN_VAIN_S,
    WAITS_ON_S,
    Watch,
    outcome_of,
    plan_watches,
    score_watches,
)
from stream_vlm_lab.simulation.labels.askable_times import Moments
from stream_vlm_lab.simulation.labels.event_pattern import everything
from stream_vlm_lab.simulation.script.splits import HELD_OUT_SEED
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
        (20.0, [20.0], "right"),
        (20.0, [19.5], "right"),
        (20.0, [23.0], "right"),
        (20.0, [23.5], "late"),
        (20.0, [12.0, 20.0], "false"),
        (20.0, [], "missed"),
        (20.0, [9.0], "missed"),
        (20.0, [30.5], "missed"),
        (None, [], "rightly silent"),
        (None, [9.0, 30.5], "rightly silent"),
        (None, [25.0], "false"),
    ],
)
def test_the_first_words_while_a_watch_is_active_decide(
    due: float | None, times: list[float], outcome: str
) -> None:
    assert outcome_of(watch(due), words(*times)) == outcome


def test_words_beyond_the_first_right_ones_are_needless_and_wrong_ones_are_not_right_words() -> (
    None
):
    streams = [
        ([watch(20.0)], Watched(utterances=words(20.0, 22.0))),
        ([watch(20.0)], Watched(utterances=words(20.0, text="lamp turns on"))),
    ]
    scores = score_watches(streams)
    assert (
        scores["right"],
        scores["right_words"],
        scores["needless_words"],
        scores["accuracy"],
    ) == (2, 1, 1, 1.0)


def test_a_watcher_that_cannot_be_told_gets_no_figure_but_the_reason() -> None:
    refusing = Watched(
        refused=[(watch(20.0).question, "camera: was not made to be told what to wait for")]
    )
    assert score_watches([([watch(20.0)], refusing)]) == {
        "watches": 1,
        "refused": 1,
        "why": "camera: was not made to be told what to wait for",
    }


def test_watches_follow_each_other_and_end_with_the_first_event_that_fits_or_in_vain() -> None:
    in_vain = 0
    for seed in range(12):
        world = World(seed, 240.0, SIZE, faults=["dropped", "frozen"], faults_per_minute=3.0)
        ticks = [tick / 2 for tick in range(481) if world.delivers(tick / 2)]
        planned = plan_watches(Moments(world), ticks)
        assert planned == plan_watches(Moments(world), ticks)
        assert all(
            later.question.t > (earlier.question.until or 0.0)
            for earlier, later in pairwise(planned)
        )
        for each in planned:
            wanted = max(
                (wanted for wanted in everything() if wanted.words in each.question.text),
                key=lambda wanted: len(wanted.words),
            )
            ends = [
                (world.faults.seen_from(event.t_end), event.label)
                for event in world.script.events
                if wanted.fits(event)
            ]
            after = [(end, label) for end, label in ends if end > each.question.t]
            assert each.question.t in ticks
            assert each.question.is_watch
            assert each.question.until is not None
            if each.due is None:
                in_vain += 1
                assert each.question.until == each.question.t + IN_VAIN_S
                assert not any(end <= each.question.until for end, _ in after)
            else:
                assert after[0] == (each.due, each.question.answer)
                assert each.question.until == min(each.due + WAITS_ON_S, 240.0)
    assert in_vain


def test_who_sees_everything_is_always_right_and_who_never_looks_only_where_nothing_comes() -> None:
    outcome = examine("heldout", 3.0, 2.0, [AlwaysSilent()], watches=True)
    told = {name: scores["watches"] for name, scores in outcome.scores.items()}
    assert told[CEILING]["accuracy"] == 1.0
    assert told[CEILING]["right_words"] == told[CEILING]["right"] > 1
    silent = told["always silent"]
    assert silent["missed"] == told[CEILING]["right"]
    assert silent["right"] == silent["false"] == silent["needless_words"] == 0
    assert (
        told["always speaking"]["false"]
        == told["always speaking"]["watches"] - told["always speaking"]["right"]
    )
    assert told["always speaking"]["needless_words"] > 100
    assert all(scores["questions"] == 0 for scores in outcome.scores.values())


def test_the_command_says_why_a_model_cannot_be_told_what_to_wait_for(
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
    ours = report["watchers"]["ours"]["watches"]
    assert ours["refused"] == ours["watches"] > 0
    assert "was not made to be told what to wait for" in ours["why"]
    assert "right" in report["watchers"]["motion threshold"]["watches"]
    text = (tmp_path / "report.md").read_text()
    assert "## Tell me when" in text
    assert "cannot be told" in text
    assert ours["why"] in text
    assert all(
        (tmp_path / name).stat().st_size > 10_000 for name in ("confusion.png", "watches.png")
    )


def test_watches_need_a_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["eval", "--footage", str(tmp_path), "--watches", "--out", str(tmp_path / "out")]) == 2
    )
    assert "--watches goes with --world" in capsys.readouterr().err
