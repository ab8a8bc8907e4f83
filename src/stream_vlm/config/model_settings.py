"""What can be set about the model: which one looks and how often, what it keeps in sight, when it
may speak, and how its words become events.

The groups stand in `stream_vlm.config.settings.Settings`, which says how settings are named.
"""

from __future__ import annotations

from typing import Literal

from stream_vlm.config.field import Group, setting


class ModelSettings(Group):
    """Which model looks, and on what."""

    directory: str = setting(
        "",
        "Directory of a Hugging Face checkpoint: Qwen2.5-VL or Qwen3-VL, or, slower, another"
        " image-text-to-text model; empty uses the small model shipped with the package.",
        read_only=True,
    )
    prompt_format: Literal["auto", "streamo", "prompted", "compact", "streaming_vlm", "harness"] = (
        setting(
            "auto",
            "How what is seen and said is written down for the model: auto goes by stream_config.json,"
            " else by the tokenizer; name the format where neither tells, as for a StreamingVLM"
            " download.",
            read_only=True,
        )
    )
    device: Literal["auto", "cpu", "cuda", "split"] = setting(
        "auto",
        "Where the model runs: cpu, cuda, auto (cuda where one is found), or split over all GPUs"
        " when it is larger than one (needs accelerate).",
        read_only=True,
    )
    weights: Literal["auto", "int8", "int4"] = setting(
        "auto",
        "Bits of the language model's weights: auto as the checkpoint stores them, int8 or int4 to"
        " save memory (needs bitsandbytes).",
        read_only=True,
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto",
        "Arithmetic of the model: auto is float32 on cpu and bfloat16 on cuda.",
        read_only=True,
    )
    static_shapes: Literal["auto", "on", "off"] = setting(
        "auto",
        "Run forwards of sizes that come again with fixed shapes, on cuda as recorded CUDA graphs:"
        " auto does so on cuda; off saves GPU memory.",
        read_only=True,
    )
    threads: int = setting(
        0,
        "CPU threads the model may use; 0 leaves the choice to PyTorch.",
        minimum=0,
        maximum=256,
        read_only=True,
    )


class StreamSettings(Group):
    """How often the model looks."""

    rate_hz: float = setting(
        2.0,
        "How many frames a second the model looks at, per camera; it always takes the newest.",
        unit="Hz",
        minimum=0.1,
        maximum=30.0,
    )


class LoadSheddingSettings(Group):
    """What gives way when looking takes longer than the time between two looks."""

    enabled: bool = setting(
        True,
        "While steps run over their time, hold back first length of utterances, then pixels, then"
        " every second look; false never does.",
    )
    budget: float = setting(
        0.9, "Share of the sampling period that a step may take.", minimum=0.1, maximum=1.0
    )
    window_steps: int = setting(
        8, "How many of the last steps are judged together.", unit="steps", minimum=2, maximum=1000
    )
    overrun_share: float = setting(
        0.5,
        "More is held back when this share of them ran over their time, though never for a single"
        " one.",
        minimum=0.01,
        maximum=1.0,
    )
    clean_steps: int = setting(
        20,
        "Steps in time, one after the other, before it is tried whether less need be held back.",
        unit="steps",
        minimum=1,
        maximum=10000,
    )
    min_new_tokens: int = setting(
        8,
        "Utterances are never held back to fewer tokens than this.",
        unit="tokens",
        minimum=1,
        maximum=1024,
    )


class ContextSettings(Group):
    """What the model still sees of the past."""

    policy: Literal["auto", "last_turns", "chunked", "sliding", "last_frames"] = setting(
        "auto",
        "What leaves the context: last_turns drops the oldest turns, chunked starts afresh at a border,"
        " sliding keeps the words of turns whose pictures leave, last_frames keeps the newest pictures"
        " and no words; auto takes what the checkpoint was made for.",
        read_only=True,
    )
    frames: int = setting(
        4,
        "How many of the newest turns' pictures the policy last_frames keeps, and a model without a"
        " cache here sees; max_seconds is for the others.",
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
        "Longest text of the past in the prompt (see memory.in_prompt), for models made to read it:"
        " what is recalled for a question or a watch, and what a chunk begins with (policy"
        " chunked); 0 for none.",
        unit="tokens",
        minimum=0,
        maximum=16384,
        read_only=True,
    )
    recompute: bool = setting(
        False,
        "Compute the whole context anew at every tick instead of keeping what was computed: many"
        " times slower, for comparison only.",
        read_only=True,
    )


