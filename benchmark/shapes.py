"""Models of published shapes with random weights: speed does not depend on the weights' values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from stream_vlm.backbone import StreamingModel
from stream_vlm.backbone.checkpoint.loader import Checkpoint
from stream_vlm.backbone.checkpoint.stream_config import StreamConfig
from stream_vlm.backbone.kv_cache.slot_attention import SLOT_ATTENTION
from stream_vlm.config.settings import Settings
from stream_vlm.context.turn_formats import STREAMO
from stream_vlm.vision.preprocess import PictureFormat
from stream_vlm_lab.training.shipped_model.architecture import word_tokenizer


@dataclass(frozen=True)
class Shape:
    """A published architecture.

    Attributes:
        text: fields of the text configuration.
        vision: fields of the vision configuration.
        make: builds the model from (text, vision, ids of picture tokens).
    """

    text: dict[str, Any]
    vision: dict[str, Any]
    make: Callable[..., Any]


def _qwen25(text: dict[str, Any], vision: dict[str, Any], **ids: Any) -> Any:
    text = {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [16, 24, 24],
        },
        "max_position_embeddings": 128_000,
        **text,
    }
    vision = {
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": text["hidden_size"],
        **vision,
    }
    tied = text.pop("tie_word_embeddings", False)
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied, **ids)
    )


def _qwen3(text: dict[str, Any], vision: dict[str, Any], **ids: Any) -> Any:
    rope = {
        "rope_type": "default",
        "rope_theta": 5e6,
        "mrope_section": [24, 20, 20],
        "mrope_interleaved": True,
    }
    text = {"rope_parameters": rope, "max_position_embeddings": 262_144, **text}
    vision = {
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": text["hidden_size"],
        **vision,
    }
    return Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **ids)
    )


def _text(
    hidden: int, inner: int, layers: int, heads: int, kv_heads: int, vocabulary: int, **more: Any
) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        **more,
    }


_TOWER_25 = {
    "depth": 32,
    "hidden_size": 1280,
    "num_heads": 16,
    "intermediate_size": 3420,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
}
_TOWER_3 = {
    "depth": 27,
    "hidden_size": 1152,
    "num_heads": 16,
    "intermediate_size": 4304,
    "deepstack_visual_indexes": [8, 16, 24],
}

SHAPES = {
    "tiny-qwen2.5": Shape(
        _text(256, 512, 2, 2, 1, 512),
        {
            "depth": 2,
            "hidden_size": 64,
            "num_heads": 2,
            "intermediate_size": 128,
            "window_size": 112,
            "fullatt_block_indexes": [1],
        },
        _qwen25,
    ),
    "tiny-qwen3": Shape(
        _text(256, 512, 3, 2, 1, 512, head_dim=128),
        {
            "depth": 2,
            "hidden_size": 64,
            "num_heads": 2,
            "intermediate_size": 128,
            "deepstack_visual_indexes": [0, 1],
        },
        _qwen3,
    ),
    "qwen2.5-vl-3b": Shape(
        _text(2048, 11008, 36, 16, 2, 151_936, tie_word_embeddings=True), _TOWER_25, _qwen25
    ),
    "qwen2.5-vl-7b": Shape(_text(3584, 18944, 28, 28, 4, 152_064), _TOWER_25, _qwen25),
    "qwen3-vl-8b": Shape(_text(4096, 12288, 36, 32, 8, 151_936, head_dim=128), _TOWER_3, _qwen3),
}

GRIDS = {72: (8, 9), 128: (8, 16), 302: (15, 20)}
"""(rows, columns) by number of vision tokens; 302 includes two markers around the picture."""


def random_model(
    name: str,
    vision_tokens: int,
    device: torch.device,
    dtype: torch.dtype,
    settings: Settings,
    seed: int,
) -> StreamingModel:
    """A model of a published shape with random weights.

    Args:
        name: name of the shape.
        vision_tokens: vision tokens of a picture, a key of `GRIDS`.
        device: where the weights are made.
        dtype: dtype of the weights.
        settings: settings of the model.
        seed: seed of the weights.
    """
    shape, (rows, columns) = SHAPES[name], GRIDS[vision_tokens]
    tokenizer = word_tokenizer([f"word{number}" for number in range(100)])
    ids = tokenizer.get_vocab()
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model: Any = shape.make(
                dict(shape.text),
                dict(shape.vision),
                image_token_id=ids["<|image_pad|>"],
                video_token_id=ids["<|video_pad|>"],
                vision_start_token_id=ids["<|vision_start|>"],
                vision_end_token_id=ids["<|vision_end|>"],
            )
    finally:
        torch.set_default_dtype(before)
    model = model.eval().requires_grad_(False)
    model.model.language_model.set_attn_implementation(SLOT_ATTENTION)
    patch = model.config.vision_config.patch_size
    pictures = PictureFormat(
        patch,
        2,
        2,
        (0.5, 0.5, 0.5),
        (0.5, 0.5, 0.5),
        fixed_size=(rows * patch * 2, columns * patch * 2),
    )
    stream = StreamConfig(name=name, turns=STREAMO, fixed_size=pictures.fixed_size)
    return StreamingModel(Checkpoint(model, tokenizer, stream, pictures, name), settings)
