"""A node under load reduces its work, reports it, and goes back to normal without the load."""

from __future__ import annotations

from typing import Any

from brightness_model import ANY_SIZE_ENV, LOAD_ENV
from diagnostic_msgs.msg import DiagnosticStatus
from ros_fixtures import BRIGHT, DARK, Robot

OK, WARN = DiagnosticStatus.OK, DiagnosticStatus.WARN
QUICK: dict[str, Any] = {"load_shedding__clean_steps": 4, "load_shedding__window_steps": 4}
"""With these parameters the level changes after a few steps."""


def values(status: DiagnosticStatus) -> dict[str, str]:
    return {value.key: value.value for value in status.values}


def test_slow_steps_make_pictures_smaller_until_the_load_is_gone(
    robot: Robot,
) -> None:
    camera = robot.camera()
    # A step may take 225 ms. It takes 300 ms with all pixels and 150 ms with half of them.
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
    shown = values(degraded)
    assert (
        shown["degraded (level)"],
        shown["utterance limit (tokens)"],
        shown["share of pixels"],
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


def test_with_a_model_of_one_picture_size_slow_steps_make_ticks_be_skipped(robot: Robot) -> None:
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
    assert "of a picture's pixels" not in robot.log


def test_without_load_shedding_slow_steps_only_give_a_warning(robot: Robot) -> None:
    camera = robot.camera()
    camera.brightness = BRIGHT
    robot.start_node(environment={LOAD_ENV: "0.15"}, load_shedding__enabled=False, **QUICK)
    robot.wait(lambda: len(robot.states) > 10, "states")
    status = robot.wait_for_diagnostic("model", "longer than the sampling period of 100 ms", WARN)
    assert values(status)["degraded (level)"] == "0"