class DecisionSettings(Group):
    """When the model may speak."""

    unprompted: Literal["auto", "always", "never"] = setting(
        "auto",
        "Whether pictures are judged while neither a watch nor a question asks for it: never stays"
        " silent until asked; auto does as the model was made, where one that was never tuned for"
        " streams waits to be told.",
    )
    response_threshold: float = setting(
        0.0,
        "Speak unasked only when the probability of a response is at least this; 0 follows the most"
        " likely state.",
        minimum=0.0,
        maximum=1.0,
    )
    standby_threshold: float = setting(
        0.0,
        "Say that something is under way only when the probability of standby is at least this,"
        " else be silent; 0 follows the most likely state.",
        minimum=0.0,
        maximum=1.0,
    )
    hysteresis: float = setting(
        0.0,
        "While something is under way, another state is taken up only when it is more probable than"
        " standby by at least this; 0 follows the most likely state.",
        minimum=0.0,
        maximum=1.0,
    )
    activity_threshold: float = setting(
        0.0,
        "Speak unasked only when the probability that anything happens, of standby and response"
        " together, is at least this; 0 takes what the model was calibrated to, and one that was"
        " not speaks at any. Watches are not held back.",
        minimum=0.0,
        maximum=1.0,
    )
    min_answer_confidence: float = setting(
        0.5,
        "An answer of the model that is less sure than this, and for which it read nothing"
        " remembered, is said not to be known.",
        minimum=0.0,
        maximum=1.0,
    )
    refractory_s: float = setting(
        0.0,
        "After an unasked utterance, stay silent for this long.",
        unit="s",
        minimum=0.0,
        maximum=3600.0,
    )
    repeat_suppression_s: float = setting(
        1.0,
        "The same words are said again only after a longer silence than this: what ends between two"
        " looks is often seen to end twice. 0 says them at once, as a watch's reports always are.",
        unit="s",
        minimum=0.0,
        maximum=3600.0,
    )
    max_new_tokens: int = setting(
        32,
        "Longest utterance; a sentence that does not end by then is cut at a whole word, in Chinese"
        " and Japanese at a whole character.",
        unit="tokens",
        minimum=1,
        maximum=1024,
        read_only=True,  # the cache is laid out with room for it
    )


class SamplingSettings(Group):
    """How the words of an utterance are chosen."""

    temperature: float = setting(
        0.0,
        "0 always takes the most likely word; above it words are drawn, the more freely the"
        " higher.",
        minimum=0.0,
        maximum=2.0,
        read_only=True,
    )
    top_p: float = setting(
        1.0,
        "Draw only from the most likely words that together have this probability; 1 draws from"
        " all.",
        minimum=0.01,
        maximum=1.0,
        read_only=True,
    )
    top_k: int = setting(
        0,
        "Draw only from this many of the most likely words; 0 draws from all.",
        minimum=0,
        maximum=1000,
        read_only=True,
    )
    repetition_penalty: float = setting(
        1.0,
        "Above 1 makes words that the utterance has already less likely.",
        minimum=1.0,
        maximum=2.0,
        read_only=True,
    )
    seed: int = setting(
        0,
        "Seed of the draws; the same stream then gives the same words.",
        minimum=0,
        maximum=2**31 - 1,
        read_only=True,
    )


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
    boundary: Literal["frames", "midpoint"] = setting(
        "midpoint",
        "Where an event begins and ends: midpoint is halfway from the frame before to the first one"
        " that shows it under way, or complete, where that happened on average; frames are the"
        " stamps of those frames themselves.",
    )
