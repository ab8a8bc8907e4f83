"""Loads any image-text-to-text checkpoint of transformers with its processor and chat template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    GenerationConfig,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from stream_vlm.backbone.checkpoint.device_map import Placement, place
from stream_vlm.backbone.checkpoint.files import (
    ForeignArchitecture,
    check_files,
    digest,
    read_config,
    tied_in_text_config,
)
from stream_vlm.backbone.checkpoint.load_errors import loading_failed
from stream_vlm.backbone.checkpoint.quantization import set_unpacked_dtype
from stream_vlm.backbone.checkpoint.stream_config import CheckpointError
from stream_vlm.backbone.foreign.chat_prompt import ChatWriter, LabelledPicture
from stream_vlm.backbone.foreign.processor import load_processor, missing_library
from stream_vlm.config.model_settings import ModelSettings
from stream_vlm.context.instructions import LABELS, NO, YES, system_prompt
from stream_vlm.types import State

Word = TypeVar("Word", bound=Hashable)
Spellings = dict[Word, list[tuple[int, ...]]]
"""By word, the ids of each of its spellings; their first ids differ between words."""

POSSIBLE = {
    "prompt_format": ("auto", "instruct"),
    "weights": ("auto",),
    "device": ("auto", "cpu", "cuda"),
}
"""The possible values of the settings `model` that depend on the architecture.

