"""Every setting once: type, unit, range, default and a sentence a roboticist understands.

ROS parameters, YAML presets, CLI flags and the table in the docs are derived from these models;
nothing declares a setting a second time. The model's own are in `model_settings`. A setting's
public name is its dotted path, for example `stream.rate_hz`. Cameras are a list of names plus one
group per name: `cameras: [front]` with `camera.front.topic`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from stream_vlm.config.field import Group, SettingError, SettingInfo, describe, setting
from stream_vlm.config.model_settings import (
    ContextSettings,
    DecisionSettings,
    EventSettings,
    LoadSheddingSettings,
    ModelSettings,
    SamplingSettings,
    StreamSettings,
)


class MemorySettings(Group):
    """Where and how the past is kept."""

    path: str = setting(
        "~/.ros/stream_vlm/memory.db",
        "SQLite file of the episodic memory; created when missing, continued when there.",
        read_only=True,
    )
    key_file: str = setting(
        "",
        "File whose first line is the passphrase under which the memory file is encrypted"
        " (SQLCipher); only its owner may read it. Empty for a plain file.",
        read_only=True,
    )
    in_prompt: Literal["recall", "full_history", "off"] = setting(
        "recall",
        "What of the past the model reads: recall brings what bears on each question or watch, and"
        " summaries where a chunk begins; full_history begins a chunk with everything that was said, newest"
        " kept, and brings nothing to a question; off shows it nothing.",
        read_only=True,
    )
    text_model: str = setting(
        "",
        "Directory of a sentence-transformers model whose vectors find records by meaning (order"
        " fused); empty for words alone.",
        read_only=True,
    )
    thumbnail_width: int = setting(
        320,
        "Width of the stored evidence pictures; height keeps the camera's proportions.",
        unit="pixel",
        minimum=32,
        maximum=1920,
    )
    thumbnail_quality: int = setting(
        80, "JPEG quality of the stored evidence pictures.", minimum=10, maximum=100
    )
    thumbnail_period_s: float = setting(
        1.0,
        "While nothing is said, store an evidence picture at most this often; utterances and events"
        " always get theirs.",
        unit="s",
        minimum=0.0,
        maximum=3600.0,
    )
    picture_vectors: bool = setting(
        True,
        "With each stored picture keep what the vision tower made of it as one vector, so that it"
        " is found by its looks.",
    )
    summarizer: Literal["extractive", "model", "endpoint", "off"] = setting(
        "extractive",
        "Who sums the past up: extractive takes the weightiest of the records' own words; model has"
        " the running model put that better between its looks, endpoint another one; off makes no"
        " summaries.",
        read_only=True,
    )
    chunk_s: float = setting(
        200.0,
        "Length of the chunks that are summed up, each camera by itself.",
        unit="s",
        minimum=1.0,
        maximum=3600.0,
        read_only=True,
    )
    chunk_summaries: int = setting(
        5,
        "Summaries of chunks that stand side by side; of more, the oldest are merged, as many at a"
        " time.",
        minimum=1,
        maximum=100,
        read_only=True,
    )
    merged_summaries: int = setting(
        42, "Merged summaries that are told as the long past; older ones stay stored. The defaults reach back 12 h.", minimum=1, maximum=1000,
        read_only=True,
    )  # fmt: skip
    summary_chars: int = setting(
        400, "Longest summary.", unit="characters", minimum=40, maximum=8000, read_only=True
    )
    summary_tokens: int = setting(
        1024, "Longest text of what happened that the running model reads for a summary (summarizer model); of more, the newest.", unit="tokens",
        minimum=128, maximum=32768, read_only=True,
    )  # fmt: skip
    summary_url: str = setting(
        "",
        "Where the endpoint is, which speaks the OpenAI chat protocol: http://localhost:8000/v1."
        " Its key is taken from STREAM_VLM_SUMMARY_KEY.",
        read_only=True,
    )
    summary_model: str = setting(
        "", "What the endpoint calls the model that sums up.", read_only=True
    )
    summary_timeout_s: float = setting(
        60.0, "How long to wait for a summary of the endpoint; the records' own words stand meanwhile.", unit="s", minimum=1.0, maximum=3600.0,
        read_only=True,
    )  # fmt: skip
    keep_records_h: float = setting(
        72.0,
        "Drop what was seen, said and asked when it is older than this; 0 never does.",
        unit="h",
        minimum=0.0,
        maximum=876000.0,
    )
    keep_records_mb: float = setting(
        1000.0,
        "Drop the oldest of it when it takes more than this, about; 0 never does.",
        unit="MB",
        minimum=0.0,
        maximum=999999.0,
    )
    keep_pictures_h: float = setting(
        48.0,
        "Drop evidence pictures older than this; 0 never does.",
        unit="h",
        minimum=0.0,
        maximum=876000.0,
    )
    keep_pictures_mb: float = setting(
        4000.0,
        "Drop the oldest pictures when they take more than this; 0 never does.",
        unit="MB",
        minimum=0.0,
        maximum=999999.0,
    )
    keep_summaries_h: float = setting(
        720.0,
        "Drop summaries older than this; 0 never does.",
        unit="h",
        minimum=0.0,
        maximum=876000.0,
    )
    keep_summaries_mb: float = setting(
        100.0,
        "Drop the oldest summaries when they take more than this, about; 0 never does.",
        unit="MB",
        minimum=0.0,
        maximum=999999.0,
    )
    busy_timeout_s: float = setting(
        5.0,
        "How long to wait for another program that holds the memory file locked.",
        unit="s",
        minimum=0.0,
        maximum=60.0,
        read_only=True,
    )


class PoseSettings(Group):
    """Where the robot was when it saw something."""

    odom_topic: str = setting(
        "",
        "Odometry topic (nav_msgs/Odometry) that gives each record its place; empty records no"
        " place.",
        read_only=True,
    )
    max_age_s: float = setting(
        0.5,
        "A pose farther than this from the picture's stamp is not used.",
        unit="s",
        minimum=0.0,
        maximum=60.0,
    )


class DiagnosticsSettings(Group):
    """How the node reports its health on /diagnostics."""

    period_s: float = setting(
        1.0, "How often health is published.", unit="s", minimum=0.1, maximum=60.0, read_only=True
    )
    silent_after_s: float = setting(
        3.0,
        "A camera without a picture for this long is reported as silent.",
        unit="s",
        minimum=0.1,
        maximum=3600.0,
    )
    future_tolerance_s: float = setting(
        1.0,
        "A picture stamped farther than this ahead of the node's clock is refused.",
        unit="s",
        minimum=0.0,
        maximum=3600.0,
    )


class CameraSettings(Group):
    """One camera."""

    topic: str = setting(
        "image_raw", "Topic of the camera, relative to the node's namespace.", read_only=True
    )
    transport: Literal["raw", "compressed"] = setting(
        "raw",
        "raw for sensor_msgs/Image, compressed for sensor_msgs/CompressedImage.",
        read_only=True,
    )


CameraName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=64)]


class Settings(Group):
    """Everything the package can be told."""

    cameras: list[CameraName] = Field(
        default=["camera"],
        min_length=1,
        description="Names of the cameras; each has its own group camera.NAME.",
        json_schema_extra={"unit": "", "minimum": None, "maximum": None, "read_only": True},
    )
    camera: dict[CameraName, CameraSettings] = Field(default_factory=dict)
    model: ModelSettings = Field(default_factory=ModelSettings)
    stream: StreamSettings = Field(default_factory=StreamSettings)
    load_shedding: LoadSheddingSettings = Field(default_factory=LoadSheddingSettings)
    context: ContextSettings = Field(default_factory=ContextSettings)
    decision: DecisionSettings = Field(default_factory=DecisionSettings)
    sampling: SamplingSettings = Field(default_factory=SamplingSettings)
    events: EventSettings = Field(default_factory=EventSettings)
    memory: MemorySettings = Field(default_factory=MemorySettings)
    pose: PoseSettings = Field(default_factory=PoseSettings)
    diagnostics: DiagnosticsSettings = Field(default_factory=DiagnosticsSettings)


def describe_settings(cameras: list[str] | None = None) -> list[SettingInfo]:
    """Every setting with its dotted name, in declaration order; `cameras` adds the groups
    `camera.NAME.*`.
    """
    described = list(describe("", Settings))
    for camera in cameras or []:
        described += describe(f"camera.{camera}.", CameraSettings)
    return described


def load_settings(values: Mapping[str, Any]) -> Settings:
    """Build `Settings` from dotted names, for example `{"stream.rate_hz": 2.0}`; what is not named
    keeps its default.

    Every camera named in `cameras` gets a group, with its defaults where nothing was said.

    Raises:
        SettingError: an unknown name, a value of another type or out of range; the message names
            the setting, the value and the rule.
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


def _explain(detail: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{name}: no such setting"
    return f"{name}: {detail['input']!r} is refused: {detail['msg'].lower()}"
