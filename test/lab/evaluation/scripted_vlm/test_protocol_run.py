"""The protocols are measured on marked rooms, and the report says what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stream_vlm.cli import main
from stream_vlm.config.instruction_settings import DEFAULT_INSTRUCTIONS
from stream_vlm_lab.evaluation.scripted_vlm.picture_marks import read_mark
from stream_vlm_lab.evaluation.scripted_vlm.protocol_exam import asked_for, marked_frames
from stream_vlm_lab.evaluation.simulated.exam import truth_of
from stream_vlm_lab.simulation.world import World

ROOM = 3_000_000


def measured(model: str, folder: Path, *options: str) -> dict[str, Any]:
    command = ["eval", "--world", "heldout", "--model", model, "--minutes", "1", "--quiet"]
    assert main([*command, "--seed", str(ROOM), "--out", str(folder), *options]) == 0
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert isinstance(report, dict)
    return report


def test_only_events_that_an_instruction_asks_for_are_due() -> None:
    room = World(ROOM, 60.0)
    truth = truth_of(room, 1.0, "room")
    due = asked_for(truth, room, DEFAULT_INSTRUCTIONS)
    assert 0 < len(due.events) < len(truth.events)
    assert not any("ball" in event.label and "rolls" in event.label for event in due.events)
    assert asked_for(truth, room, ["balls that roll"]).events == [
        event for event in truth.events if "rolls" in event.label
    ]


def test_the_mark_of_every_frame_names_its_room_and_time() -> None:
    room = World(ROOM, 20.0)
    frames = list(marked_frames(room, truth_of(room, 2.0, "room")))
    marks = [read_mark(frame.image) for frame in frames]
    assert [mark.t_ms for mark in marks] == [frame.stamp_ns // 10**6 for frame in frames]
    assert {(mark.seed, mark.length_ms) for mark in marks} == {(ROOM, 20_000)}


def test_both_protocols_report_what_happens_and_a_model_without_noise_says_nothing_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = measured("scripted:noise=0,describe=0", tmp_path)
    before, new, verified = report["protocols"].values()
    assert before["events_reported"] == before["events"]
    assert before["reports_for_one_event"] > 1.3
    for figures in (new, verified):
        assert figures["false_reports"] == 0
        assert figures["reports_for_one_event"] < 1.1
        assert figures["events_reported"] >= 0.5 * figures["events"]
        assert figures["requests_per_tick"] > 3
        assert figures["faults"] == 0
    assert "second look, 0% noise" in capsys.readouterr().out


def test_a_second_look_costs_requests_and_saves_false_reports(tmp_path: Path) -> None:
    report = measured("scripted:noise=0.2", tmp_path)
    _, new, verified = report["protocols"].values()
    assert verified["false_reports"] < 0.6 * new["false_reports"]
    assert verified["requests_per_tick"] > new["requests_per_tick"]


def test_a_model_of_another_kind_or_world_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["eval", "--out", str(tmp_path), "--model", "scripted:mis=1", "--world"]
    assert main([*command, "heldout"]) != 0
    assert "there is no 'mis'" in capsys.readouterr().err
    assert main([*command, "long"]) != 0
    assert "a scripted model answers about --world heldout" in capsys.readouterr().err