Only for the Qwen-VL family it is known which modules may be split or quantized.
"""


@dataclass(frozen=True)
class ForeignCheckpoint:
    """A loaded checkpoint.

    Attributes:
        model: the model.
        processor: makes the inputs of the model from text and pictures.
        tokenizer: its tokenizer.
        writer: writes chats in the model's chat template.
        system: the system prompt.
        states: token ids of the words for the states.
        verdicts: token ids of the words for yes (True) and no (False).
        stop: ids that end a reply.
        forbidden: ids that no reply may contain: control tokens and picture placeholders.
        max_tokens: the most tokens of a chat with its reply, or None if the configuration does not
            say.
        follows_picture_size: whether a smaller picture costs less.
        model_id: name and digest of the checkpoint.
    """

    model: Any
    processor: Any
    tokenizer: PreTrainedTokenizerBase
    writer: ChatWriter
    system: str
    states: Spellings[State]
    verdicts: Spellings[bool]
    stop: frozenset[int]
    forbidden: list[int]
    max_tokens: int | None
    follows_picture_size: bool
    model_id: str


def load_foreign(settings: ModelSettings) -> ForeignCheckpoint:
    """Load the checkpoint that `settings` names with the classes of transformers.

    Raises:
        ForeignArchitecture: transformers does not know its architecture as an image-text-to-text
            model.
        CheckpointError: the directory is partial or damaged, a library or a device is missing, or
            the checkpoint is not a chat model.
    """
    directory = Path(settings.directory).expanduser()
    name = f"model.directory {directory}"
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ForeignArchitecture(
            f"{name}: transformers cannot read its config.json: {error}; give an image-text-to-text"
            " checkpoint"
        ) from error
    if (
        config.model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        or config.is_encoder_decoder
    ):
        raise ForeignArchitecture(
            f"{name}: architecture {config.model_type!r} is not supported; give a checkpoint of a"
            " model that reads pictures and text in one decoder"
        )
    for field, possible in POSSIBLE.items():
        if getattr(settings, field) not in possible:
            raise CheckpointError(
                f"model.{field} {getattr(settings, field)!r}: not possible with {name} of"
                f" architecture {config.model_type!r}; set it to {' or '.join(possible)}"
            )
    if settings.turn_pieces:
        raise CheckpointError(
            f"model.turn_pieces: not possible with {name} of architecture {config.model_type!r},"
            " whose turns are written with its own chat template; leave it empty"
        )
    stored = read_config(directory)
    check_files(directory, stored)
    if tied_in_text_config(directory, stored):
        config.tie_word_embeddings = True
    placement = place(settings, AutoModelForImageTextToText, config)
    processor = load_processor(directory, name)
    system = system_prompt(settings.system_prompt, settings.language)
    writer = ChatWriter(processor, system, name)
    tokens, smaller = (_count_inputs(writer, name, size) for size in ((480, 640), (120, 160)))
    tokenizer = processor.tokenizer
    model = _model(directory, name, config, placement)
    stop = _stop(model, tokenizer, name)
    pictures = {
        getattr(model.config, field, None)
        for field in ("image_token_id", "image_token_index", "video_token_id")
    }
    forbidden = (
        set(tokenizer.all_special_ids) | {token for token in pictures if isinstance(token, int)}
    ) - stop
    # The checkpoint's own generation settings (penalties, forced tokens, beams) do not apply here.
    model.generation_config = GenerationConfig(pad_token_id=min(stop))
    return ForeignCheckpoint(
        model,
        processor,
        tokenizer,
        writer,
        system,
        first_tokens(tokenizer, LABELS, name),
        first_tokens(tokenizer, {True: YES, False: NO}, name),
        stop,
        sorted(forbidden),
        getattr(config.get_text_config(), "max_position_embeddings", None),
        follows_picture_size=smaller < tokens,
        model_id=f"{directory.name}-{digest(directory)}",
    )


def first_tokens(
    tokenizer: PreTrainedTokenizerBase, words: Mapping[Word, str], name: str
) -> Spellings[Word]:
    """Token ids of words that a reply begins with, without and with a space before them.

    Args:
        tokenizer: the tokenizer.
        words: the words, by what they mean.
        name: name of the checkpoint, for messages.

    Raises:
        CheckpointError: two words begin with the same token, or the tokenizer does not know a word.
    """
    unknown = tokenizer.unk_token_id
    forms: Spellings[Word] = {}
    for meaning, word in words.items():
        written = {
            tuple(tokenizer.encode(text, add_special_tokens=False)) for text in (word, f" {word}")
        }
        forms[meaning] = sorted(ids for ids in written if ids and unknown not in ids)
    begun = Counter(first for ways in forms.values() for first in {ids[0] for ids in ways})
    own = {meaning: [ids for ids in ways if begun[ids[0]] == 1] for meaning, ways in forms.items()}
    if not all(own.values()):
        raise CheckpointError(
            f"{name}: the words {list(words.values())} do not begin with different tokens of this"
            " tokenizer, so the model's replies cannot be distinguished; use a checkpoint with a"
            " larger vocabulary"
        )
    return own


def _count_inputs(writer: ChatWriter, name: str, size: tuple[int, int]) -> int:
    """The number of input values for two pictures of `size` (height, width), pixels.

    It also checks that the processor works, before any weight is read.
    """
    grey = LabelledPicture("0", np.full((*size, 3), 128, dtype=np.uint8))
    try:
        inputs = writer.inputs([grey, grey], "", "")
    except ImportError as error:
        raise missing_library(name, error) from error
    except Exception as error:
        # Processors are foreign code and can raise anything.
        raise CheckpointError(
            f"{name}: its processor cannot take two pictures and a question"
            f" ({type(error).__name__}: {error}); use a checkpoint for several pictures"
        ) from error
    return sum(value.numel() for value in inputs.values() if isinstance(value, torch.Tensor))


def _model(directory: Path, name: str, config: Any, placement: Placement) -> Any:
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            directory,
            config=config,
            dtype=placement.dtype,
            local_files_only=True,
            output_loading_info=True,
            **placement.options,
        )
        model, report = loaded
        if not placement.is_done_by_loading:
            model = model.to(placement.device)
        model = model.eval().requires_grad_(False)
        if placement.quantized:
            set_unpacked_dtype(model, placement.dtype)
    except Exception as error:
        # Quantizers and drivers are foreign code and can raise anything.
        raise loading_failed(name, error, placement.quantized) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(
            f"{name}: {len(missing)} weights are missing, such as {missing[0]}; download the"
            " checkpoint again"
        )
    return model


def _stop(model: Any, tokenizer: PreTrainedTokenizerBase, name: str) -> frozenset[int]:
    said = [
        model.generation_config.eos_token_id,
        model.config.get_text_config().eos_token_id,
        tokenizer.eos_token_id,
    ]
    stop = frozenset(
        token
        for ids in said
        if ids is not None
        for token in (ids if isinstance(ids, list) else [ids])
        if isinstance(token, int)
    )
    if not stop:
        raise CheckpointError(
            f"{name}: neither generation_config.json nor its tokenizer has a token that ends a"
            " reply; add eos_token_id"
        )
    return stop
