"""Loads a Hugging Face checkpoint of the Qwen2.5-VL architecture, or says exactly why it cannot."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration
from transformers.utils import logging as transformers_logging

from stream_vlm.backbone.attention import SLOT_ATTENTION
from stream_vlm.backbone.stream_config import CheckpointError, StreamConfig, read_picture_format, read_stream_config
from stream_vlm.config import ModelSettings
from stream_vlm.vision.pixels import PictureFormat

ARCHITECTURE = "qwen2_5_vl"
SHIPPED = Path(__file__).resolve().parent.parent / "assets" / "stream-vlm-small"
"""The small model that comes with the package."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        model_id: its name and a digest of its configuration and weight files, so that memory records tell models apart.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    stream: StreamConfig
    pictures: PictureFormat
    model_id: str


def load_checkpoint(settings: ModelSettings) -> Checkpoint:
    """Load the checkpoint that `settings` names.

    Raises:
        CheckpointError: the directory is missing, partial, damaged or of another architecture, or the device does not exist.
    """
    directory = Path(settings.directory).expanduser() if settings.directory else SHIPPED
    device, dtype = _device(settings), _dtype(settings)
    _check_files(directory)
    if not settings.directory:
        transformers_logging.disable_progress_bar()
    loaded: Any
    try:
        loaded = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            directory, dtype=dtype, local_files_only=True, output_loading_info=True, attn_implementation="sdpa"
        )
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"model.directory {directory}: cannot be loaded: {error}; fetch the checkpoint anew") from error
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(f"model.directory {directory}: {len(missing)} weights are missing, {missing[0]} first; fetch the checkpoint anew")
    try:
        model = model.to(device).eval().requires_grad_(False)
    except torch.cuda.OutOfMemoryError as error:
        raise CheckpointError(f"model.directory {directory}: does not fit into the GPU's memory; choose a smaller model or model.dtype") from error
    model.model.language_model.set_attn_implementation(SLOT_ATTENTION)
    stream = read_stream_config(directory, tokenizer)
    return Checkpoint(model, tokenizer, stream, read_picture_format(directory, stream), f"{stream.name}-{_digest(directory)}")


def _check_files(directory: Path) -> None:
    if not directory.is_dir():
        raise CheckpointError(f"model.directory {directory}: no such directory; give a Hugging Face checkpoint directory or leave it empty")
    config_path = directory / "config.json"
    if not config_path.is_file():
        raise CheckpointError(f"model.directory {directory}: has no config.json, so it is not a Hugging Face checkpoint")
    try:
        architecture = json.loads(config_path.read_text()).get("model_type")
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise CheckpointError(f"{config_path}: is not valid JSON ({error}); fetch the checkpoint anew") from error
    if architecture != ARCHITECTURE:
        raise CheckpointError(f"model.directory {directory}: architecture {architecture!r} is not supported; give a {ARCHITECTURE!r} checkpoint")
    if not any((directory / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise CheckpointError(f"model.directory {directory}: has no tokenizer.json; copy it from the checkpoint's origin")
    for path in _weight_files(directory):
        if not path.is_file():
            raise CheckpointError(f"model.directory {directory}: {path.name} is missing; the checkpoint is partial, fetch it anew")
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: is damaged ({error}); fetch it anew") from error


def _weight_files(directory: Path) -> list[Path]:
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        return [directory / "model.safetensors"]
    try:
        return [directory / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    except (json.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index}: is damaged ({error!r}); fetch it anew") from error


def _digest(directory: Path) -> str:
    """Short digest of the configuration and of each weight file's header, which is quick for checkpoints of any size."""
    digest = hashlib.sha256((directory / "config.json").read_bytes())
    for path in _weight_files(directory):
        digest.update(f"{path.name}{path.stat().st_size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))
    return digest.hexdigest()[:8]


def _device(settings: ModelSettings) -> torch.device:
    if settings.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise CheckpointError("model.device 'cuda': PyTorch finds no CUDA device; install a CUDA build of PyTorch or set model.device to 'cpu'")
    return torch.device(settings.device)


def _dtype(settings: ModelSettings) -> torch.dtype:
    if settings.dtype == "auto":
        # bfloat16 products are several times slower than float32 on CPUs.
        return torch.bfloat16 if _device(settings).type == "cuda" else torch.float32
    dtype: torch.dtype = getattr(torch, settings.dtype)
    return dtype
