"""Every setting once: type, unit, range, default and a sentence a roboticist understands.

ROS parameters, YAML presets, CLI flags and the table in the docs are derived from these models; nothing declares a setting a second time.
A setting's public name is its dotted path, for example `stream.rate_hz`. Cameras are a list of names plus one group per name:
`cameras: [front]` with `camera.front.topic`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from stream_vlm.setting import Group, SettingError, SettingInfo, describe, setting


class ModelSettings(Group):
    """Which model looks, and on what."""

    directory: str = setting(
        "",
        "Directory of a Hugging Face checkpoint: Qwen2.5-VL or Qwen3-VL, or, slower, another image-text-to-text model; "
        "empty uses the small model shipped with the package.",
        read_only=True,
    )
    turns: Literal["auto", "streamo", "prompted", "compact", "streaming_vlm", "harness"] = setting(
        "auto",
        "How what is seen and said is written down for the model: auto goes by stream_config.json, else by the tokenizer; name the format where "
        "neither tells, as for a StreamingVLM download.",
        read_only=True,
    )
    device: Literal["auto", "cpu", "cuda", "split"] = setting(
        "auto",
        "Where the model runs: cpu, cuda, auto (cuda where one is found), or split over all GPUs when it is larger than one (needs accelerate).",
        read_only=True,
    )
    weights: Literal["auto", "int8", "int4"] = setting(
        "auto",
        "Bits of the language model's weights: auto as the checkpoint stores them, int8 or int4 to save memory (needs bitsandbytes).",
        read_only=True,
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", "Arithmetic of the model: auto is float32 on cpu and bfloat16 on cuda.", read_only=True
    )
    static_shapes: Literal["auto", "on", "off"] = setting(
        "auto",
        "Run forwards of sizes that come again with fixed shapes, on cuda as recorded CUDA graphs: auto does so on cuda; off saves GPU memory.",
        read_only=True,
    )
    threads: int = setting(
        0, "CPU threads the model may use; 0 leaves the choice to PyTorch.", minimum=0, maximum=256, read_only=True
    )


class StreamSettings(Group):
    """How often the model looks."""

    rate_hz: float = setting(
        2.0, "How many frames a second the model looks at, per camera; it always takes the newest.", unit="Hz", minimum=0.1, maximum=30.0
    )


class DeadlineSettings(Group):
    """What gives way when looking takes longer than the time between two looks."""

    enabled: bool = setting(
        True, "While steps run over their time, hold back first length of utterances, then pixels, then every second look; false never does."
    )
    budget: float = setting(0.9, "Share of the sampling period that a step may take.", minimum=0.1, maximum=1.0)
    window_steps: int = setting(8, "How many of the last steps are judged together.", unit="steps", minimum=2, maximum=1000)
    overrun_share: float = setting(
        0.5, "More is held back when this share of them ran over their time, though never for a single one.", minimum=0.01, maximum=1.0
    )
    clean_steps: int = setting(
        20, "Steps in time, one after the other, before it is tried whether less need be held back.", unit="steps", minimum=1, maximum=10000
    )
    min_new_tokens: int = setting(8, "Utterances are never held back to fewer tokens than this.", unit="tokens", minimum=1, maximum=1024)


class ContextSettings(Group):
    """What the model still sees of the past."""

    policy: Literal["auto", "rounds", "chunked", "sliding", "recent"] = setting(
        "auto",
        "What leaves the context: rounds drops the oldest turns, chunked starts afresh at a border, sliding keeps the words of turns whose "
        "pictures leave, recent keeps the newest pictures and no words; auto takes what the checkpoint was made for.",
        read_only=True,
    )
    frames: int = setting(
        4,
        "How many of the newest turns' pictures the policy recent keeps, and a model without a cache here sees; max_seconds is for the others.",
        unit="turns",
        minimum=1,
        maximum=64,
        read_only=True,
    )
    max_seconds: float = setting(
        0.0,
        "Longest stretch of stream kept in the context; 0 takes what the checkpoint was made for.",
        unit="s",
        minimum=0.0,
        maximum=3600.0,
        read_only=True,
    )
    memory_tokens: int = setting(
        512,
        "Longest text of the past in the prompt (see memory.in_prompt), for models made to read it: what is recalled for a question or a watch, and "
        "what a chunk begins with (policy chunked); 0 for none.",
        unit="tokens",
        minimum=0,
        maximum=16384,
        read_only=True,
    )
    recompute: bool = setting(
        False,
        "Compute the whole context anew at every tick instead of keeping what was computed: many times slower, for comparison only.",
        read_only=True,
    )


class DecisionSettings(Group):
    """When the model may speak."""

    unasked: Literal["auto", "always", "never"] = setting(
        "auto",
        "Whether pictures are judged while neither a watch nor a question asks for it: never stays silent until asked; auto does as the model was "
        "made, where one that was never tuned for streams waits to be told.",
    )
    response_threshold: float = setting(
        0.0,
        "Speak unasked only when the probability of a response is at least this; 0 follows the most likely state.",
        minimum=0.0,
        maximum=1.0,
    )
    standby_threshold: float = setting(
        0.0,
        "Say that something is under way only when the probability of standby is at least this, else be silent; 0 follows the most likely state.",
        minimum=0.0,
        maximum=1.0,
    )
    hysteresis: float = setting(
        0.0,
        "While something is under way, another state is taken up only when it is more probable than standby by at least this; 0 follows the "
        "most likely state.",
        minimum=0.0,
        maximum=1.0,
    )
    known_confidence: float = setting(
        0.5,
        "An answer of the model that is less sure than this, and for which it read nothing remembered, is said not to be known.",
        minimum=0.0,
        maximum=1.0,
    )
    refractory_s: float = setting(
        0.0, "After an unasked utterance, stay silent for this long.", unit="s", minimum=0.0, maximum=3600.0
    )
    max_new_tokens: int = setting(
        32,
        "Longest utterance; a sentence that does not end by then is cut at a whole word, in Chinese and Japanese at a whole character.",
        unit="tokens",
        minimum=1,
        maximum=1024,
        read_only=True,  # the cache is laid out with room for it
    )


class SamplingSettings(Group):
    """How the words of an utterance are chosen."""

    temperature: float = setting(
        0.0, "0 always takes the most likely word; above it words are drawn, the more freely the higher.", minimum=0.0, maximum=2.0, read_only=True
    )
    top_p: float = setting(
        1.0, "Draw only from the most likely words that together have this probability; 1 draws from all.", minimum=0.01, maximum=1.0, read_only=True
    )
    top_k: int = setting(0, "Draw only from this many of the most likely words; 0 draws from all.", minimum=0, maximum=1000, read_only=True)
    repetition_penalty: float = setting(
        1.0, "Above 1 makes words that the utterance has already less likely.", minimum=1.0, maximum=2.0, read_only=True
    )
    seed: int = setting(0, "Seed of the draws; the same stream then gives the same words.", minimum=0, maximum=2**31 - 1, read_only=True)


class EventSettings(Group):
    """How decisions over time become events."""

    max_open_s: float = setting(
        120.0,
        "An event under way for longer than this is given up and closed as abandoned.",
        unit="s",
        minimum=1.0,
        maximum=3600.0,
    )
    grace_s: float = setting(
        1.0,
        "Silence shorter than this does not interrupt an event that is under way.",
        unit="s",
        minimum=0.0,
        maximum=60.0,
    )
    edges: Literal["frames", "between"] = setting(
        "frames",
        "Where an event begins and ends: frames are the stamps of the first frame that shows it under way and of the one that shows it complete; "
        "between goes back from each halfway to the frame before, where it happened on average.",
    )


class MemorySettings(Group):
    """Where and how the past is kept."""

    path: str = setting(
        "~/.ros/stream_vlm/memory.db", "SQLite file of the episodic memory; created when missing, continued when there.", read_only=True
    )
    key_file: str = setting(
        "",
        "File whose first line is the passphrase under which the memory file is encrypted (SQLCipher); only its owner may read it. Empty for a "
        "plain file.",
        read_only=True,
    )
    in_prompt: Literal["recall", "pour", "off"] = setting(
        "recall",
        "What of the past the model reads: recall brings what bears on each question or watch, and summaries where a chunk begins; pour begins a "
        "chunk with everything that was said, newest kept, and brings nothing to a question; off shows it nothing.",
        read_only=True,
    )
    text_model: str = setting(
        "",
        "Directory of a sentence-transformers model whose vectors find records by meaning (order fused); empty for words alone.",
        read_only=True,
    )
    thumbnail_width: int = setting(
        320, "Width of the stored evidence pictures; height keeps the camera's proportions.", unit="pixel", minimum=32, maximum=1920
    )
    thumbnail_quality: int = setting(80, "JPEG quality of the stored evidence pictures.", minimum=10, maximum=100)
    thumbnail_period_s: float = setting(
        1.0,
        "While nothing is said, store an evidence picture at most this often; utterances and events always get theirs.",
        unit="s",
        minimum=0.0,
        maximum=3600.0,
    )
    picture_vectors: bool = setting(
        True, "With each stored picture keep what the vision tower made of it as one vector, so that it is found by its looks."
    )
    summarizer: Literal["extractive", "model", "endpoint", "off"] = setting(
        "extractive",
        "Who sums the past up: extractive takes the weightiest of the records' own words; model has the running model put that better between its "
        "looks, endpoint another one; off makes no summaries.",
        read_only=True,
    )
    chunk_s: float = setting(
        200.0, "Length of the chunks that are summed up, each camera by itself.", unit="s", minimum=1.0, maximum=3600.0, read_only=True
    )
    mid_summaries: int = setting(
        5, "Summaries of chunks that stand side by side; of more, the oldest are merged, as many at a time.", minimum=1, maximum=100, read_only=True
    )
    long_blocks: int = setting(
        42, "Merged summaries that are told as the long past; older ones stay stored. The defaults reach back 12 h.", minimum=1, maximum=1000,
        read_only=True,
    )  # fmt: skip
    summary_chars: int = setting(400, "Longest summary.", unit="characters", minimum=40, maximum=8000, read_only=True)
    summary_tokens: int = setting(
        1024, "Longest text of what happened that the running model reads for a summary (summarizer model); of more, the newest.", unit="tokens",
        minimum=128, maximum=32768, read_only=True,
    )  # fmt: skip
    summary_url: str = setting(
        "",
        "Where the endpoint is, which speaks the OpenAI chat protocol: http://localhost:8000/v1. Its key is taken from STREAM_VLM_SUMMARY_KEY.",
        read_only=True,
    )
    summary_model: str = setting("", "What the endpoint calls the model that sums up.", read_only=True)
    summary_timeout_s: float = setting(
        60.0, "How long to wait for a summary of the endpoint; the records' own words stand meanwhile.", unit="s", minimum=1.0, maximum=3600.0,
        read_only=True,
    )  # fmt: skip
    keep_records_h: float = setting(
        72.0, "Drop what was seen, said and asked when it is older than this; 0 never does.", unit="h", minimum=0.0, maximum=876000.0
    )
    keep_records_mb: float = setting(
        1000.0, "Drop the oldest of it when it takes more than this, about; 0 never does.", unit="MB", minimum=0.0, maximum=999999.0
    )
    keep_pictures_h: float = setting(48.0, "Drop evidence pictures older than this; 0 never does.", unit="h", minimum=0.0, maximum=876000.0)
    keep_pictures_mb: float = setting(
        4000.0, "Drop the oldest pictures when they take more than this; 0 never does.", unit="MB", minimum=0.0, maximum=999999.0
    )
    keep_summaries_h: float = setting(720.0, "Drop summaries older than this; 0 never does.", unit="h", minimum=0.0, maximum=876000.0)
    keep_summaries_mb: float = setting(
        100.0, "Drop the oldest summaries when they take more than this, about; 0 never does.", unit="MB", minimum=0.0, maximum=999999.0
    )
    busy_timeout_s: float = setting(
        5.0, "How long to wait for another program that holds the memory file locked.", unit="s", minimum=0.0, maximum=60.0, read_only=True
    )


class PoseSettings(Group):
    """Where the robot was when it saw something."""

    odom_topic: str = setting(
        "", "Odometry topic (nav_msgs/Odometry) that gives each record its place; empty records no place.", read_only=True
    )
    max_age_s: float = setting(
        0.5, "A pose farther than this from the picture's stamp is not used.", unit="s", minimum=0.0, maximum=60.0
    )


class DiagnosticsSettings(Group):
    """How the node reports its health on /diagnostics."""

    period_s: float = setting(1.0, "How often health is published.", unit="s", minimum=0.1, maximum=60.0, read_only=True)
    silent_after_s: float = setting(
        3.0, "A camera without a picture for this long is reported as silent.", unit="s", minimum=0.1, maximum=3600.0
    )
    future_tolerance_s: float = setting(
        1.0, "A picture stamped farther than this ahead of the node's clock is refused.", unit="s", minimum=0.0, maximum=3600.0
    )


class CameraSettings(Group):
    """One camera."""

    topic: str = setting("image_raw", "Topic of the camera, relative to the node's namespace.", read_only=True)
    transport: Literal["raw", "compressed"] = setting(
        "raw", "raw for sensor_msgs/Image, compressed for sensor_msgs/CompressedImage.", read_only=True
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
    deadline: DeadlineSettings = Field(default_factory=DeadlineSettings)
    context: ContextSettings = Field(default_factory=ContextSettings)
    decision: DecisionSettings = Field(default_factory=DecisionSettings)
    sampling: SamplingSettings = Field(default_factory=SamplingSettings)
    events: EventSettings = Field(default_factory=EventSettings)
    memory: MemorySettings = Field(default_factory=MemorySettings)
    pose: PoseSettings = Field(default_factory=PoseSettings)
    diagnostics: DiagnosticsSettings = Field(default_factory=DiagnosticsSettings)


def describe_settings(cameras: list[str] | None = None) -> list[SettingInfo]:
    """Every setting with its dotted name, in declaration order; `cameras` adds the groups `camera.NAME.*`."""
    described = list(describe("", Settings))
    for camera in cameras or []:
        described += describe(f"camera.{camera}.", CameraSettings)
    return described


def load_settings(values: Mapping[str, Any]) -> Settings:
    """Build `Settings` from dotted names, for example `{"stream.rate_hz": 2.0}`; what is not named keeps its default.

    Every camera named in `cameras` gets a group, with its defaults where nothing was said.

    Raises:
        SettingError: an unknown name, a value of another type or out of range; the message names the setting, the value and the rule.
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
        raise SettingError(f"cameras: {settings.cameras} names a camera twice; give each camera its own name")
    groups_by_name = {name: settings.camera.get(name, CameraSettings()) for name in settings.cameras}
    return settings.model_copy(update={"camera": groups_by_name})


def _explain(detail: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{name}: no such setting"
    return f"{name}: {detail['input']!r} is refused: {detail['msg'].lower()}"
