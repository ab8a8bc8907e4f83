"""LoRA directories: finds the base checkpoint, and merges the adapter into it with peft."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_vlm.backbone.checkpoint.files import weight_files, weight_kinds
from stream_vlm.backbone.checkpoint.stream_config import CheckpointError
from stream_vlm.unicode_text import read_json

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MERGE = (
    "merge it into its base with peft (merge_and_unload, then save_pretrained) and give the merged"
    " directory"
)


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter and the directory of the checkpoint that it changes.

    Attributes:
        directory: the directory of the adapter.
        base: the directory of the base checkpoint.
    """

    directory: Path
    base: Path

    def place_of(self, *names: str) -> Path:
        """The adapter's directory if it has one of the files `names`, else that of the base."""
        has_one = any((self.directory / name).is_file() for name in names)
        return self.directory if has_one else self.base

    def digest(self) -> str:
        """A short digest of the adapter's configuration and weights."""
        content = hashlib.sha256((self.directory / CONFIG).read_bytes())
        with (self.directory / WEIGHTS).open("rb") as file:
            while part := file.read(1 << 20):
                content.update(part)
        return content.hexdigest()[:8]


def find_adapter(directory: Path) -> Adapter | None:
    """The adapter in `directory`; None if it is no directory of an adapter.

    A directory with weights of its own is a checkpoint, whatever lies beside them.

    Raises:
        CheckpointError: the adapter cannot be used; the message says why and what to do.
    """
    path = directory / CONFIG
    if not path.is_file() or any(file.is_file() for file in weight_files(directory)):
        return None
    name = f"model.directory {directory}"
    try:
        config = read_json(path)
        kind = str(config.get("peft_type"))
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}; copy it again") from error
    if kind.upper() != "LORA":
        raise CheckpointError(f"{name}: is an adapter of kind {kind}, only LORA is loaded; {MERGE}")
    base = _base(directory, config.get("base_model_name_or_path"))
    if not (directory / WEIGHTS).is_file():
        other = next((file.name for file in sorted(directory.glob("adapter_model.*"))), "")
        found = (
            f"{other} is pickle, which can run code when it is read; save the adapter again with"
            " save_pretrained"
            if other
            else "copy it from the adapter's origin"
        )
        raise CheckpointError(f"{name}: is an adapter without {WEIGHTS}: {found}")
    weight_kinds(directory / WEIGHTS)
    return Adapter(directory, base)


def _base(directory: Path, named: object) -> Path:
    """The directory that the adapter names as its base.

    Raises:
        CheckpointError: it names none, or none that is here.
    """
    name = f"model.directory {directory}: is a LoRA adapter, and its base"
    if not isinstance(named, str) or not named:
        raise CheckpointError(
            f"{name} is not named; write the path of its folder into base_model_name_or_path of"
            f" {CONFIG}"
        )
    given = Path(named).expanduser()
    places = (
        [given] if given.is_absolute() else [directory / given, directory.parent / given, given]
    )
    for place in places:
        if place.is_dir() and place.resolve() != directory.resolve():
            return place
    raise CheckpointError(
        f"{name} {named} is not a folder here; download that checkpoint and write the path of its"
        f" folder into base_model_name_or_path of {CONFIG}"
    )


def check_possible(adapter: Adapter, weights: str) -> None:
    """Check before the base is loaded that the adapter can be merged.

    Args:
        adapter: the adapter.
        weights: the setting `model.weights`.

    Raises:
        CheckpointError: peft is missing, or the base is quantized.
    """
    name = f"model.directory {adapter.directory}"
    quantized = "quantization_config" in read_json(adapter.base / "config.json")
    if weights != "auto" or quantized:
        raise CheckpointError(
            f"{name}: an adapter is not merged into quantized weights, which would round it away;"
            f" {MERGE if quantized else 'leave model.weights at auto'}"
        )
    _peft(name)


def _peft(name: str) -> Any:
    try:
        import peft
    except ImportError as error:
        raise CheckpointError(
            f"{name}: is a LoRA adapter, for which peft is needed: pip install peft ({error}); or"
            f" {MERGE}"
        ) from error
    return peft


def merge(model: Any, adapter: Adapter, tokens: int) -> Any:
    """Return `model` with `adapter` merged into its weights, as peft merges it.

    Args:
        model: the base model; it is changed in place.
        adapter: the adapter.
        tokens: number of tokens of the tokenizer; the embeddings get a row for each.

    Raises:
        CheckpointError: the adapter does not fit the base.
    """
    name = f"model.directory {adapter.directory}"
    peft = _peft(name)
    try:
        if tokens > model.get_input_embeddings().weight.shape[0]:
            model.resize_token_embeddings(tokens)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            adapted = peft.PeftModel.from_pretrained(
                model, str(adapter.directory), local_files_only=True
            )
        unfit = next((str(one.message) for one in said if "adapter keys" in str(one.message)), "")
        if unfit:
            raise ValueError(unfit)
        return adapted.merge_and_unload(safe_merge=True)
    except Exception as error:
        # peft and the code of an adapter's kind are foreign and can raise anything.
        said_words = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{name}: the adapter does not fit its base {adapter.base} ({type(error).__name__}:"
            f" {said_words}); name the checkpoint that it was trained on in"
            f" base_model_name_or_path of {CONFIG}"
        ) from error
