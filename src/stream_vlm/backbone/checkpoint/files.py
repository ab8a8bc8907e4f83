"""Checks the files of a checkpoint directory before loading, and computes its digest."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from stream_vlm.backbone.checkpoint.stream_config import CheckpointError
from stream_vlm.unicode_text import read_json

FLOATS = {"F64", "F32", "F16", "BF16"}
"""Weight types that need no quantization library."""


WHOLE_FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"

OTHER_FORMS = {
    ".bin": "pickle",
    ".pt": "pickle",
    ".pth": "pickle",
    ".ckpt": "pickle",
    ".gguf": "GGUF, the form of llama.cpp",
    ".h5": "the form of TensorFlow",
    ".msgpack": "the form of Flax",
}
"""Forms of weights that are not read, by the ending of the file's name."""
NO_WEIGHTS = {"training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt"}
"""Files beside a checkpoint that have such an ending and hold no weights."""


class ForeignArchitecture(CheckpointError):
    """The checkpoint has an architecture that cannot run with the slot cache."""


def read_config(directory: Path) -> dict[str, Any]:
    """Read `config.json` of a checkpoint directory.

    Raises:
        CheckpointError: the directory or the file is missing or damaged.
    """
    if directory.is_file():
        raise CheckpointError(
            f"model.directory {directory}: is a file; give the directory that holds it, with"
            " config.json, tokenizer.json and model.safetensors"
        )
    if not directory.is_dir():
        raise CheckpointError(
            f"model.directory {directory}: no such directory; give a Hugging Face checkpoint"
            " directory or leave it empty"
        )
    path = directory / "config.json"
    if not path.is_file():
        raise CheckpointError(
            f"model.directory {directory}: has no config.json, so it is not a Hugging Face"
            f" checkpoint{_other_weights(directory)}"
        )
    try:
        config: dict[str, Any] = read_json(path)
        config.get("model_type")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, AttributeError) as error:
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
            raise CheckpointError(_missing_weights(directory, path))
        kinds = weight_kinds(path)
        odd = sorted(name for name, kind in kinds.items() if kind not in FLOATS)
        if odd and "quantization_config" not in config:
            raise CheckpointError(
                f"{path}: {odd[0]} is stored as {kinds[odd[0]]}, but config.json has no"
                " quantization_config that says how to read it; download the checkpoint again"
            )
    _check_deepstack(directory, config)


def weight_kinds(path: Path) -> dict[str, str]:
    """The type of each weight in the safetensors file `path`, such as "BF16", by name.

    Raises:
        CheckpointError: the file cannot be read or is damaged; the message says which.
    """
    try:
        with path.open("rb") as file:
            start = file.read(40)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror}); check its permissions and the disk"
        ) from error
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path}: is only a pointer of Git LFS; fetch the file itself with `git lfs pull`"
        )
    try:
        with safe_open(path, framework="pt") as weights:
            names = weights.keys()  # not a mapping, so it cannot be walked itself
            return {name: weights.get_slice(name).get_dtype() for name in names}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: is damaged ({error}); download it again") from error


def _missing_weights(directory: Path, path: Path) -> str:
    """Say why the weights in `path` are not there, and what to do."""
    if path.name != WHOLE_FILE:
        return (
            f"model.directory {directory}: {path.name} is missing, which {INDEX} names; download it"
            " again. If the weights are in another file now, remove the index"
        )
    return (
        f"model.directory {directory}: {path.name} is missing"
        f"{_other_weights(directory) or '; the checkpoint is incomplete, download it again'}"
    )


def _other_weights(directory: Path) -> str:
    """Say which weights `directory` has in a form that is not read; empty if there are none."""
    for file in sorted(directory.iterdir()):
        form = OTHER_FORMS.get(file.suffix)
        if form is None or file.name in NO_WEIGHTS:
            continue
        danger = ", which can run code when it is read" if form == "pickle" else ""
        return (
            f"; {file.name} is {form}{danger}. Weights are read from safetensors only: load the"
            " checkpoint with transformers and save it with save_pretrained(DIRECTORY)"
            if form == "pickle"
            else f"; {file.name} is {form}. Weights are read from safetensors only: use the"
            " checkpoint that it was made from"
        )
    others = sorted(directory.glob("*.safetensors"))
    if others and not (directory / INDEX).is_file():
        return (
            f"; the weights in {others[0].name} are found only as {WHOLE_FILE} or through {INDEX}:"
            " rename the file, or copy the index from the checkpoint's origin"
        )
    return ""


def tied_in_text_config(directory: Path, config: dict[str, Any]) -> bool:
    """Whether only `text_config` says that the output head shares the embeddings' weights.

    transformers up to 4 wrote `tie_word_embeddings` there; some architectures look for it outside.
    It counts only where the files have no weights of the head.
    """
    text = config.get("text_config") or {}
    if config.get("tie_word_embeddings") or not text.get("tie_word_embeddings"):
        return False
    return not any(
        name.endswith("lm_head.weight")
        for path in weight_files(directory)
        for name in weight_kinds(path)
    )


def _check_deepstack(directory: Path, config: dict[str, Any]) -> None:
    """Check the deepstack levels of a Qwen3-VL, with or without experts.

    transformers would replace a missing entry by that of another model, and the vision features
    would be wrong without an error.
    """
    if config.get("model_type") not in ("qwen3_vl", "qwen3_vl_moe"):
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
    """The files of the weights: one file, or else the shards in the index.

    As in transformers the whole file comes first: an index beside it is left over from an earlier
    save. The files may be missing.

    Raises:
        CheckpointError: the index is damaged.
    """
    whole, index = directory / WHOLE_FILE, directory / INDEX
    if whole.is_file() or not index.is_file():
        return [whole]
    try:
        return [directory / name for name in sorted(set(read_json(index)["weight_map"].values()))]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
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
