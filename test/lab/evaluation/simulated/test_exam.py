"""Examinations with a camera that fails and with long silence: what is hidden is not held against
anybody, and silence is counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stream_vlm.cli import main
from stream_vlm.run_records import TimedEvent, TimedState, TimedUtterance
from stream_vlm_lab.evaluation.online.baselines import AlwaysSilent
from stream_vlm_lab.evaluation.online.online_pass import TimedQuestion, Watched
from stream_vlm_lab.evaluation.plots.confusion_matrix import confusion_matrix, draw_confusion
from stream_vlm_lab.evaluation.scoring.by_fault import score_by_fault
from stream_vlm_lab.evaluation.scoring.scores import Truth, score_watching
from stream_vlm_lab.evaluation.simulated.exam import examine, spread, truth_of
from stream_vlm_lab.evaluation.simulated.label_ceiling import CEILING
from stream_vlm_lab.simulation.camera.faults import FAULTS, Fault
from stream_vlm_lab.simulation.script.splits import HELD_OUT_SEED
from stream_vlm_lab.simulation.world import World

SIZE = (96, 64)


def faulty_rooms() -> list[World]:
    return [
        World(seed, 120.0, SIZE, faults=["dropped", "frozen"], faults_per_minute=5.0)
        for seed in range(12)
    ]


def test_no_tick_stands_where_its_picture_was_dropped() -> None:
    for room in faulty_rooms():
        ticks = [state.t for state in truth_of(room, 2.0, "room").states]
        assert ticks == [tick / 2 for tick in range(241) if room.delivers(tick / 2)]


def test_what_happened_unseen_is_due_when_a_picture_shows_it() -> None:
    later = 0
    for room in faulty_rooms():
        truth = truth_of(room, 2.0, "room")
        for event, told in zip(room.script.events, truth.events, strict=True):
            assert (told.t_start, told.t_end) == (
                room.faults.seen_from(event.t_start),
                room.faults.seen_from(event.t_end),
            )
            later += told.t_end > event.t_end
            shown = next(state for state in truth.states if state.t >= told.t_end)
            assert shown.state == "response"
    assert later > 5


def test_questions_are_not_asked_while_something_is_hidden() -> None:
    asked = 0
    for room in faulty_rooms():
        for question in truth_of(room, 2.0, "room").questions:
            assert room.faults.seen_from(question.t) == question.t
            asked += 1
    assert asked > 50


def plain_truth(*events: TimedEvent, quiet: tuple[tuple[float, float], ...] = ()) -> Truth:
    return Truth(
        "t", 400.0, 0.5, events, [TimedState(tick / 2, "silence") for tick in range(800)], (), quiet
    )


def test_found_events_and_false_alarms_are_counted_where_the_fault_held() -> None:
    truth = plain_truth(
        TimedEvent("door opens", 10.0, 12.0),
        TimedEvent("door closes", 100.0, 102.0),
        TimedEvent("lamp turns on", 200.0, 200.0),
    )
    faults = [
        Fault("noise", 8.0, 11.0, 1.0, 0),
        Fault("dropped", 199.0, 200.0, 1.0, 0),
        Fault("noise", 300.0, 304.0, 1.0, 0),
    ]
    watched = Watched(
        states=list(truth.states),
        events=[TimedEvent("door opens", 10.0, 12.0), TimedEvent("lamp turns on", 200.0, 200.0)],
        utterances=[TimedUtterance(305.0, "door opens"), TimedUtterance(350.0, "door opens")],
    )
    scores = score_by_fault([(truth, faults, watched)])
    assert list(scores) == ["none", *FAULTS]
    assert [
        (scores[kind]["events"], scores[kind]["found"], scores[kind]["false_alarms"])
        for kind in ("noise", "dropped", "none", "jpeg")
    ] == [
        (1, 1, 1),
        (1, 1, 0),
        (1, 0, 1),
        (0, 0, 0),
    ]
    # From 8 s until the event begins, and from 300 s until 1.5 s after the fault.
    assert scores["noise"]["silent_hours"] * 3600 == pytest.approx(2.0 + 6.0, abs=0.51)


def test_false_alarms_in_long_silence_are_counted_apart() -> None:
    truth = plain_truth(TimedEvent("door opens", 10.0, 12.0), quiet=((12.0, 400.0),))
    watched = Watched(
        states=list(truth.states),
        utterances=[TimedUtterance(5.0, "a"), TimedUtterance(13.0, "a"), TimedUtterance(90.0, "a")],
    )
    scores = score_watching([(truth, watched)])
    assert scores["quiet_hours"] * 3600 == pytest.approx(386.5, abs=1.0)
    assert scores["false_alarms_per_quiet_hour"] == pytest.approx(1 / scores["quiet_hours"])


def test_without_long_silence_there_is_no_figure_of_it() -> None:
    truth = plain_truth(TimedEvent("door opens", 10.0, 12.0))
    scores = score_watching([(truth, Watched(states=list(truth.states)))])
    assert scores["quiet_hours"] == 0
    assert scores["false_alarms_per_quiet_hour"] is None


def test_a_camera_that_fails_costs_the_labels_nothing() -> None:
    outcome = examine("faults", 2.0, 2.0, [AlwaysSilent()])
    whole = outcome.scores[CEILING]["by_fault"]
    events = sum(whole[kind]["events"] for kind in FAULTS)
    assert events > 0
    assert all(
        counts["recall"] in (None, 1.0) and counts["false_alarms"] == 0 for counts in whole.values()
    )
    assert outcome.scores["always silent"]["by_fault"]["none"]["recall"] in (None, 0.0)


def test_other_seeds_show_other_rooms_and_the_same_ones_the_same() -> None:
    def truth(seed: int) -> list[TimedEvent]:
        return list(examine("heldout", 1.0, 1.0, [AlwaysSilent()], first_seed=seed).first[0].events)

    assert truth(HELD_OUT_SEED + 1) == truth(HELD_OUT_SEED + 1) != truth(HELD_OUT_SEED)


def test_the_command_reports_long_silence_and_leaves_a_picture_of_the_confusion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = ["--quiet", "--set", "stream.rate_hz=0.5"]
    assert (
        main(
            [
                "eval",
                "--world",
                "long",
                "--minutes",
                "4",
                "--seed",
                "1000007",
                "--out",
                str(tmp_path),
                *fewer,
            ]
        )
        == 0
    )
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["first_seed"] == report["last_seed"] == 1_000_007
    assert report["minutes"] == 4
    assert "recent 4 frames" not in report["watchers"]
    assert report["watchers"]["always speaking"]["false_alarms_per_quiet_hour"] > 1000
    assert report["watchers"]["always silent"]["false_alarms_per_quiet_hour"] == 0
    text = (tmp_path / "report.md").read_text()
    assert "## Long silence" in text
    assert "## True state and said state" in text
    assert (tmp_path / "confusion.png").stat().st_size > 5_000


def test_questions_that_come_too_soon_after_one_another_are_left_out() -> None:
    asked = [TimedQuestion(t, "?") for t in (1.0, 30.0, 61.0, 100.0, 121.5)]
    assert [question.t for question in spread(asked, 60.0)] == [1.0, 61.0, 121.5]
    assert spread(asked, 0.0) == asked


def test_a_matrix_of_states_has_the_truth_in_rows() -> None:
    counts = {"silence as silence": 7, "standby as response": 2, "response as silence": 1}
    assert np.array_equal(confusion_matrix(counts), [[7, 0, 0], [0, 0, 2], [1, 0, 0]])


def test_the_picture_of_the_confusion_has_a_square_for_each_watcher(tmp_path: Path) -> None:
    def width(counts: Mapping[str, Mapping[str, int]]) -> int:
        draw_confusion(counts, tmp_path / "picture.png")
        with Image.open(tmp_path / "picture.png") as picture:
            return picture.width

    mine = {"silence as silence": 7, "standby as response": 2}
    assert width({"a": mine, "b": mine, "c": mine}) > width({"a": mine}) + 500
