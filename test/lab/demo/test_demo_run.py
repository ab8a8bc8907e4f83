"""The demo runs its processes over DDS, reports what they did, and ends them all.

A stand-in for the model speaks when the brightness of the picture changes, so the expected
utterances are known.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from bag_fixtures import write_bag
from places import SUPPORT

pytest.importorskip("rclpy", reason="ROS 2 is not in this environment")

from stream_vlm.types import NANOSECONDS, Frame
from stream_vlm_lab.demo import processes
from stream_vlm_lab.demo.questions import is_right
from stream_vlm_lab.simulation.labels.ground_truth import RecallQuestion

REPORTED = [
    "event_f1",
    "timing_error_s",
    "step_p50_ms",
    "step_p95_ms",
    "frames_dropped",
    "rows",
    "recall",
]
BRIGHTNESS = SUPPORT / "brightness_model.py"
DEMO = f"""
import sys
from stream_vlm_lab.demo.__main__ import main
sys.exit(main(sys.argv[1:], [sys.executable, {str(BRIGHTNESS)!r}]))
"""


def start_demo(folder: Path, *arguments: str, program: str = DEMO) -> subprocess.Popen[str]:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("VIDEO", "BAG")
    }
    command = [sys.executable, "-c", program, "--out", str(folder), *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def run_demo(folder: Path, *arguments: str, program: str = DEMO) -> tuple[int, str, str]:
    process = start_demo(folder, *arguments, program=program)
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


def processes_using(folder: Path) -> list[str]:
    """Command lines of running processes that name `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
            except OSError:
                continue
            if str(folder) in command and "stream_vlm" in command + str(BRIGHTNESS):
                found.append(command)
    return [command for command in found if "pytest" not in command]


def brightness(t_s: float) -> int:
    """20 before 2 s, 128 from 2 s, 230 from 3 s, 20 again from 5 s."""
    return 20 if t_s < 2 else 128 if t_s < 3 else 230 if t_s < 5 else 20


def write_clip(path: Path) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    for index in range(70):
        writer.write(np.full((48, 64, 3), brightness(index / 10), dtype=np.uint8))
    writer.release()
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "lights.mp4")


@pytest.fixture(scope="module")
def clip_demo(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the output of one demo run on the clip."""
    folder = tmp_path_factory.mktemp("watched") / "demo"
    status, output, errors = run_demo(folder, "--video", str(clip))
    assert status == 0, errors
    return folder, output


def write_recording(path: Path) -> Path:
    frames = [
        Frame(
            camera,
            index * NANOSECONDS // 10 + NANOSECONDS,
            "optical",
            np.full((48, 64, 3), brightness(index / 10), dtype=np.uint8),
        )
        for index in range(70)
        for camera in ("left", "right")
    ]
    write_bag(path, frames, {"left": "/left/image_raw", "right": "/right/image_raw"})
    return path


def test_a_run_on_the_simulated_camera_is_scored_against_the_ground_truth(tmp_path: Path) -> None:
    status, output, errors = run_demo(tmp_path / "demo", "--seconds", "8")
    assert status == 0, errors
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert list(report)[: len(REPORTED)] == REPORTED
    # The stand-in does not understand the simulated room.
    assert report["event_f1"] == 0.0
    assert report["recall"]
    assert all(set(answer) == {"question", "answer", "right"} for answer in report["recall"])
    assert all(answer["right"] is False for answer in report["recall"])
    assert report["steps"] >= 12
    assert report["rows"] >= report["steps"]
    assert (tmp_path / "demo" / "memory.db").exists()
    assert "event F1 0.00" in output.splitlines()[-1]


def test_the_events_of_a_video_are_reported_and_recalled(
    clip_demo: tuple[Path, str],
) -> None:
    folder, output = clip_demo
    report = json.loads((folder / "report.json").read_text())
    assert report["event_f1"] is None
    assert report["timing_error_s"] is None
    assert report["events"] == report["utterances"] == 2
    first, last, often = report["recall"]
    assert first["answer"].startswith("it became bright")
    assert last["answer"].startswith("it became dark")
    assert often["answer"].endswith("(1 of 2)")
    assert all(answer["right"] is None for answer in report["recall"])
    assert "says   it became bright" in output
    assert "event" in output


def test_the_camera_can_publish_compressed_pictures(clip: Path, tmp_path: Path) -> None:
    status, output, errors = run_demo(
        tmp_path / "demo", "--video", str(clip), "--transport", "compressed"
    )
    assert status == 0, errors
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert report["events"] == report["utterances"] == 2
    first, last, _ = report["recall"]
    assert first["answer"].startswith("it became bright")
    assert last["answer"].startswith("it became dark")
    assert "says   it became bright" in output


def test_every_camera_of_a_recording_is_used(tmp_path: Path) -> None:
    status, output, errors = run_demo(
        tmp_path / "demo", "--bag", str(write_recording(tmp_path / "bag"))
    )
    assert status == 0, errors
    assert "left: it became bright" in output
    assert "right: it became bright" in output


def test_the_timeline_and_the_clip_show_the_stream(clip_demo: tuple[Path, str]) -> None:
    folder, _ = clip_demo
    timeline = cv2.imread(str(folder / "timeline.png"))
    assert timeline is not None
    assert timeline.shape[1] == 1600
    capture = cv2.VideoCapture(str(folder / "clip.mp4"))
    pages = []
    while (grabbed := capture.read())[0]:
        pages.append(grabbed[1])
    assert 60 <= len(pages) <= 75
    middles = [float(page[200, 360].mean()) for page in pages]
    assert middles[5] < 60 < 200 < middles[40]


def test_a_second_demo_starts_from_an_empty_memory(
    clip_demo: tuple[Path, str], clip: Path, tmp_path: Path
) -> None:
    shutil.copytree(clip_demo[0], tmp_path / "demo")
    status, _, errors = run_demo(tmp_path / "demo", "--video", str(clip), "--seconds", "3")
    assert status == 0, errors
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    summaries = 1
    assert report["rows"] <= report["steps"] + report["events"] + report["utterances"] + summaries


def test_an_interrupted_demo_ends_its_processes(tmp_path: Path) -> None:
    process = start_demo(tmp_path / "demo", "--seconds", "60")
    deadline = time.monotonic() + 60
    while (
        not (tmp_path / "demo" / "camera_source.out").exists()
        or not (tmp_path / "demo" / "camera_source.out").read_text()
    ):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert processes_using(tmp_path / "demo") == []


def test_an_interruption_that_the_middleware_swallowed_is_raised_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "INTERRUPTED", threading.Event())
    with processes.DemoProcesses(tmp_path) as running:
        running.start("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"])
        with pytest.raises(KeyboardInterrupt):
            processes.interrupt()
        with pytest.raises(KeyboardInterrupt):
            running.running("sleeper")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--video", "no-such.mp4"], "no-such.mp4: no such source"),
        (["--bag", "no-such-bag"], "no-such-bag: no such source"),
        (["--seconds", "3", "--model", "no-such-model"], "no-such-model does not exist"),
        (["--seconds", "-3"], "-3"),
    ],
)
def test_a_broken_part_fails_the_demo_with_a_message(
    arguments: list[str], complaint: str, tmp_path: Path
) -> None:
    status, _, errors = run_demo(tmp_path / "demo", *arguments)
    assert status == 1
    assert errors.startswith("demo: ")
    assert complaint in errors
    assert "Traceback" not in errors
    assert processes_using(tmp_path / "demo") == []


def test_a_node_that_dies_fails_the_demo_with_the_end_of_its_log(tmp_path: Path) -> None:
    dying = DEMO.replace(
        f"[sys.executable, {str(BRIGHTNESS)!r}]",
        "[sys.executable, '-c', 'raise SystemExit(\"no camera, no demo\")']",
    )
    status, _, errors = run_demo(tmp_path / "demo", "--seconds", "3", program=dying)
    assert status == 1
    assert "node ended with status 1" in errors
    assert "no camera, no demo" in errors


QUESTION = RecallQuestion(
    "when was the red cup last taken?",
    "hand takes the red cup",
    "newest",
    "hand takes the red cup",
    8.0,
    10.0,
)


@pytest.mark.parametrize(
    ("label", "t_end", "right"),
    [
        ("hand takes the red cup", 10.0, True),
        ("hand takes the red cup", 11.4, True),
        ("hand takes the red cup", 11.6, False),
        ("hand takes the blue cup", 10.0, False),
        ("hand puts down the red cup", 10.0, False),
        ("something moved", 10.0, False),
    ],
)
def test_an_answer_is_correct_if_it_names_the_event_and_its_time(
    label: str, t_end: float, right: bool
) -> None:
    assert is_right(QUESTION, label, t_end) is right
