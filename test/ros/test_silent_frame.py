"""The path of a silent frame through our files stays short."""

import subprocess
import sys
from pathlib import Path

import pytest
from places import REPOSITORY

pytest.importorskip("rclpy", reason="the path begins at a ROS subscription")

MAX_FILES = 32


def test_a_silent_frame_touches_few_files_between_dds_and_sqlite() -> None:
    command: list[str | Path] = [sys.executable, REPOSITORY / "tools" / "silent_frame.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    files = [line.split()[1] for line in done.stdout.splitlines()[:-1]]
    assert "stream_vlm/pipeline.py" in files
    assert len(files) <= MAX_FILES, files
