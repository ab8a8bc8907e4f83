"""Real checkpoints with random weights, small enough to load at once."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
)

from stream_vlm.backbone.streaming.batched_step import BatchedStep
from stream_vlm.backbone.streaming.camera_stream import CachedStream
from stream_vlm.config.settings import Settings, load_settings
from stream_vlm.model_protocol import Outcome, Turn
from stream_vlm.types import Decision, Frame, Query, StreamError
from stream_vlm_lab.training.shipped_model.architecture import (
    SPECIAL_TOKENS,
    new_model,
    save_checkpoint,
    small_config,
    word_tokenizer,
)
from stream_vlm_lab.training.shipped_model.picture_format import PICTURES

WORDS = (
    "is",
    "the",
    "door",
    "open",
    "?",
    "yes",
    "no",
    "person",
    "in",
    "red",
    "enters",
    "from",
    "left",
)


FAMILIES = ("qwen2_5_vl", "qwen3_vl")
"""The architectures that run with the slot cache and have no experts."""
WITH_EXPERTS = (*FAMILIES, "qwen3_vl_moe")
"""All architectures that run with the slot cache."""


def write_checkpoint(
    directory: Path, layers: int = 4, words: tuple[str, ...] = WORDS, family: str = "qwen2_5_vl"
) -> Path:
    """Write a checkpoint with random weights: the shipped architecture, or a small Qwen3-VL."""
    tokenizer = word_tokenizer(words)
    model: Any
    if family == "qwen3_vl":
        torch.manual_seed(0)
        model = Qwen3VLForConditionalGeneration(small_qwen3_config(tokenizer, layers))
    elif family == "qwen3_vl_moe":
        torch.manual_seed(0)
        model = Qwen3VLMoeForConditionalGeneration(small_moe_config(tokenizer, layers))
    elif layers == 4:
        model = new_model(tokenizer, seed=0)
    else:
        config: Any = small_config(tokenizer)
        config.text_config.num_hidden_layers = layers
        config.text_config.layer_types = ["full_attention"] * layers
        torch.manual_seed(0)
        model = Qwen2_5_VLForConditionalGeneration(config)
    with torch.no_grad():
        # Words are more likely than control tokens, so utterances have words.
        model.lm_head.weight[: len(SPECIAL_TOKENS)] *= 0.1
    save_checkpoint(model, tokenizer, directory)
    return directory


def small_qwen3_config(tokenizer: PreTrainedTokenizerFast, layers: int = 4) -> Qwen3VLConfig:
    """The configuration of a small Qwen3-VL with all its differences from a Qwen2.5-VL.

    These are deepstack levels, interleaved rotary axes, learned positions and 16-pixel patches.
    """
    ids = tokenizer.get_vocab()
    return Qwen3VLConfig(
        text_config={
            "vocab_size": len(ids),
            "hidden_size": 256,
            "intermediate_size": 768,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "max_position_embeddings": 8192,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [12, 10, 10],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": 4,
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_heads": 6,
            "patch_size": PICTURES.patch_size,
            "spatial_merge_size": PICTURES.merge_size,
            "temporal_patch_size": PICTURES.temporal_patch_size,
            "num_position_embeddings": 144,
            "deepstack_visual_indexes": [0, 2][:layers],
            "out_hidden_size": 256,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
    )


def small_moe_config(tokenizer: PreTrainedTokenizerFast, layers: int = 4) -> Qwen3VLMoeConfig:
    """The configuration of a small Qwen3-VL whose layers have four experts each."""
    plain = small_qwen3_config(tokenizer, layers).to_dict()
    experts = {
        "model_type": "qwen3_vl_moe_text",
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 256,
    }
    plain["model_type"] = "qwen3_vl_moe"
    plain["text_config"] |= experts
    plain["vision_config"]["model_type"] = "qwen3_vl_moe_vision"
    return Qwen3VLMoeConfig.from_dict(plain)


SENTENCE_WORDS = ("a", "red", "ball", "door", "opens", "rolls", "in")


def write_sentence_model(folder: Path) -> Path:
    """Write a sentence-transformers directory with random weights; its vectors have 24 numbers."""
    folder.mkdir()
    torch.manual_seed(0)
    vocabulary = {
        word: number
        for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *SENTENCE_WORDS])
    }
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]"
    ).save_pretrained(folder)
    shape = BertConfig(
        vocab_size=4 + len(SENTENCE_WORDS),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(shape).save_pretrained(folder)
    return folder


SHORT_TOKENS = 8
"""Longest utterance in tests."""


def settings_for(directory: Path, **values: Any) -> Settings:
    """Settings that load `directory`; `values` are more settings, with __ for the dot.

    A model with random weights writes until it may write no more, and a token costs as much as a
    silent step. So utterances are short where a test asks for nothing else.
    """
    return load_settings(
        {"model.directory": str(directory), "decision.max_new_tokens": SHORT_TOKENS}
        | {name.replace("__", "."): value for name, value in values.items()}
    )


def random_frame(index: int, camera: str = "front", size: tuple[int, int] = (96, 128)) -> Frame:
    """Frame number `index`: random noise, half a second after the frame before."""
    image = np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Frame(
        camera=camera,
        stamp_ns=1_000_000_000 + index * 500_000_000,
        frame_id=f"{camera}_optical",
        image=image,
    )


def decisions(outcomes: Sequence[Outcome | StreamError]) -> list[Decision | StreamError]:
    """The decision of each outcome of `Model.step`; errors stay errors."""
    return [one.decision if isinstance(one, Outcome) else one for one in outcomes]


def step_alone(
    stream: CachedStream,
    frame: Frame,
    query: Query | None,
    gate: Callable[[Decision], Decision],
    on_text: Callable[[str], None] | None = None,
    watch: Query | None = None,
) -> Decision:
    """Take one turn in `stream` alone; what its model would return as an error is raised."""
    turn = Turn(stream, frame, query=query, gate=gate, on_text=on_text, watch=watch)
    (outcome,) = BatchedStep(stream.parts, [turn]).run()
    if isinstance(outcome, StreamError):
        raise outcome
    return outcome.decision
