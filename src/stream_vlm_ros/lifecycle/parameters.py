"""ROS parameters made from the package's settings, each with its description and range.

Several parameters that are set together are all refused when one of them is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    ParameterType,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from stream_vlm.config.field import SettingError, SettingInfo
from stream_vlm.config.settings import Settings, describe_settings, load_settings
from stream_vlm.types import StreamError
from stream_vlm_ros.lifecycle.start_values import check_camera_topics, check_start_values

AUTOSTART = "autostart"
USE_SIM_TIME = "use_sim_time"
CAMERA_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class Parameters:
    """Declares every setting as a parameter, refuses bad values and applies good ones.

    A read-only setting takes effect at the configure transition. Changing it later is refused, and
    the reason names the transitions that are needed. Other settings are changed in place in the
    settings object that the running parts use, and then `on_change` is called.
    """

    def __init__(
        self,
        node: Node,
        on_change: Callable[[], None],
        check: Callable[[Settings], None] = lambda settings: None,
    ) -> None:
        """Declare the parameters.

        Args:
            node: the node.
            on_change: called after a change.
            check: called before a change with the settings as they would be; raises StreamError if
                the running parts cannot follow them.
        """
        self._node = node
        self._on_change = on_change
        self._check_running = check
        self._infos: dict[str, SettingInfo] = {}
        self._refused_at_start: dict[str, str] = {}
        self._configured: Settings | None = None
        self.autostart: bool = node.declare_parameter(
            AUTOSTART,
            False,
            ParameterDescriptor(
                description=(
                    "true configures the node when it starts, and activates it after each configure"
                    " transition."
                ),
                read_only=True,
            ),
        ).value
        node.set_descriptor(
            USE_SIM_TIME,
            ParameterDescriptor(
                type=ParameterType.PARAMETER_BOOL,
                description=(
                    "true takes the time from /clock (a simulation, or a bag played with --clock)"
                    " instead of the computer's clock."
                ),
            ),
        )
        self._declare(describe_settings([]))
        self._declare_cameras(self._node.get_parameter("cameras").value)
        node.add_pre_set_parameters_callback(self._to_declared_types)
        node.add_on_set_parameters_callback(self._check)
        node.add_post_set_parameters_callback(self._apply)

    def configure(self) -> Settings:
        """Return the settings that the node runs with, and lock the read-only ones.

        Raises:
            SettingError: a value given at the start was refused or would have no effect, values
                contradict each other, or two cameras watch one topic.
        """
        if self._refused_at_start:
            raise SettingError("; ".join(self._refused_at_start.values()))
        settings = load_settings(self._values())
        check_camera_topics(self._node, settings)
        check_start_values(self._node, settings, {*self._infos, AUTOSTART})
        self._configured = settings
        return settings

    def unlock(self) -> None:
        """Allow changes of read-only settings again; the node is no longer configured."""
        self._configured = None

    def _declare_cameras(self, cameras: Iterable[str]) -> None:
        # load_settings refuses the other names when the node is configured.
        usable = [camera for camera in dict.fromkeys(cameras) if CAMERA_NAME.fullmatch(camera)]
        self._declare([info for info in describe_settings(usable) if info.name not in self._infos])

    def _declare(self, infos: Iterable[SettingInfo]) -> None:
        for info in infos:
            try:
                value = self._declare_one(info, info.default)
                if info.choices and value not in info.choices:
                    # ROS checks ranges but not choices. If this value stayed, every later change of
                    # any parameter would be refused because of it.
                    self._node.undeclare_parameter(info.name)
                    self._declare_default(info, f"'{value}' is not one of the choices")
            except InvalidParameterTypeException as error:
                self._declare_otherwise(info, str(error))
            except InvalidParameterValueException as error:
                self._declare_default(info, str(error))
            # Registered last, because rclpy calls `_check` while it declares a parameter.
            self._infos[info.name] = info

    def _declare_one(self, info: SettingInfo, value: Any, *, ignore_override: bool = False) -> Any:
        """Declare one parameter with the default `value`; return the value that it has then."""
        descriptor = descriptor_of(info)
        if info.kind is not list:
            return self._node.declare_parameter(
                info.name, value, descriptor, ignore_override=ignore_override
            ).value
        # rclpy would take an empty list for a list of bytes.
        kind = Parameter.Type.STRING_ARRAY
        given = self._node.declare_parameter(
            info.name, kind, descriptor, ignore_override=ignore_override
        )
        if given.type_ is Parameter.Type.NOT_SET:
            self._node.set_parameters([Parameter(info.name, kind, value)])
        return self._node.get_parameter(info.name).value

    def _declare_otherwise(self, info: SettingInfo, complaint: str) -> None:
        """Accept a whole number for a float, and one text for a list of texts.

        YAML reads `rate_hz: 2` as an integer.
        """
        kind = {float: Parameter.Type.INTEGER, list: Parameter.Type.STRING}.get(info.kind)
        if kind is not None:
            try:
                given = self._node.declare_parameter(info.name, kind, ParameterDescriptor())
            except InvalidParameterTypeException:
                given = None
            else:
                self._node.undeclare_parameter(info.name)
            if given is not None:
                value = _to_declared_type(given, info).value
                try:
                    self._declare_one(info, value, ignore_override=True)
                except InvalidParameterValueException as error:
                    self._declare_default(info, str(error))
                return
        self._declare_default(info, complaint)

    def _declare_default(self, info: SettingInfo, complaint: str) -> None:
        self._refused_at_start[info.name] = (
            f"{info.name}: the value given at the start is refused ({complaint}); "
            f"{_rule(info)}; correct it, or set it with 'ros2 param set', and configure again"
        )
        self._declare_one(info, info.default, ignore_override=True)

    def _values(self) -> dict[str, Any]:
        cameras = self._node.get_parameter("cameras").value
        wanted = [
            info.name
            for info in self._infos.values()
            if not info.name.startswith("camera.") or info.name.split(".")[1] in cameras
        ]
        return {name: self._node.get_parameter(name).value for name in wanted}

    def _to_declared_types(self, changes: list[Parameter]) -> list[Parameter]:
        return [
            _to_declared_type(change, self._infos[change.name])
            if change.name in self._infos
            else change
            for change in changes
        ]

    def _check(self, changes: list[Parameter]) -> SetParametersResult:
        ours = {change.name: change.value for change in changes if change.name in self._infos}
        if not ours:
            return SetParametersResult(successful=True)
        for name, value in ours.items():
            if (
                self._configured is not None
                and self._infos[name].read_only
                and value != self._node.get_parameter(name).value
            ):
                return SetParametersResult(
                    successful=False,
                    reason=(
                        f"{name} takes effect when the node is configured: first deactivate it and"
                        f" clean it up (ros2 lifecycle set {self._node.get_fully_qualified_name()}"
                        " deactivate, then cleanup), then set the parameter and configure again"
                    ),
                )
        values = self._values() | ours
        cameras = values["cameras"]
        values = {
            name: value
            for name, value in values.items()
            if not name.startswith("camera.") or name.split(".")[1] in cameras
        }
        try:
            settings = load_settings(values)
            if self._configured is not None:
                self._check_running(settings)
        except StreamError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply(self, changes: list[Parameter]) -> None:
        ours = {change.name: change.value for change in changes if change.name in self._infos}
        for name, value in ours.items():
            self._refused_at_start.pop(name, None)
            if self._configured is not None:
                _assign(self._configured, name, value)
        if "cameras" in ours:
            self._declare_cameras(ours["cameras"])
        if ours:
            self._on_change()


def _to_declared_type(change: Parameter, info: SettingInfo) -> Parameter:
    """`change` with the type of its setting, where its own type can only mean one thing."""
    if info.kind is float and change.type_ is Parameter.Type.INTEGER:
        return Parameter(change.name, Parameter.Type.DOUBLE, float(change.value))
    if info.kind is list and change.type_ is Parameter.Type.STRING:
        words = [change.value] if change.value else []
        return Parameter(change.name, Parameter.Type.STRING_ARRAY, words)
    if info.kind is list and change.type_ is not Parameter.Type.NOT_SET and not change.value:
        # `ros2 param set` takes [] for an empty list of truth values.
        return Parameter(change.name, Parameter.Type.STRING_ARRAY, [])
    return change


def descriptor_of(info: SettingInfo) -> ParameterDescriptor:
    """Return the descriptor of one setting: description, unit, range and allowed choices."""
    descriptor = ParameterDescriptor(
        description=f"{info.description} [{info.unit}]" if info.unit else info.description
    )
    constraints = []
    if info.choices:
        constraints.append(f"one of: {', '.join(info.choices)}")
    if info.read_only:
        constraints.append("takes effect when the node is configured; cannot be changed after that")
    descriptor.additional_constraints = "; ".join(constraints)
    if info.minimum is not None and info.maximum is not None:
        if info.kind is float:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(info.minimum), to_value=float(info.maximum))
            ]
        else:
            descriptor.integer_range = [
                IntegerRange(from_value=int(info.minimum), to_value=int(info.maximum), step=1)
            ]
    return descriptor


def _rule(info: SettingInfo) -> str:
    if info.choices:
        return f"allowed: {', '.join(info.choices)}"
    if info.minimum is not None and info.maximum is not None:
        return f"allowed: {info.kind.__name__} from {info.minimum} to {info.maximum}"
    return f"allowed: {info.kind.__name__}"


def _assign(settings: Settings, name: str, value: Any) -> None:
    *groups, leaf = name.split(".")
    branch: Any = settings
    for group in groups:
        branch = branch[group] if isinstance(branch, dict) else getattr(branch, group)
    if isinstance(branch, BaseModel) and getattr(branch, leaf) != value:
        setattr(branch, leaf, value)
