"""Summaries and retention in a running node: asked for over a real service call, counted on /diagnostics."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from ros_fixtures import BRIGHT, HALF_LIGHT, Robot, robot_in
from stream_vlm_ros.srv import Recall


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[Robot]:
    with robot_in(tmp_path) as made:
        yield made


def test_the_past_is_summed_up_while_the_node_watches_and_old_pictures_go(robot: Robot) -> None:
    camera = robot.camera()
    robot.start_node(memory__chunk_s=1.0, memory__mid_summaries=2, memory__keep_pictures_mb=0.001)
    robot.wait(lambda: robot.states, "a state")
    camera.brightness = HALF_LIGHT
    robot.wait(lambda: any(state.under_way for state in list(robot.states)), "an event under way")
    camera.brightness = BRIGHT
    robot.wait_for_text("it became bright")
    summaries = partial(robot.call, Recall, "recall", kinds=["summary"], order="oldest", limit=1000)
    found = robot.wait(lambda: [record for record in summaries().records if "it became bright" in record.text], "a summary of what was said")
    assert found[0].camera == "camera" and found[0].model_id == "extractive" and found[0].gone == 0
    assert not found[0].has_frame and found[0].state == ""
    robot.wait(lambda: summaries().total >= 5, "more summaries")
    assert all(record.kind != "summary" for record in robot.call(Recall, "recall", text="bright").records)

    def counted(name: str) -> int:
        values = [
            value.value
            for array in robot.diagnostics()
            for status in array.status
            if status.name.endswith(": memory")
            for value in status.values
            if value.key == name
        ]
        return int(values[-1]) if values else 0

    robot.wait(lambda: counted("summaries made") >= 5, "the number of summaries on /diagnostics")
    robot.wait(lambda: counted("dropped pictures") > 0, "the number of dropped pictures on /diagnostics")
