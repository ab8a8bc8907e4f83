"""Checkpoints with random weights and a chat template, some with a fixed output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from model_fixtures import settings_for, write_checkpoint

from stream_vlm.backbone import StreamingModel, load_cached_model
from stream_vlm_lab.training.shipped_model.architecture import save_checkpoint

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content']"
    " }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM_CHATML = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    + CHATML
)
THINKING_CHATML = CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")
FORGETFUL_CHATML = (
    "<|im_start|>user\n{{ messages[-1]['content'][:3] }}<|im_end|>\n<|im_start|>assistant\n"
)

WORDS = (
    "system",
    "user",
    "assistant",
    "there",
    "was",
    "a",
    "ball",
    "rolls",
    "in",
    "cup",
    "door",
    "opens",
    ".",
    ":",
    "0",
    "1",
)

SPEAKS = {
    "<|vision_end|>": "</Response>",
    "</Response>": "a",
    "assistant": "there",
    "there": "was",
    "was": "a",
    "a": "ball",
    "ball": "rolls",
    "rolls": "in",
    "in": "<|im_end|>",
}
"""The token that follows each token, for `write_speaking_checkpoint`.

The model says "a ball rolls in" about every picture; its summaries are `SUMMARY`.
"""
SUMMARY = "there was a ball rolls in"


def write_chat_checkpoint(
    directory: Path, family: str = "qwen2_5_vl", template: str = CHATML, layers: int = 2
) -> Path:
    """Write a checkpoint with random weights that prefer words to control tokens."""
    write_checkpoint(directory, layers, WORDS, family)
    (directory / "chat_template.jinja").write_text(template)
    return directory


def write_speaking_checkpoint(directory: Path, follows: Mapping[str, str] = SPEAKS) -> Path:
    """Write a Qwen2.5-VL whose next token depends on the last token only, as `follows` says.

    Its layers add nothing to a token's embedding.
    """
    write_chat_checkpoint(directory)
    model = load_cached_model(settings_for(directory))
    tokenizer: Any = model.checkpoint.tokenizer
    weights = model.checkpoint.model
    vocabulary = tokenizer.get_vocab()
    with torch.no_grad():
        for layer in weights.model.language_model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        weights.lm_head.weight.zero_()
        embeddings = weights.model.language_model.embed_tokens.weight
        for token, follower in follows.items():
            weights.lm_head.weight[vocabulary[follower]] += embeddings[vocabulary[token]]
    save_checkpoint(weights, tokenizer, directory)
    return directory


def load(directory: Path, **values: Any) -> StreamingModel:
    """Load the model at `directory`; `values` are settings, with __ for the dot."""
    return load_cached_model(settings_for(directory, **values))
