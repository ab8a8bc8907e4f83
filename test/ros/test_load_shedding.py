"""The node under load: it does less, says so, and does everything again when the load is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brightness_model import ANY_SIZE_ENV, LOAD_ENV
from diagnostic_msgs.msg import DiagnosticStatus
from ros_fixtures import BRIGHT, DARK, Robot, robot_in

OK, WARN = DiagnosticStatus.OK, DiagnosticStatus.WARN
QUICK: dict[str, Any] = {"load_shedding__clean_steps": 4, "load_shedding__window_steps": 4}
"""Degrades and recovers within a few steps."""


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[Robot]:
    with robot_in(tmp_path) as made:
        yield made


def values(status: DiagnosticStatus) -> dict[str, str]:
    return {value.key: value.value for value in status.values}


def test_a_node_whose_steps_run_over_takes_smaller_pictures_says_so_and_recovers(
    robot: Robot,
) -> None:
    camera = robot.camera()
    # 300 ms in full and 150 ms at half the pixels, of 225 ms.
    robot.start_node(environment={LOAD_ENV: "0.3", ANY_SIZE_ENV: "1"}, stream__rate_hz=4.0, **QUICK)
    robot.wait_for_diagnostic("model", "step p50", OK)
    camera.brightness = BRIGHT
    degraded = robot.wait_for_diagnostic(
        "model",
        "degraded to level 3 of 6: utterances of at most 8 tokens, 50% of a picture's pixels;",
        WARN,
    )
    assert "steps took longer than 225 ms" in degraded.message
    assert "lower stream.rate_hz" in degraded.message
    said = values(degraded)
    assert (
        said["degraded (level)"],
        said["utterance limit (tokens)"],
        said["share of pixels"],
    ) == ("3", "8", "0.500")
    camera.brightness = DARK
    robot.forget_diagnostics()
    recovered = robot.wait_for_diagnostic("model", "step p50", OK)
    assert (values(recovered)["degraded (level)"], values(recovered)["share of pixels"]) == (
        "0",
        "1.000",
    )
    for change in ("(level 1 of 6)", "(level 3 of 6)", "now no limits (level 0 of 6)"):
        assert change in robot.log


def test_a_model_of_one_picture_size_looks_less_often(robot: Robot) -> None:
    camera = robot.camera()
    camera.brightness = BRIGHT
    robot.start_node(environment={LOAD_ENV: "1.0"}, load_shedding__min_new_tokens=32, **QUICK)
    degraded = robot.wait_for_diagnostic(
        "model",
        "degraded to level 2 of 2: only every 4th tick is processed; steps took longer than 90 ms",
        WARN,
    )
    assert values(degraded)["ticks per step"] == "4"
    robot.wait_for_diagnostic("model", ", and still do;", WARN)
    assert "pixels;" not in robot.log


def test_a_node_that_is_told_to_hold_nothing_back_only_warns(robot: Robot) -> None:
    camera = robot.camera()
    camera.brightness = BRIGHT
    robot.start_node(environment={LOAD_ENV: "0.15"}, load_shedding__enabled=False, **QUICK)
    robot.wait(lambda: len(robot.states) > 10, "states")
    status = robot.wait_for_diagnostic("model", "longer than the sampling period of 100 ms", WARN)
    assert values(status)["degraded (level)"] == "0"
