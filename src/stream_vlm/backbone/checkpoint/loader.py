"""Loads Hugging Face checkpoints of the Qwen2.5-VL and Qwen3-VL architectures."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeForConditionalGeneration,
)
from transformers.utils import logging as transformers_logging

from stream_vlm.backbone.checkpoint.adapter import MERGE, check_possible, find_adapter, merge
from stream_vlm.backbone.checkpoint.device_map import Placement, place
from stream_vlm.backbone.checkpoint.files import (
    ForeignArchitecture,
    check_files,
    digest,
    read_config,
    tied_in_text_config,
)
from stream_vlm.backbone.checkpoint.load_errors import loading_failed
from stream_vlm.backbone.checkpoint.picture_config import (
    MOST_TOKENS,
    PLACES,
    read_picture_format,
)
from stream_vlm.backbone.checkpoint.quantization import set_unpacked_dtype
from stream_vlm.backbone.checkpoint.stream_config import (
    FILE_NAME,
    CheckpointError,
    StreamConfig,
    read_stream_config,
)
from stream_vlm.backbone.kv_cache.slot_attention import SLOT_ATTENTION
from stream_vlm.config.model_settings import ModelSettings
from stream_vlm.context.turn_formats import for_architecture
from stream_vlm.vision.preprocess import PictureFormat

ARCHITECTURES: dict[str, Any] = {
    "qwen2_5_vl": Qwen2_5_VLForConditionalGeneration,
    "qwen3_vl": Qwen3VLForConditionalGeneration,
    "qwen3_vl_moe": Qwen3VLMoeForConditionalGeneration,
}
"""The architectures that can run with the slot cache, by `model_type`."""
SHIPPED = Path(__file__).resolve().parents[2] / "assets" / "stream-vlm-small"
"""Directory of the shipped model."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        model: the model.
        tokenizer: its tokenizer.
        stream: its stream configuration.
        pictures: its picture format.
        model_id: its name, a digest of its configuration and weight files, and the quantization if
            `model.weights` asks for one. Memory records name the model by it.
        quantized: the quantization: "int8", "int4" or the checkpoint's own method; empty if there
            is none.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    stream: StreamConfig
    pictures: PictureFormat
    model_id: str
    quantized: str = ""


def load_checkpoint(settings: ModelSettings, most_tokens: int = MOST_TOKENS) -> Checkpoint:
    """Load the checkpoint that `settings` names.

    Args:
        settings: the settings `model`.
        most_tokens: the most vision tokens of a picture (`vision.max_tokens`).

    Raises:
        ForeignArchitecture: its architecture cannot run with the slot cache.
        CheckpointError: the directory is missing, incomplete or damaged, or the settings need a
            device or a library that is missing.
    """
    given = Path(settings.directory).expanduser() if settings.directory else SHIPPED
    adapter = find_adapter(given)
    directory = adapter.base if adapter is not None else given
    config = read_config(directory)
    architecture = config.get("model_type")
    if architecture not in ARCHITECTURES and adapter is not None:
        raise CheckpointError(
            f"model.directory {given}: its base {directory} has the architecture {architecture!r};"
            f" adapters are merged for {' and '.join(ARCHITECTURES)} only: {MERGE}"
        )
    if architecture not in ARCHITECTURES:
        raise ForeignArchitecture(
            f"model.directory {directory}: architecture {architecture!r} is not supported; give a"
            f" checkpoint of {' or '.join(ARCHITECTURES)}"
        )
    if architecture == "qwen3_vl_moe" and settings.weights != "auto":
        raise CheckpointError(
            f"model.weights {settings.weights!r}: the experts of {directory}, which are nearly all"
            " of its weights, cannot be quantized while they are loaded; use a checkpoint that is"
            " stored quantized, such as FP8, and leave model.weights at 'auto'"
        )
    check_files(directory, config)
    if adapter is not None:
        check_possible(adapter, settings.weights)

    def place_of(*names: str) -> Path:
        return adapter.place_of(*names) if adapter is not None else directory

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            place_of("tokenizer.json", "vocab.json"), local_files_only=True
        )
        model_config = AutoConfig.from_pretrained(directory, local_files_only=True)
    except ImportError as error:
        raise loading_failed(f"model.directory {directory}", error) from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"model.directory {directory}: its tokenizer or config.json cannot be loaded: {error};"
            " download them again"
        ) from error
    if tied_in_text_config(directory, config):
        model_config.tie_word_embeddings = True
    # Before the weights, whose loading may take minutes.
    stream = read_stream_config(place_of(FILE_NAME), tokenizer, settings.prompt_format)
    stream = stream.model_copy(update={"turns": for_architecture(stream.turns, architecture)})
    pictures = read_picture_format(place_of(*(name for name, _ in PLACES)), stream, most_tokens)
    placement = place(settings, ARCHITECTURES[architecture], model_config)
    with _progress_bar(shown=bool(settings.directory) and sys.stderr.isatty()):
        model = _load(directory, ARCHITECTURES[architecture], model_config, placement)
    model_digest = digest(directory)
    if adapter is not None:
        model = merge(model, adapter, len(tokenizer)).eval().requires_grad_(False)
        model_digest += f"-{adapter.digest()}"
    _check_numbers(directory, model, placement)
    model.model.language_model.set_attn_implementation(SLOT_ATTENTION)
    suffix = "" if settings.weights == "auto" else f"-{placement.quantized}"
    suffix += "-torchao" if placement.library == "torchao" else ""
    return Checkpoint(
        model,
        tokenizer,
        stream,
        pictures,
        f"{stream.name}-{model_digest}{suffix}",
        placement.quantized,
    )


