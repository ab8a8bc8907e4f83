"""The shipped model: a Qwen2.5-VL of a few million parameters and its word tokenizer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from stream_vlm.backbone.checkpoint.stream_config import FILE_NAME, StreamConfig
from stream_vlm.context.turn_formats import COMPACT
from stream_vlm.types import State
from stream_vlm_lab.training.shipped_model.picture_format import PICTURE_SIZE, PICTURES

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|unknown|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    *(COMPACT.marker(state) for state in State),
)

STREAM = StreamConfig(
    name="stream-vlm-small",
    turns=COMPACT,
    fixed_size=PICTURE_SIZE,
    pair_frames=True,
    place_marks=True,
    rate_hz=2.0,
    policy="last_turns",
    max_turns=28,
    keep_turns=18,
)


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per word, so that a state, colour or verb is one decision."""
    vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<|unknown|>",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        clean_up_tokenization_spaces=False,
    )


def small_config(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    """The configuration of the shipped model."""
    ids = tokenizer.get_vocab()
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(ids),
            "hidden_size": 256,
            "intermediate_size": 768,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 8192,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [8, 12, 12],
            },
            "bos_token_id": None,
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": 4,
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_heads": 6,
            "patch_size": PICTURES.patch_size,
            "spatial_merge_size": PICTURES.merge_size,
            "temporal_patch_size": PICTURES.temporal_patch_size,
            "window_size": 64,
            "fullatt_block_indexes": [0, 1, 2, 3],
            "out_hidden_size": 256,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
    )


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Any:
    """A model with random weights drawn from `seed`."""
    torch.manual_seed(seed)
    return Qwen2_5_VLForConditionalGeneration(small_config(tokenizer))


def save_checkpoint(model: Any, tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    """Write a checkpoint that the node can load.

    It holds bfloat16 weights, the tokenizer, and the picture and stream configuration.
    """
    directory.mkdir(parents=True, exist_ok=True)
    weights = {
        name: value.to(torch.bfloat16) if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    model.save_pretrained(directory, state_dict=weights)
    tokenizer.save_pretrained(directory)
    pictures = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": PICTURES.patch_size,
        "merge_size": PICTURES.merge_size,
        "temporal_patch_size": PICTURES.temporal_patch_size,
        "image_mean": PICTURES.mean,
        "image_std": PICTURES.std,
    }
    (directory / "preprocessor_config.json").write_text(json.dumps(pictures, indent=2) + "\n")
    (directory / FILE_NAME).write_text(STREAM.model_dump_json(indent=2) + "\n")
