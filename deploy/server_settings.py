"""Settings of a vLLM server for streams, from a YAML file or environment variables."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

PREFIX = "STREAM_VLM_SERVER_"
"""An environment variable is this and the name of a setting in capital letters."""


class WrongSetting(ValueError):
    """A setting that does not exist, or a value that it cannot have."""


@dataclass(frozen=True)
class ServerSettings:
    """What a vLLM server needs to know to serve streams.

    Attributes:
        model: folder of a Hugging Face checkpoint, or its name on the hub.
        name: name of the model in requests; empty uses `model`.
        replicas: servers that share the streams, at least 1.
        gpus: GPUs of one replica; 0 runs on a CPU.
        context_tokens: most tokens of one stream, at least 1024.
        kv_cache_dtype: type of the stored keys and values: auto or fp8.
        picture_cache_gb: memory of one replica for pictures that it has seen, GiB.
        requests: most requests that one replica takes at a time; more wait.
        engine: more arguments of vLLM by their names in Python, for example
            {"quantization": "fp8"}. In an environment variable it is a JSON object.
    """

    model: str = "Qwen/Qwen2.5-VL-7B-Instruct"
    name: str = ""
    replicas: int = 1
    gpus: int = 1
    context_tokens: int = 16384
    kv_cache_dtype: str = "auto"
    picture_cache_gb: float = 8.0
    requests: int = 256
    engine: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            WrongSetting: a value is out of its range.
        """
        least = {"replicas": 1, "gpus": 0, "context_tokens": 1024, "requests": 1}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise WrongSetting(f"{name} is {getattr(self, name)}; give at least {minimum}")
        if not self.picture_cache_gb > 0:
            raise WrongSetting(
                f"picture_cache_gb is {self.picture_cache_gb}; give more than 0, or every tick"
                " sends and prepares every picture again"
            )
        if not self.model:
            raise WrongSetting("model is empty; name a checkpoint folder or a model of the hub")
        if self.kv_cache_dtype not in ("auto", "fp8"):
            raise WrongSetting(f"kv_cache_dtype is {self.kv_cache_dtype!r}; give auto or fp8")

    @property
    def served_name(self) -> str:
        """The name of the model in requests."""
        return self.name or self.model

    def engine_arguments(self) -> dict[str, Any]:
        """The arguments of vLLM that a stream needs; names as on its command line.

        The prefix cache keeps what a stream has already read. The pictures' cache holds the
        pictures that a node names without sending them again. Replies say how many tokens came
        from the cache, and give the probability of each state.
        """
        return {
            "tensor_parallel_size": max(1, self.gpus),
            "max_model_len": self.context_tokens,
            "kv_cache_dtype": self.kv_cache_dtype,
            "enable_prefix_caching": True,
            "enable_prompt_tokens_details": True,
            "max_logprobs": 40,
            "mm_processor_cache_gb": self.picture_cache_gb,
            **self.engine,
        }


def load_settings(
    given: Mapping[str, Any] | None = None, environment: Mapping[str, str] = os.environ
) -> ServerSettings:
    """The settings in `given`; those that are missing come from `environment`, then the defaults.

    Args:
        given: values by name, for example the arguments of a Ray Serve application.
        environment: variables such as STREAM_VLM_SERVER_REPLICAS.

    Raises:
        WrongSetting: a name is unknown, or a value has the wrong type or is out of its range.
    """
    given = given or {}
    types = get_type_hints(ServerSettings)
    names = [one.name for one in fields(ServerSettings)]
    if unknown := sorted(set(given) - set(names)):
        raise WrongSetting(f"{unknown[0]} is no setting; give one of {', '.join(names)}")
    values = {
        name: environment[PREFIX + name.upper()]
        for name in names
        if environment.get(PREFIX + name.upper())
    } | dict(given)
    return ServerSettings(**{name: _typed(name, types[name], values[name]) for name in values})


def _typed(name: str, kind: Any, value: object) -> Any:
    if kind is str:
        return str(value)
    try:
        if kind not in (int, float):
            found = json.loads(value) if isinstance(value, str) else value
            if not isinstance(found, Mapping):
                raise ValueError
            return found
        return kind(str(value))
    except ValueError:
        words = {int: "a whole number", float: "a number"}
        wanted = words.get(kind, "names with values, as a JSON object")
        raise WrongSetting(f"{name} is {value!r}; give {wanted}") from None
