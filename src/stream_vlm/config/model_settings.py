"""Settings of the model: which one runs and how often, its context, when it speaks, its events.

The groups are fields of `stream_vlm.config.settings.Settings`, which says how settings are named.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, field_validator

from stream_vlm.config.field import Group, setting


def _lines(given: object) -> object:
    """Read a text, as the command line gives it: one entry a line."""
    return [line for line in given.splitlines() if line] if isinstance(given, str) else given


class ModelSettings(Group):
    """Which model runs, and on what hardware."""

    directory: str = setting(
        "",
        "Directory of a Hugging Face checkpoint. Qwen2.5-VL and Qwen3-VL run with a cache of fixed"
        " slots; other image-text-to-text models keep their own cache, or run more slowly without"
        " one if it cannot be kept. Empty uses the small model that comes with the package.",
        read_only=True,
    )
    url: str = setting(
        "",
        "Base URL of a server that runs the model, for example http://localhost:8000/v1. It must"
        " speak the OpenAI chat protocol and take pictures: vLLM, SGLang, llama.cpp, Ollama and"
        " others. Its key is read from the environment variable STREAM_VLM_MODEL_KEY. Empty runs"
        " the model of model.directory.",
        read_only=True,
    )
    name: str = setting(
        "",
        "Name of the model at model.url, as the server knows it. Empty takes the server's only"
        " model.",
        read_only=True,
    )
    timeout_s: float = setting(
        10.0,
        "The longest time that a step waits for the server of model.url. A step that takes longer"
        " is given up; its pictures are not sent again.",
        unit="s",
        minimum=0.1,
        maximum=600.0,
        read_only=True,
    )
    prompt_format: Literal["auto", "streamo", "instruct", "compact", "streaming_vlm", "harness"] = (
        setting(
            "auto",
            "How frames, times and words are written in the prompt. auto takes it from"
            " stream_config.json, or else from the tokenizer. Name the format only if neither of"
            " them tells it, for example streaming_vlm for a downloaded StreamingVLM checkpoint.",
            read_only=True,
        )
    )
    system_prompt: str = setting(
        "",
        "What the model is told once, at the beginning of its context. Empty takes the text of the"
        " prompt format. A model that was tuned with a text of its own needs that text.",
        read_only=True,
    )
    language: str = setting(
        "",
        "Language of all that the model writes, for example German; it is added to the system"
        " prompt. Empty leaves it to the model.",
        read_only=True,
    )
    turn_pieces: Annotated[list[str], BeforeValidator(_lines)] = setting(
        [],
        "Pieces of the prompt format that are written in another way, as name=text with \\n for a"
        " line break, for example time=<{start}s-{end}s>\\n. For a model that was tuned with a"
        " format that is nearly one of the known ones.",
        read_only=True,
    )
    device: Literal["auto", "cpu", "cuda", "split"] = setting(
        "auto",
        "Where the model runs. auto uses cuda if a GPU is found, otherwise cpu; split spreads a"
        " model that is too large for one GPU over all GPUs (needs accelerate).",
        read_only=True,
    )
    weights: Literal["auto", "int8", "int4", "torchao-int8", "torchao-int4"] = setting(
        "auto",
        "Number format of the language model's weights. auto keeps the checkpoint's own format;"
        " int8 and int4 use less memory, with bitsandbytes, or with torchao where bitsandbytes does"
        " not run. torchao-int8 and torchao-int4 ask for torchao.",
        read_only=True,
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto",
        "Floating-point type of the computation. auto is float32 on cpu and bfloat16 on cuda.",
        read_only=True,
    )
    static_shapes: Literal["auto", "on", "off"] = setting(
        "auto",
        "Run frequent forward passes with fixed tensor shapes; on cuda they are recorded as CUDA"
        " graphs. auto does this on cuda only; off needs less GPU memory.",
        read_only=True,
    )
    threads: int = setting(
        0,
        "Number of CPU threads that the model may use. 0 lets PyTorch choose.",
        minimum=0,
        maximum=256,
        read_only=True,
    )


class VisionSettings(Group):
    """How much of a picture the model sees."""

    max_tokens: int = setting(
        128,
        "Most vision tokens of a picture of a Qwen2.5-VL or Qwen3-VL; larger pictures are made"
        " smaller. More tokens show smaller things and make ticks slower. It is never more than"
        " the checkpoint's preprocessor allows; a model with one picture size ignores it. A"
        " server gets at most 784 pixels for each token.",
        unit="tokens",
        minimum=4,
        maximum=16384,
        read_only=True,
    )


class LoadSheddingSettings(Group):
    """What is reduced when a step takes longer than the time between two ticks."""

    enabled: bool = setting(
        True,
        "While steps take too long, reduce first the length of utterances, then the pixels of each"
        " picture, then the number of ticks that are processed. false never reduces anything.",
    )
    budget: float = setting(
        0.9,
        "Share of the sampling period (1 / stream.rate_hz) that a step may take.",
        minimum=0.1,
        maximum=1.0,
    )
    window_steps: int = setting(
        8,
        "How many of the last steps are used to decide whether steps take too long.",
        unit="steps",
        minimum=2,
        maximum=1000,
    )
    overrun_share: float = setting(
        0.5,
        "Reduce one level more when at least this share of the last window_steps steps took too"
        " long. A single slow step never changes the level.",
        minimum=0.01,
        maximum=1.0,
    )
    clean_steps: int = setting(
        20,
        "How many steps in a row must be in time before the node tries to reduce one level less.",
        unit="steps",
        minimum=1,
        maximum=10000,
    )
    min_new_tokens: int = setting(
        8,
        "Load shedding never limits an utterance to fewer tokens than this.",
        unit="tokens",
        minimum=1,
        maximum=1024,
    )


class ContextSettings(Group):
    """What the model still sees of the past."""

    policy: Literal["auto", "last_turns", "chunked", "sliding", "last_frames"] = setting(
        "auto",
        "What is removed when the context is full. last_turns removes the oldest turns; chunked"
        " starts a new context; sliding removes old pictures but keeps their words longer;"
        " last_frames keeps only the newest pictures and no words. auto uses the policy that the"
        " checkpoint was trained with.",
        read_only=True,
    )
    frames: int = setting(
        4,
        "Number of newest turns whose pictures are kept. It is used by the policy last_frames, by"
        " models that run without a cache, and at the start of a chunk by models that keep their"
        " own cache; everything else uses max_seconds.",
        unit="turns",
        minimum=1,
        maximum=64,
        read_only=True,
    )
    max_seconds: float = setting(
        0.0,
        "Longest part of the stream that is kept in the context. 0 uses the length that the"
        " checkpoint was trained with.",
        unit="s",
        minimum=0.0,
        maximum=3600.0,
        read_only=True,
    )
    memory_tokens: int = setting(
        512,
        "Most tokens of remembered text in the prompt: before a question or a watch, and at the"
        " start of a chunk (see memory.in_prompt). 0 adds none. A prompt format without a place"
        " for it, such as the shipped model's, ignores this.",
        unit="tokens",
        minimum=0,
        maximum=16384,
        read_only=True,
    )
    recompute: bool = setting(
        False,
        "Compute the whole context again at every tick instead of using the cache. This is many"
        " times slower; use it only for comparison.",
        read_only=True,
    )


class DecisionSettings(Group):
    """When the model may speak."""

    unprompted: Literal["auto", "always", "never"] = setting(
        "auto",
        "Whether the model decides about frames while there is no watch and no question. always"
        " does so; never stays silent until asked, so instructions are not followed; auto follows"
        " the prompt format. An untuned model follows its instructions.",
    )
    response_threshold: float = setting(
        0.0,
        "Speak only if the probability of response is at least this. 0 turns the threshold off."
        " Answers to questions are not affected.",
        minimum=0.0,
        maximum=1.0,
    )
    standby_threshold: float = setting(
        0.0,
        "Report that an event is under way only if the probability of standby is at least this;"
        " otherwise stay silent. 0 turns the threshold off.",
        minimum=0.0,
        maximum=1.0,
    )
    hysteresis: float = setting(
        0.0,
        "While an event is under way, leave standby only if another state is more probable by at"
        " least this margin. 0 turns hysteresis off; raise it if events are interrupted too early.",
        minimum=0.0,
        maximum=1.0,
    )
    activity_threshold: float = setting(
        0.0,
        "Speak unprompted only if standby and response together have at least this probability."
        " 0 uses the value that the model was calibrated with; an uncalibrated model has no"
        " threshold. Watches are not affected.",
        minimum=0.0,
        maximum=1.0,
    )
    verify: Literal["auto", "on", "off"] = setting(
        "auto",
        "Whether the model looks a second time before a report is spoken, and answers whether it is"
        " true. It costs one more short prompt and one token for each report, and nothing while"
        " nothing is reported. auto does so for a model that judges each instruction on its own; on"
        " is refused for other models, which cannot do it.",
    )
    verify_threshold: float = setting(
        0.5,
        "A report is spoken only if the second look (see decision.verify) gives it at least this"
        " probability of being true. Reports that are not spoken are counted on /diagnostics.",
        minimum=0.0,
        maximum=1.0,
    )
    remember_report_s: float = setting(
        30.0,
        "How long after the end of an event the model is still told what was reported about it, so"
        " that it does not report the same again. While the event goes on it is always told. Only"
        " for a model that judges each instruction on its own.",
        unit="s",
        minimum=0.0,
        maximum=3600.0,
    )
    min_answer_confidence: float = setting(
        0.5,
        "An answer with a lower confidence is reported as not known, unless the model read a"
        " matching record of the memory. 0 turns the check off.",
        minimum=0.0,
        maximum=1.0,
    )
    refractory_s: float = setting(
        0.0,
        "After an utterance, stay silent for this long. 0 means no pause; answers to questions are"
        " not delayed.",
        unit="s",
        minimum=0.0,
        maximum=3600.0,
    )
    repeat_suppression_s: float = setting(
        1.0,
        "The same words are said again only after a silence longer than this, because an event"
        " that ends between two frames may be reported twice. 0 allows every repeat; reports of a"
        " watch are never suppressed.",
        unit="s",
        minimum=0.0,
        maximum=3600.0,
    )
    branches: int = setting(
        4,
        "How many standing instructions an instruct model judges side by side in one forward pass."
        " Each of them takes memory for its question and its reply. More instructions take further"
        " forward passes. A model with state markers makes one decision and ignores this. Of a"
        " server (model.url) so many requests of each camera run at the same time.",
        minimum=1,
        maximum=32,
        read_only=True,  # the size of the cache depends on it
    )
    max_new_tokens: int = setting(
        32,
        "Longest utterance. A longer sentence is cut after a whole word, in Chinese and Japanese"
        " after a whole character.",
        unit="tokens",
        minimum=1,
        maximum=1024,
        read_only=True,  # the size of the cache depends on it
    )


class SamplingSettings(Group):
    """How the words of an utterance are chosen."""

    temperature: float = setting(
        -1.0,
        "0 always takes the most probable token. Higher values draw tokens at random and make the"
        " words more varied. Below 0 takes the value with which the model was published: 0.9 for"
        " the prompt format streaming_vlm, 0 for the others.",
        minimum=-1.0,
        maximum=2.0,
        read_only=True,
    )
    top_p: float = setting(
        1.0,
        "Draw only from the most probable tokens that together have this probability. 1 draws from"
        " all tokens.",
        minimum=0.01,
        maximum=1.0,
        read_only=True,
    )
    top_k: int = setting(
        0,
        "Draw only from this many of the most probable tokens. 0 draws from all tokens.",
        minimum=0,
        maximum=1000,
        read_only=True,
    )
    repetition_penalty: float = setting(
        0.0,
        "Values above 1 make tokens that the utterance already contains less probable. 1 turns the"
        " penalty off. 0 takes the value with which the model was published: 1.05 for the prompt"
        " format streaming_vlm, 1 for the others.",
        minimum=0.0,
        maximum=2.0,
        read_only=True,
    )
    seed: int = setting(
        0,
        "Seed of the random draws. The same stream and the same seed give the same words.",
        minimum=0,
        maximum=2**31 - 1,
        read_only=True,
    )

    @field_validator("repetition_penalty")
    @classmethod
    def _is_a_penalty(cls, penalty: float) -> float:
        if 0.0 < penalty < 1.0:
            raise ValueError("use 0 for the published value, 1 for no penalty, or more")
        return penalty

    def or_published(
        self, temperature: float = 0.0, repetition_penalty: float = 1.0
    ) -> SamplingSettings:
        """These settings, with the published values where none are set."""
        return self.model_copy(
            update={
                "temperature": temperature if self.temperature < 0.0 else self.temperature,
                "repetition_penalty": self.repetition_penalty or repetition_penalty,
            }
        )


class EventSettings(Group):
    """How decisions over time become events."""

    max_open_s: float = setting(
        120.0,
        "An event that is under way for longer than this is closed as abandoned: it is not"
        " reported, but logged as a warning and counted on /diagnostics. An event that was reported"
        " already ends here. Raise it if real events take longer.",
        unit="s",
        minimum=1.0,
        maximum=3600.0,
    )
    grace_s: float = setting(
        1.0,
        "A silence up to this long does not end an event that is under way. After a longer one the"
        " event is abandoned, which /diagnostics counts, or ends if it was reported already. Raise"
        " it if one event is reported as several.",
        unit="s",
        minimum=0.0,
        maximum=60.0,
    )
    new_report_s: float = setting(
        4.0,
        "While an event goes on, another response counts as another event only if its words are"
        " new, and there was none for this long or a frame was silent since the last one. Only for"
        " a model that judges each instruction on its own. Raise it if one event is reported"
        " several times.",
        unit="s",
        minimum=0.0,
        maximum=3600.0,
    )
    boundary: Literal["frames", "midpoint"] = setting(
        "midpoint",
        "Which time is the start and the end of an event. frames takes the stamp of the first frame"
        " that shows it under way, or complete. midpoint takes the time halfway between that frame"
        " and the one before, which is closer to the truth on average.",
    )
