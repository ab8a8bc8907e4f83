"""Summaries, captions and retention in a running node, read from `~/recall` and /diagnostics."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest
from chat_fixtures import SUMMARY, write_speaking_checkpoint
from ros_fixtures import BRIGHT, HALF_LIGHT, Robot
from stream_vlm_ros.msg import MemoryRecord
from stream_vlm_ros.srv import Recall

from stream_vlm_ros.common.stamps import nanoseconds


def test_an_active_node_makes_summaries_and_deletes_old_pictures(robot: Robot) -> None:
    camera = robot.camera()
    robot.start_node(memory__chunk_s=1.0, memory__chunk_summaries=2, memory__keep_pictures_mb=0.001)
    robot.wait(lambda: robot.states, "a state")
    camera.brightness = HALF_LIGHT
    robot.wait(lambda: any(state.under_way for state in list(robot.states)), "an event under way")
    camera.brightness = BRIGHT
    robot.wait_for_text("it became bright")
    summaries = partial(robot.call, Recall, "recall", kinds=["summary"], order="oldest", limit=1000)
    found = robot.wait(
        lambda: [record for record in summaries().records if "it became bright" in record.text],
        "a summary of what was said",
    )
    assert found[0].camera == "camera"
    assert found[0].model_id == "extractive"
    assert found[0].missing_records == 0
    assert not found[0].has_frame
    assert found[0].state == ""
    robot.wait(lambda: summaries().total >= 5, "more summaries")
    recalled = robot.call(Recall, "recall", text="bright").records
    assert recalled
    assert "summary" not in {record.kind for record in recalled}
    assert shown(robot, "summaries by") == "extractive"
    robot.wait(
        lambda: int(shown(robot, "summaries made")) >= 5, "the number of summaries on /diagnostics"
    )
    robot.wait(
        lambda: int(shown(robot, "pictures removed by retention") or 0) > 0,
        "the number of removed pictures on /diagnostics",
    )


def shown(robot: Robot, name: str) -> str:
    """The newest value of `name` in the memory's diagnostics; empty before there is one."""
    values = [
        value.value
        for array in robot.diagnostics()
        for status in array.status
        if status.name.endswith(": memory")
        for value in status.values
        if value.key == name
    ]
    return values[-1] if values else ""


@pytest.fixture
def program(repository: Path) -> tuple[str, ...]:
    """What `ros2 run stream_vlm_ros stream_vlm_node` runs."""
    return (sys.executable, str(repository / "scripts" / "stream_vlm_node"))


def test_the_model_writes_summaries_between_its_steps(
    robot: Robot, program: tuple[str, ...], tmp_path: Path
) -> None:
    robot.camera()
    directory = write_speaking_checkpoint(tmp_path / "speaking")
    robot.start_node(
        command=program,
        model__directory=directory,
        stream__rate_hz=2.0,
        memory__summarizer="model",
        memory__chunk_s=2.0,
    )
    robot.wait(lambda: robot.states, "a state")

    def by_the_model() -> list[object]:
        found = robot.call(Recall, "recall", kinds=["summary"], order="oldest", limit=1000).records
        return [
            record for record in found if record.text == SUMMARY and record.model_id != "extractive"
        ]

    robot.wait(by_the_model, "a summary that the model wrote")
    robot.wait(
        lambda: int(shown(robot, "summaries by a model") or 0) > 0,
        "the number of such summaries on /diagnostics",
    )
    assert shown(robot, "summaries by").startswith("extractive, rewritten by stream-vlm-small-")
    before = len(robot.states)
    robot.wait(lambda: len(robot.states) > before + 3, "more states")
    assert robot.end_node() == 0


def test_the_model_describes_what_the_camera_shows_between_its_steps(
    robot: Robot, program: tuple[str, ...], tmp_path: Path
) -> None:
    robot.camera()
    directory = write_speaking_checkpoint(tmp_path / "speaking")
    robot.start_node(
        command=program,
        model__directory=directory,
        stream__rate_hz=2.0,
        memory__captioner="model",
        memory__caption_s=1.0,
    )

    robot.wait(lambda: robot.states, "a state")

    def captions() -> list[MemoryRecord]:
        found = robot.call(Recall, "recall", text="ball", kinds=[MemoryRecord.KIND_CAPTION])
        return list(found.records)

    robot.wait(lambda: len(captions()) >= 3, "captions")
    first = captions()[0]
    assert first.text == "There was a ball rolls in"
    assert first.has_frame
    # It is about a picture that the node processed, and about no time between two.
    described = {nanoseconds(one.stamp) for one in captions()}
    frames = robot.call(Recall, "recall", kinds=[MemoryRecord.KIND_OBSERVATION], limit=1000).records
    assert described <= {nanoseconds(one.end) for one in frames}
    robot.wait(
        lambda: int(shown(robot, "captions written") or 0) >= 3,
        "the number of captions on /diagnostics",
    )
    assert shown(robot, "captions by").startswith("stream-vlm-small-")
    assert robot.end_node() == 0


def test_a_model_that_cannot_summarize_is_refused_with_what_to_set_instead(
    robot: Robot, program: tuple[str, ...]
) -> None:
    robot.start_node(command=program, memory__summarizer="model")
    robot.wait(lambda: "configure failed" in robot.log, "a refusal")
    assert "memory.summarizer 'model': stream-vlm-small-" in robot.log
    assert "has no chat template" in robot.log
    assert "or set it to 'extractive' or 'endpoint'" in robot.log
