"""ROS parameters: descriptions and ranges, refused values, and values that change at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
import yaml
from rcl_interfaces.msg import ParameterType
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter

from stream_vlm.config.field import SettingError
from stream_vlm.config.settings import describe_settings, load_settings
from stream_vlm_ros.lifecycle.parameter_table import table
from stream_vlm_ros.lifecycle.parameters import Parameters

MakeNode = Callable[..., tuple[Node, Parameters, list[str]]]


@pytest.fixture
def make() -> Iterator[MakeNode]:
    """Make a node with these start values.

    The returned list grows with each change that is applied.
    """
    context = Context()
    rclpy.init(context=context)
    nodes: list[Node] = []

    def make_node(**values: Any) -> tuple[Node, Parameters, list[str]]:
        overrides = [
            Parameter(name.replace("__", "."), value=value) for name, value in values.items()
        ]
        node = Node("stream_vlm", context=context, parameter_overrides=overrides)
        nodes.append(node)
        changes: list[str] = []
        return node, Parameters(node, lambda: changes.append("changed")), changes

    yield make_node
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown(context=context)


def setting(node: Node, **values: Any) -> tuple[bool, str]:
    """Set all values together; return whether that succeeded, and the reason if not."""
    outcome = node.set_parameters_atomically(
        [Parameter(name.replace("__", "."), value=value) for name, value in values.items()]
    )
    return outcome.successful, outcome.reason


def test_every_parameter_has_a_description_and_every_number_a_range(make: MakeNode) -> None:
    node, _, _ = make(cameras=["front", "rear"])
    names = list(node.get_parameters_by_prefix(""))
    assert {info.name for info in describe_settings(["front", "rear"])} <= set(names)
    for name in names:
        if name == "start_type_description_service":  # rclpy declares it
            continue
        descriptor = node.describe_parameter(name)
        assert descriptor.description, name
        if descriptor.type == ParameterType.PARAMETER_DOUBLE:
            assert descriptor.floating_point_range, name
        if descriptor.type == ParameterType.PARAMETER_INTEGER:
            assert descriptor.integer_range, name


def test_the_descriptor_contains_the_unit_and_the_choices(make: MakeNode) -> None:
    node, _, _ = make()
    assert node.describe_parameter("stream.rate_hz").description.endswith("[Hz]")
    assert (
        "one of: auto, cpu, cuda" in node.describe_parameter("model.device").additional_constraints
    )


def test_each_camera_has_its_own_parameters(make: MakeNode) -> None:
    _, parameters, _ = make(
        cameras=["front", "rear"],
        camera__rear__topic="/rear/image",
        camera__rear__transport="compressed",
    )
    settings = parameters.configure()
    assert settings.camera["rear"].topic == "/rear/image"
    assert settings.camera["rear"].transport == "compressed"
    assert settings.camera["front"].transport == "raw"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"stream__rate_hz": 1000.0}, "rate_hz"),
        ({"stream__rate_hz": math.nan}, "rate_hz"),
        ({"stream__rate_hz": math.inf}, "rate_hz"),
        ({"stream__rate_hz": "fast"}, "Wrong parameter type"),
        ({"decision__max_new_tokens": 0}, "max_new_tokens"),
        ({"model__device": "toaster"}, "model.device: 'toaster' is refused"),
        ({"cameras": ["front", "front"]}, "names a camera twice"),
        ({"cameras": ["no spaces please"]}, "'no spaces please' is refused"),
        ({"camera__camera__transport": "smoke"}, "camera.camera.transport: 'smoke' is refused"),
    ],
)
def test_a_bad_value_is_refused_with_its_name_and_changes_nothing(
    make: MakeNode, values: dict[str, Any], says: str
) -> None:
    node, parameters, changes = make()
    before = parameters.configure()
    parameters.unlock()
    successful, reason = setting(node, **values)
    assert not successful
    assert says in reason
    assert parameters.configure() == before
    assert changes == []


def test_one_bad_value_among_several_changes_nothing(make: MakeNode) -> None:
    node, parameters, _ = make()
    settings = parameters.configure()
    successful, _ = setting(node, decision__refractory_s=2.0, decision__response_threshold=7.0)
    assert not successful
    assert settings.decision.refractory_s == 0.0
    assert node.get_parameter("decision.refractory_s").value == 0.0


def test_a_changed_parameter_changes_the_settings_object_in_place(make: MakeNode) -> None:
    node, parameters, changes = make(cameras=["front"])
    settings = parameters.configure()
    decision = settings.decision
    assert setting(node, decision__refractory_s=2.5, stream__rate_hz=4.0) == (True, "")
    assert decision.refractory_s == 2.5
    assert settings.stream.rate_hz == 4.0
    assert changes == ["changed"]


def test_a_float_parameter_accepts_a_whole_number(make: MakeNode) -> None:
    node, parameters, _ = make(stream__rate_hz=3)
    settings = parameters.configure()
    assert settings.stream.rate_hz == 3.0
    assert setting(node, stream__rate_hz=5) == (True, "")
    assert settings.stream.rate_hz == 5.0


def test_a_read_only_parameter_of_a_configured_node_is_refused_with_the_transitions_needed(
    make: MakeNode,
) -> None:
    node, parameters, _ = make()
    settings = parameters.configure()
    successful, reason = setting(node, memory__path="/elsewhere.db")
    assert not successful
    assert "memory.path" in reason
    assert "deactivate, then cleanup" in reason
    assert settings.memory.path == load_settings({}).memory.path
    parameters.unlock()
    assert setting(node, memory__path="/elsewhere.db") == (True, "")
    assert parameters.configure().memory.path == "/elsewhere.db"


def test_a_read_only_parameter_accepts_its_present_value(
    make: MakeNode,
) -> None:
    node, parameters, _ = make()
    path = parameters.configure().memory.path
    assert setting(node, memory__path=path) == (True, "")


def test_a_camera_that_is_added_later_gets_its_parameters(make: MakeNode) -> None:
    node, parameters, _ = make()
    assert setting(node, cameras=["left"]) == (True, "")
    assert setting(node, camera__left__topic="/left/image") == (True, "")
    assert parameters.configure().camera["left"].topic == "/left/image"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stream__rate_hz", -1.0),
        ("stream__rate_hz", -1),
        ("stream__rate_hz", "fast"),
        ("memory__path", 7),
    ],
)
def test_a_bad_start_value_is_refused_by_configure_until_it_is_corrected(
    make: MakeNode, name: str, value: Any
) -> None:
    node, parameters, _ = make(**{name: value})
    dotted = name.replace("__", ".")
    with pytest.raises(SettingError, match=rf"^{dotted}: the value given at the start is refused"):
        parameters.configure()
    setting(node, **{name: {"stream__rate_hz": 2.0, "memory__path": "/somewhere.db"}[name]})
    parameters.configure()


def test_two_bad_start_values_are_named_together(
    make: MakeNode,
) -> None:
    node, parameters, _ = make(decision__unprompted="perhaps", model__device="tpu")
    with pytest.raises(
        SettingError,
        match=r"(?s)model\.device: .*decision\.unprompted: .*allowed: auto, always, never",
    ):
        parameters.configure()
    assert setting(node, decision__unprompted="never") == (True, "")
    assert setting(node, model__device="cpu") == (True, "")
    settings = parameters.configure()
    assert (settings.decision.unprompted, settings.model.device) == ("never", "cpu")


@pytest.mark.parametrize("preset", ["demo", "desktop", "orin"])
def test_every_preset_is_accepted(make: MakeNode, repository: Path, preset: str) -> None:
    values = yaml.safe_load((repository / "config" / f"{preset}.yaml").read_text())["/**"][
        "ros__parameters"
    ]
    _, parameters, _ = make(**values)
    settings = parameters.configure()
    assert settings == load_settings(values)


def test_the_table_in_the_docs_is_up_to_date(repository: Path) -> None:
    assert table() in (repository / "docs" / "ros.md").read_text(), (
        "paste the output of: python -m stream_vlm_ros.lifecycle.parameter_table"
    )
