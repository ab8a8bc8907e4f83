"""Hand-labelled clips: labels and reports are read as "came" or "left" and matched in time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from clip_fixtures import write_video

from stream_vlm.cli import main
from stream_vlm_lab.evaluation.footage.exam import footage_text, run_footage_exam
from stream_vlm_lab.evaluation.footage.labelled_clips import ClipLabelError, direction, read_clips
from stream_vlm_lab.evaluation.online.baselines import MotionThreshold


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("person in red enters from the left", "came"),
        ("hand puts down the blue cup", "came"),
        ("left bottle put back by a hand", "came"),
        ("The man places a box on the table.", "came"),
        ("red ball rolls in from the right", "came"),
        ("person in grey leaves to the right", "left"),
        ("left and middle bottles taken away", "left"),
        ("Someone picks up the book", "left"),
        ("hand takes the red bottle", "left"),
        ("door opens", "other"),
        ("a quiet room", "other"),
    ],
)
def test_words_say_whether_something_came_or_left(words: str, expected: str) -> None:
    assert direction(words) == expected


def write_clip(folder: Path, labels: dict[str, Any], seconds: int = 10) -> Path:
    """A clip whose picture changes from 3 to 4 s, with `labels`."""
    folder.mkdir(exist_ok=True)
    write_video(
        folder / "clip.mp4",
        [60 + 12 * min(max(index - 30, 0), 10) for index in range(seconds * 10)],
        fps=10.0,
    )
    (folder / "annotations.json").write_text(json.dumps({"clips": {"clip.mp4": labels}}))
    return folder


def test_presence_and_events_become_labels_in_order_of_time(tmp_path: Path) -> None:
    labels = {
        "presence": [{"what": "person", "clothes": "black", "enters": 2.0, "leaves": None}],
        "events": [
            {"what": "cup taken", "t_start": 1.0, "t_end": 1.5},
            {"what": "lamp goes on", "t_start": 5, "t_end": 5},
        ],
    }
    (clip,) = read_clips(write_clip(tmp_path, labels))
    assert [(event.label, event.t_start, event.t_end) for event in clip.events] == [
        ("left: cup taken", 1.0, 1.5),
        ("came: person in black", 2.0, 2.0),
        ("other: lamp goes on", 5.0, 5.0),
    ]


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        (
            {"events": [{"what": "cup taken", "t_start": 5, "t_end": 4}]},
            "from 5 to 4 s is not a valid span",
        ),
        ({"events": [{"what": "cup taken"}]}, "no 't_start'"),
        ({"presence": [{"what": "person", "enters": "soon", "leaves": 3}]}, "soon"),
    ],
)
def test_the_error_for_an_invalid_label_names_its_clip(
    labels: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(ClipLabelError, match=complaint):
        read_clips(write_clip(tmp_path, labels))


def test_a_folder_without_labels_or_without_a_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClipLabelError, match="cannot be read as labels"):
        read_clips(tmp_path)
    write_clip(tmp_path, {})
    (tmp_path / "clip.mp4").unlink()
    with pytest.raises(ClipLabelError, match=r"is labelled in .* but does not exist"):
        read_clips(tmp_path)


def test_each_label_has_its_reported_span_and_false_alarms_are_counted_per_minute(
    tmp_path: Path,
) -> None:
    labels = {
        "events": [
            {"what": "box placed", "t_start": 3.0, "t_end": 4.0},
            {"what": "box taken", "t_start": 8.0, "t_end": 8.5},
        ]
    }
    report = run_footage_exam(
        write_clip(tmp_path / "clips", labels), MotionThreshold(), 2.0, tmp_path / "out"
    )
    found, missed = report["clips"]["clip.mp4"]["labels"]
    assert found["reported"]["t_start"] == pytest.approx(3.5)
    assert missed["reported"] is None
    scores = report["scores"]["motion threshold"]
    assert (scores["came_or_left"]["found"], scores["came_or_left"]["missed"]) == (1, 1)
    assert scores["false_alarms_per_minute"] == 0
    assert report["scores"]["always speaking"]["false_alarms_per_minute"] > 60
    assert (tmp_path / "out" / "clip.png").stat().st_size > 5_000
    assert "left: box taken" in footage_text({"model": "none", **report})


def test_the_shipped_model_is_scored_on_a_labelled_clip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_clip(
        tmp_path / "clips",
        {"events": [{"what": "box placed", "t_start": 3.0, "t_end": 4.0}]},
        seconds=6,
    )
    assert main(["eval", "--footage", str(folder), "--out", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["model"].startswith("stream-vlm-small")
    assert "ours" in report["scores"]
    assert "came: box placed" in (tmp_path / "out" / "report.md").read_text()
    assert "F1 came / left" in capsys.readouterr().out


def test_real_footage_is_scored_clip_by_clip(footage: Path, tmp_path: Path) -> None:
    clips = read_clips(footage)
    assert [len(clip.events) for clip in clips] == [12, 7]
    report = run_footage_exam(footage, MotionThreshold(), 2.0, tmp_path)
    assert report["scores"]["always silent"]["came_or_left"]["missed"] == 19
    assert report["scores"]["motion threshold"]["minutes"] == pytest.approx(
        (139.4 + 39.9) / 60, abs=0.05
    )