def _load(directory: Path, model_class: Any, config: Any, placement: Placement) -> Any:
    try:
        model, report = model_class.from_pretrained(
            directory,
            config=config,
            dtype=placement.dtype,
            local_files_only=True,
            output_loading_info=True,
            attn_implementation="sdpa",
            **placement.options,
        )
        _check_report(directory, report)
        if not placement.is_done_by_loading:
            model = model.to(placement.device)
    except CheckpointError:
        raise
    except Exception as error:
        # Quantizers and drivers are foreign code and can raise anything.
        raise loading_failed(f"model.directory {directory}", error, placement.quantized) from error
    model = model.eval().requires_grad_(False)
    if placement.quantized in ("fp8", "compressed-tensors"):
        set_unpacked_dtype(model, placement.dtype)
    return model


def _check_report(directory: Path, report: dict[str, Any]) -> None:
    """Check that every weight of the model is in the files, and every weight of the files is used.

    Raises:
        CheckpointError: a weight is missing or not used.
    """
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(
            f"model.directory {directory}: {len(missing)} weights are missing, such as"
            f" {missing[0]}; download the checkpoint again"
        )
    unused = sorted(
        name
        for name in report["unexpected_keys"]
        if name.startswith(("model.", "visual.", "lm_head.")) and "rotary" not in name
    )
    if unused:
        raise CheckpointError(
            f"model.directory {directory}: config.json has no place for {len(unused)} of the"
            f" weights, such as {unused[0]}; download the checkpoint again"
        )


def _check_numbers(directory: Path, model: Any, placement: Placement) -> None:
    """Check that all weights are finite; others would make every logit wrong.

    Raises:
        CheckpointError: a weight is not finite.
    """
    for name, weight in model.named_parameters():
        # A sum needs no second copy of a large weight.
        # Quantized weights of torchao claim to be floats, but have no sum.
        is_plain = type(weight) in (torch.nn.Parameter, torch.Tensor)
        is_float = weight.dtype in (torch.float32, torch.bfloat16, torch.float16)
        if is_plain and is_float and not bool(torch.isfinite(weight.sum(dtype=torch.float32))):
            remedy = (
                "set model.dtype to bfloat16 or float32"
                if placement.dtype is torch.float16
                else "download the checkpoint again"
            )
            raise CheckpointError(
                f"model.directory {directory}: {name} holds values that are not finite in"
                f" {weight.dtype}; {remedy}"
            )


@contextmanager
def _progress_bar(shown: bool) -> Iterator[None]:
    """Show or hide the progress bar of transformers in the block, then restore its setting."""
    was_shown = transformers_logging.is_progress_bar_enabled()
    _show_progress_bar(shown)
    try:
        yield
    finally:
        _show_progress_bar(was_shown)


def _show_progress_bar(shown: bool) -> None:
    if shown:
        transformers_logging.enable_progress_bar()
    else:
        transformers_logging.disable_progress_bar()
