"""Examinations with camera faults and quiet spans: hidden events are due later."""

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
from stream_vlm_lab.evaluation.online.online_pass import StreamResult, TimedQuestion
from stream_vlm_lab.evaluation.plots.confusion_matrix import confusion_matrix, draw_confusion
from stream_vlm_lab.evaluation.scoring.by_fault import score_by_fault
from stream_vlm_lab.evaluation.scoring.scores import GroundTruth, score_streams
from stream_vlm_lab.evaluation.simulated.exam import examine, keep_apart, truth_of
from stream_vlm_lab.evaluation.simulated.label_ceiling import CEILING
from stream_vlm_lab.simulation.camera.faults import FAULTS, Fault
from stream_vlm_lab.simulation.script.script import HELD_OUT_SEED
from stream_vlm_lab.simulation.world import World

SIZE = (96, 64)


def faulty_rooms() -> list[World]:
    return [
        World(seed, 120.0, SIZE, faults=["dropped", "frozen"], faults_per_minute=5.0)
        for seed in range(12)
    ]


def test_a_dropped_picture_has_no_tick() -> None:
    for room in faulty_rooms():
        ticks = [state.t for state in truth_of(room, 2.0, "room").states]
        assert ticks == [tick / 2 for tick in range(241) if room.has_picture(tick / 2)]


def test_a_hidden_event_is_due_when_a_picture_shows_it() -> None:
    later = 0
    for room in faulty_rooms():
        truth = truth_of(room, 2.0, "room")
        for event, label in zip(room.script.events, truth.events, strict=True):
            assert (label.t_start, label.t_end) == (
                room.faults.visible_from(event.t_start),
                room.faults.visible_from(event.t_end),
            )
            later += label.t_end > event.t_end
            shown = next(state for state in truth.states if state.t >= label.t_end)
            assert shown.state == "response"
    assert later > 5


def test_questions_are_not_asked_while_something_is_hidden() -> None:
    asked = 0
    for room in faulty_rooms():
        for question in truth_of(room, 2.0, "room").questions:
            assert room.faults.visible_from(question.t) == question.t
            asked += 1
    assert asked > 50


def plain_truth(*events: TimedEvent, quiet: tuple[tuple[float, float], ...] = ()) -> GroundTruth:
    return GroundTruth(
        "t", 400.0, 0.5, events, [TimedState(tick / 2, "silence") for tick in range(800)], (), quiet
    )


def test_found_events_and_false_alarms_are_counted_by_fault() -> None:
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
    result = StreamResult(
        states=list(truth.states),
        events=[TimedEvent("door opens", 10.0, 12.0), TimedEvent("lamp turns on", 200.0, 200.0)],
        utterances=[TimedUtterance(305.0, "door opens"), TimedUtterance(350.0, "door opens")],
    )
    scores = score_by_fault([(truth, faults, result)])
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


def test_false_alarms_in_quiet_spans_are_counted_separately() -> None:
    truth = plain_truth(TimedEvent("door opens", 10.0, 12.0), quiet=((12.0, 400.0),))
    result = StreamResult(
        states=list(truth.states),
        utterances=[TimedUtterance(5.0, "a"), TimedUtterance(13.0, "a"), TimedUtterance(90.0, "a")],
    )
    scores = score_streams([(truth, result)])
    assert scores["quiet_hours"] * 3600 == pytest.approx(386.5, abs=1.0)
    assert scores["false_alarms_per_quiet_hour"] == pytest.approx(1 / scores["quiet_hours"])


def test_without_quiet_spans_there_is_no_score_for_them() -> None:
    truth = plain_truth(TimedEvent("door opens", 10.0, 12.0))
    scores = score_streams([(truth, StreamResult(states=list(truth.states)))])
    assert scores["quiet_hours"] == 0
    assert scores["false_alarms_per_quiet_hour"] is None


def test_camera_faults_do_not_lower_the_score_of_the_ground_truth() -> None:
    outcome = examine("faults", 2.0, 2.0, [AlwaysSilent()])
    ceiling = outcome.scores[CEILING]["by_fault"]
    events = sum(ceiling[kind]["events"] for kind in FAULTS)
    assert events > 0
    assert all(
        counts["recall"] in (None, 1.0) and counts["false_alarms"] == 0
        for counts in ceiling.values()
    )
    assert outcome.scores["always silent"]["by_fault"]["none"]["recall"] in (None, 0.0)


def test_the_seed_determines_the_room() -> None:
    def truth(seed: int) -> list[TimedEvent]:
        return list(examine("heldout", 1.0, 1.0, [AlwaysSilent()], first_seed=seed).first[0].events)

    assert truth(HELD_OUT_SEED + 1) == truth(HELD_OUT_SEED + 1) != truth(HELD_OUT_SEED)


def test_the_command_reports_quiet_spans_and_draws_the_confusion_matrix(
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
    assert "last 4 frames" not in report["scores"]
    assert report["scores"]["always speaking"]["false_alarms_per_quiet_hour"] > 1000
    assert report["scores"]["always silent"]["false_alarms_per_quiet_hour"] == 0
    text = (tmp_path / "report.md").read_text()
    assert "## Long silence" in text
    assert "## True state and predicted state" in text
    assert (tmp_path / "confusion.png").stat().st_size > 5_000


def test_questions_too_soon_after_the_previous_one_are_dropped() -> None:
    asked = [TimedQuestion(t, "?") for t in (1.0, 30.0, 61.0, 100.0, 121.5)]
    assert [question.t for question in keep_apart(asked, 60.0)] == [1.0, 61.0, 121.5]
    assert keep_apart(asked, 0.0) == asked


def test_the_confusion_matrix_has_true_states_in_rows() -> None:
    counts = {"silence as silence": 7, "standby as response": 2, "response as silence": 1}
    assert np.array_equal(confusion_matrix(counts), [[7, 0, 0], [0, 0, 2], [1, 0, 0]])


def test_the_picture_of_the_confusion_has_one_matrix_for_each_model(tmp_path: Path) -> None:
    def width(counts: Mapping[str, Mapping[str, int]]) -> int:
        draw_confusion(counts, tmp_path / "picture.png")
        with Image.open(tmp_path / "picture.png") as picture:
            return int(picture.width)

    mine = {"silence as silence": 7, "standby as response": 2}
    assert width({"a": mine, "b": mine, "c": mine}) > width({"a": mine}) + 500
