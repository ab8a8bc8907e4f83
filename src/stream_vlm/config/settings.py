"""All settings, each declared once with type, unit, range, default and a plain description.

ROS parameters, YAML presets, command line options and the table in the docs are derived from these
models. The settings of the model are in `model_settings`, those of the sampling in
`stream_settings`, those of the memory in `memory_settings`. The public name of a setting is its
dotted path, for example `stream.rate_hz`.
Cameras are a list of names and one group per name: `cameras: [front]` and `camera.front.topic`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from stream_vlm.config.delegate_settings import DelegateSettings
from stream_vlm.config.field import Group, SettingError, SettingInfo, describe, setting
from stream_vlm.config.instruction_settings import Instructions
from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.config.model_settings import (
    ContextSettings,
    DecisionSettings,
    EventSettings,
    LoadSheddingSettings,
    ModelSettings,
    SamplingSettings,
    VisionSettings,
)
from stream_vlm.config.stream_settings import StreamSettings


class PoseSettings(Group):
    """Where the robot was when it saw something."""

    odom_topic: str = setting(
        "",
        "Odometry topic (nav_msgs/Odometry) that gives each record the robot's pose. Empty stores"
        " records without a pose.",
        read_only=True,
    )
    max_age_s: float = setting(
        0.5,
        "Largest time between a picture's stamp and a pose that is used for it. If no pose is near"
        " enough, the record gets no pose.",
        unit="s",
        minimum=0.0,
        maximum=60.0,
    )


class OutputSettings(Group):
    """How the node publishes what it says."""

    depth: int = setting(
        10,
        "How many of the newest utterances and events each topic keeps: for subscribers that join"
        " late (durability transient local), and to send again what was lost on the way.",
        unit="messages",
        minimum=1,
        maximum=1000,
        read_only=True,
    )


class LifecycleSettings(Group):
    """How the node works together with the program that manages its lifecycle."""

    bond: Literal["auto", "always", "never"] = setting(
        "auto",
        "Whether the active node sends a heartbeat to Nav2's lifecycle manager. auto does so where"
        " bondpy is installed; with always the node is not activated without it.",
        read_only=True,
    )


class DiagnosticsSettings(Group):
    """How the node reports its health on /diagnostics."""

    period_s: float = setting(
        1.0,
        "Time between two messages on /diagnostics.",
        unit="s",
        minimum=0.1,
        maximum=60.0,
        read_only=True,
    )
    silent_after_s: float = setting(
        3.0,
        "A camera that sends no picture for this long is reported as silent, unless"
        " camera.NAME.silent_after_s is set for it; odometry likewise.",
        unit="s",
        minimum=0.1,
        maximum=3600.0,
    )
    future_tolerance_s: float = setting(
        1.0,
        "A picture or pose is refused if its stamp is farther ahead of the node's clock than this.",
        unit="s",
        minimum=0.0,
        maximum=3600.0,
    )


class CameraSettings(Group):
    """One camera."""

    topic: str = setting(
        "image_raw",
        "Image topic of this camera, relative to the node's namespace.",
        read_only=True,
    )
    transport: Literal["raw", "compressed"] = setting(
        "raw",
        "Message type of the topic: raw for sensor_msgs/Image, compressed for"
        " sensor_msgs/CompressedImage.",
        read_only=True,
    )
    silent_after_s: float = setting(
        0.0,
        "This camera is reported as silent if it sends no picture for this long. 0 takes"
        " diagnostics.silent_after_s.",
        unit="s",
        minimum=0.0,
        maximum=3600.0,
    )


CameraName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=64)]


class Settings(Group):
    """All settings of the package."""

    cameras: list[CameraName] = Field(
        default=["camera"],
        min_length=1,
        description=(
            "Names of the cameras. Each camera has its own parameters, for example"
            " camera.NAME.topic."
        ),
        json_schema_extra={"unit": "", "minimum": None, "maximum": None, "read_only": True},
    )
    camera: dict[CameraName, CameraSettings] = Field(default_factory=dict)
    instructions: Instructions = setting(
        [],
        "Standing instructions: what the model reports whenever it happens, in plain words, one"
        " sentence each. A model that was not tuned for streams judges each of them on its own at"
        " each picture, so each makes a step longer; if the list is empty it uses a general list"
        " (people, things, dangers). A tuned model that can follow a watch follows them as one"
        " watch while no other is active; one that cannot refuses them.",
    )
    model: ModelSettings = Field(default_factory=ModelSettings)
    vision: VisionSettings = Field(default_factory=VisionSettings)
    stream: StreamSettings = Field(default_factory=StreamSettings)
    load_shedding: LoadSheddingSettings = Field(default_factory=LoadSheddingSettings)
    context: ContextSettings = Field(default_factory=ContextSettings)
    decision: DecisionSettings = Field(default_factory=DecisionSettings)
    sampling: SamplingSettings = Field(default_factory=SamplingSettings)
    events: EventSettings = Field(default_factory=EventSettings)
    memory: MemorySettings = Field(default_factory=MemorySettings)
    delegate: DelegateSettings = Field(default_factory=DelegateSettings)
    pose: PoseSettings = Field(default_factory=PoseSettings)
    output: OutputSettings = Field(default_factory=OutputSettings)
    diagnostics: DiagnosticsSettings = Field(default_factory=DiagnosticsSettings)
    lifecycle: LifecycleSettings = Field(default_factory=LifecycleSettings)


def describe_settings(cameras: list[str] | None = None) -> list[SettingInfo]:
    """Return every setting, in declaration order.

    Args:
        cameras: names of cameras whose settings `camera.NAME.*` are added.
    """
    described = list(describe("", Settings))
    for camera in cameras or []:
        described += describe(f"camera.{camera}.", CameraSettings)
    return described


def load_settings(values: Mapping[str, Any]) -> Settings:
    """Build `Settings` from dotted names, for example `{"stream.rate_hz": 2.0}`.

    A setting that is not named keeps its default. Every camera in `cameras` gets its own group.

    Raises:
        SettingError: a name is unknown, or a value has the wrong type or is out of range. The
            message names the setting, the value and the rule.
    """
    tree: dict[str, Any] = {}
    for name, value in values.items():
        branch = tree
        *groups, leaf = name.split(".")
        for group in groups:
            branch = branch.setdefault(group, {})
            if not isinstance(branch, dict):
                raise SettingError(f"{name}: '{group}' is a setting, not a group of settings")
        branch[leaf] = value
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingError("; ".join(_explain(detail) for detail in error.errors())) from error
    stray = sorted(set(settings.camera) - set(settings.cameras))
    if stray:
        raise SettingError(f"camera.{stray[0]}: no such camera; 'cameras' names {settings.cameras}")
    if len(set(settings.cameras)) != len(settings.cameras):
        raise SettingError(
            f"cameras: {settings.cameras} names a camera twice; give each camera its own name"
        )
    groups_by_name = {
        name: settings.camera.get(name, CameraSettings()) for name in settings.cameras
    }
    return settings.model_copy(update={"camera": groups_by_name})


def with_cameras(settings: Settings, cameras: Sequence[str]) -> Settings:
    """Return `settings` for a source that shows `cameras`."""
    return settings.model_copy(
        update={"cameras": list(cameras), "camera": {name: CameraSettings() for name in cameras}}
    )


def _explain(detail: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{name}: no such setting"
    return f"{name}: {detail['input']!r} is refused: {detail['msg'].lower()}"
