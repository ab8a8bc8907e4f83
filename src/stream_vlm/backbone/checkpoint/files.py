"""Checks the files of a checkpoint directory before loading, and computes its digest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from stream_vlm.backbone.checkpoint.stream_config import CheckpointError

FLOATS = {"F64", "F32", "F16", "BF16"}
"""Weight types that need no quantization library."""


class ForeignArchitecture(CheckpointError):
    """The checkpoint has an architecture that cannot run with the slot cache."""


def read_config(directory: Path) -> dict[str, Any]:
    """Read `config.json` of a checkpoint directory.

    Raises:
        CheckpointError: the directory or the file is missing or damaged.
    """
    if not directory.is_dir():
        raise CheckpointError(
            f"model.directory {directory}: no such directory; give a Hugging Face checkpoint"
            " directory or leave it empty"
        )
    path = directory / "config.json"
    if not path.is_file():
        raise CheckpointError(
            f"model.directory {directory}: has no config.json, so it is not a Hugging Face"
            " checkpoint"
        )
    try:
        config: dict[str, Any] = json.loads(path.read_text())
        config.get("model_type")
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: is not valid JSON ({error}); download the checkpoint again"
        ) from error
    return config


def check_files(directory: Path, config: dict[str, Any]) -> None:
    """Check that the files are complete, undamaged and of the types that `config` says.

    Raises:
        CheckpointError: a file is missing, damaged or of another type; the message names it.
    """
    if not any((directory / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise CheckpointError(
            f"model.directory {directory}: has no tokenizer.json; copy it from the checkpoint's"
            " origin"
        )
    for path in weight_files(directory):
        if not path.is_file():
            raise CheckpointError(
                f"model.directory {directory}: {path.name} is missing; the checkpoint is"
                " incomplete, download it again"
            )
        try:
            with safe_open(path, framework="pt") as weights:
                kinds = {name: weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118 (not a mapping)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: is damaged ({error}); download it again") from error
        odd = sorted(name for name, kind in kinds.items() if kind not in FLOATS)
        if odd and "quantization_config" not in config:
            raise CheckpointError(
                f"{path}: {odd[0]} is stored as {kinds[odd[0]]}, but config.json has no"
                " quantization_config that says how to read it; download the checkpoint again"
            )
    _check_deepstack(directory, config)


def _check_deepstack(directory: Path, config: dict[str, Any]) -> None:
    """Check the deepstack levels of a Qwen3-VL.

    transformers would replace a missing entry by that of another model, and the vision features
    would be wrong without an error.
    """
    if config.get("model_type") != "qwen3_vl":
        return
    vision = config.get("vision_config") or {}
    levels = vision.get("deepstack_visual_indexes")
    field = f"{directory / 'config.json'}: vision_config.deepstack_visual_indexes"
    if levels is None:
        raise CheckpointError(
            f"{field} is missing, so it is unknown which blocks of the tower feed the language"
            " model; download config.json again"
        )
    depth = vision.get("depth", 0)
    if any(not 0 <= level < depth for level in levels) or sorted(set(levels)) != list(levels):
        raise CheckpointError(
            f"{field} {levels} are not ascending blocks of a tower of depth {depth}; download"
            " config.json again"
        )
    layers = (config.get("text_config") or {}).get("num_hidden_layers", 0)
    if len(levels) > layers:
        raise CheckpointError(
            f"{field} {levels} are more than the language model's {layers} layers; download"
            " config.json again"
        )


def weight_files(directory: Path) -> list[Path]:
    """The files of the weights: one file, or the shards in the index.

    The files may be missing.

    Raises:
        CheckpointError: the index is damaged.
    """
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        return [directory / "model.safetensors"]
    try:
        return [
            directory / name
            for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))
        ]
    except (json.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index}: is damaged ({error!r}); download it again") from error


def digest(directory: Path) -> str:
    """A short digest of the configuration and of the beginning and the size of each weight file.

    It does not read whole weight files, so it is fast for large checkpoints.
    """
    content = hashlib.sha256((directory / "config.json").read_bytes())
    for path in weight_files(directory):
        content.update(f"{path.name}{path.stat().st_size}".encode())
        with path.open("rb") as file:
            content.update(file.read(1 << 20))
    return content.hexdigest()[:8]
