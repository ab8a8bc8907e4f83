"""Standing instructions over DDS: reports, events, the parameter while the node runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue, SetParametersResult
from rcl_interfaces.srv import SetParameters
from ros_fixtures import BRIGHT, DARK, HALF_LIGHT, Robot
from stream_vlm_ros.srv import Recall

from stream_vlm.loop.standing_instructions import instruction_id

JUDGING_NODE = (sys.executable, str(Path(__file__).parents[1] / "support" / "judging_model.py"))
LIT, VERY_LIT = "brighter than 100", "brighter than 200"


def start(robot: Robot, *instructions: str, **parameters: Any) -> None:
    robot.start_node(command=JUDGING_NODE, instructions=list(instructions), **parameters)
    robot.wait(lambda: robot.states, "a state")


def set_instructions(robot: Robot, value: ParameterValue) -> SetParametersResult:
    parameter = Parameter(name="instructions", value=value)
    response = robot.call(SetParameters, "set_parameters", parameters=[parameter])
    result: SetParametersResult = response.results[0]
    return result


def strings(*texts: str) -> ParameterValue:
    return ParameterValue(type=ParameterType.PARAMETER_STRING_ARRAY, string_array_value=texts)


def test_two_events_at_once_are_reported_once_each_and_end(robot: Robot) -> None:
    camera = robot.camera()
    start(robot, LIT, VERY_LIT)
    camera.brightness = BRIGHT
    robot.wait_for_text(f"it is {LIT}")
    robot.wait_for_text(f"it is {VERY_LIT}")
    camera.brightness = HALF_LIGHT
    robot.wait(lambda: len(robot.events) == 1, "the end of the first event")
    camera.brightness = DARK
    robot.wait(lambda: len(robot.events) == 2, "the end of the second event")
    assert [event.instruction_id for event in robot.events] == [
        instruction_id(VERY_LIT),
        instruction_id(LIT),
    ]
    assert len(robot.utterances) == 2
    reported = {each.event_id: each for each in robot.utterances}
    for event in robot.events:
        utterance = reported[event.event_id]
        assert utterance.instruction_id == event.instruction_id
        assert (event.header, event.label) == (utterance.header, utterance.text)
        assert (event.end.sec, event.end.nanosec) > (event.start.sec, event.start.nanosec)


def test_what_is_reported_is_recalled_with_its_instruction(robot: Robot) -> None:
    camera = robot.camera()
    start(robot, LIT)
    camera.brightness = BRIGHT
    robot.wait_for_text(f"it is {LIT}")
    camera.brightness = DARK
    robot.wait(lambda: robot.events, "the end of the event")
    found = robot.call(Recall, "recall", kinds=["utterance", "event"]).records
    assert {(each.kind, each.query_id) for each in found} == {
        ("utterance", instruction_id(LIT)),
        ("event", instruction_id(LIT)),
    }


def test_instructions_change_while_the_node_runs(robot: Robot) -> None:
    camera = robot.camera()
    start(robot, VERY_LIT)
    camera.brightness = HALF_LIGHT
    assert set_instructions(robot, strings(LIT)).successful
    robot.wait_for_text(f"it is {LIT}")

    def listed() -> str | None:
        status = robot.wait_for_diagnostic("model", "")
        values = {each.key: each.value for each in status.values}
        return values.get(f"instruction {instruction_id(LIT)}")

    assert robot.wait(listed, "the instruction on /diagnostics") == LIT
    assert re.search(rf"standing instructions: {instruction_id(LIT)} '{LIT}'", robot.log)


@pytest.mark.parametrize(
    "empty",
    [
        ParameterValue(type=ParameterType.PARAMETER_STRING_ARRAY),
        ParameterValue(type=ParameterType.PARAMETER_BOOL_ARRAY),
        ParameterValue(type=ParameterType.PARAMETER_STRING),
    ],
    ids=["strings", "as ros2 param set writes []", "text"],
)
def test_an_empty_list_stands_for_the_general_instructions(
    robot: Robot, empty: ParameterValue
) -> None:
    robot.camera()
    start(robot, LIT)
    assert set_instructions(robot, empty).successful
    robot.wait(lambda: "people, vehicles or animals" in robot.log, "the general instructions")


def test_one_sentence_is_a_list_of_one(robot: Robot) -> None:
    camera = robot.camera()
    start(robot)
    camera.brightness = BRIGHT
    one = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=LIT)
    assert set_instructions(robot, one).successful
    robot.wait_for_text(f"it is {LIT}")


def test_nonsense_is_refused_while_the_node_runs(robot: Robot) -> None:
    robot.camera()
    start(robot, LIT)
    result = set_instructions(robot, strings("a fire", " "))
    assert not result.successful
    assert "instruction 2 has no words" in result.reason


def test_reports_that_are_not_confirmed_are_counted(robot: Robot) -> None:
    camera = robot.camera()
    start(robot, "doubtful: brighter than 100")
    camera.brightness = BRIGHT

    def count() -> int:
        status = robot.wait_for_diagnostic("camera camera", "")
        return int({each.key: each.value for each in status.values}["reports not confirmed"])

    robot.wait(lambda: count() > 0, "a report that is not confirmed")
    assert robot.utterances == []


def test_an_event_that_goes_on_is_published_when_the_node_is_deactivated(robot: Robot) -> None:
    camera = robot.camera()
    start(robot, LIT)
    camera.brightness = BRIGHT
    robot.wait_for_text(f"it is {LIT}")
    assert robot.transition("deactivate")
    robot.wait(lambda: robot.events, "the event")
    assert robot.events[0].event_id == robot.utterances[0].event_id


def test_the_model_that_comes_with_the_package_refuses_instructions(robot: Robot) -> None:
    robot.camera()
    code = "import sys; from stream_vlm_ros.node import main; sys.exit(main())"
    robot.start_node(command=(sys.executable, "-c", code), instructions=[LIT])
    robot.wait_for_diagnostic("node", "instructions: ")
    assert "can follow none" in robot.log
