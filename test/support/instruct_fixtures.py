"""Checkpoints with random weights that look like a downloaded Qwen2.5-VL or Qwen3-VL Instruct."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from model_fixtures import settings_for, small_qwen3_config
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
)

from stream_vlm.backbone import StreamingModel, load_cached_model
from stream_vlm.backbone.streaming.batched_step import BatchedStep
from stream_vlm.backbone.streaming.camera_stream import CachedStream
from stream_vlm.config.instruction_settings import DEFAULT_INSTRUCTIONS
from stream_vlm.context import instructions
from stream_vlm.model_protocol import Judgement, Outcome, Turn
from stream_vlm.types import Decision, Frame, Instruction, Query, State, StreamError
from stream_vlm_lab.training.shipped_model.architecture import save_checkpoint, small_config

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
WORDS = Regex(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How the tokenizer of the Qwen family splits a text before the merges: one token a digit."""
TEXT = (
    *DEFAULT_INSTRUCTIONS,
    *instructions.LABELS.values(),
    instructions.SYSTEM,
    instructions.JUDGE,
    instructions.REPORTED,
    instructions.VERIFY,
    " ".join(instructions.LABELS.values()),
    "yes Yes no No system user assistant seconds s [Video History]",
    "the red door opens . a person comes in , who is there ? : \n\n - ** ",
    "It was red",
)


def qwen_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with the rules of Qwen's; it has one token for each word of our prompts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(WORDS, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        min_frequency=1,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        clean_up_tokenization_spaces=False,
    )


def write_instruct_checkpoint(
    directory: Path,
    family: str,
    layers: int = 2,
    follows: Mapping[str, str] | None = None,
) -> Path:
    """Write a checkpoint as it is downloaded, without a `stream_config.json`.

    Args:
        directory: where it is written.
        family: one of `model_fixtures.FAMILIES`.
        layers: number of layers.
        follows: for each token the token that follows it, whatever came before; then the layers add
            nothing. By default the weights are random.
    """
    tokenizer = qwen_tokenizer()
    torch.manual_seed(0)
    model: Any
    if family == "qwen3_vl":
        model = Qwen3VLForConditionalGeneration(small_qwen3_config(tokenizer, layers))
    else:
        config: Any = small_config(tokenizer)
        config.text_config.num_hidden_layers = layers
        config.text_config.layer_types = ["full_attention"] * layers
        model = Qwen2_5_VLForConditionalGeneration(config)
    vocabulary = tokenizer.get_vocab()
    with torch.no_grad():
        # Words are more likely than anything else, so utterances have whole words.
        model.lm_head.weight[[vocabulary[token] for token in vocabulary if token[0] == "Ġ"]] *= 3.0
    if follows is not None:
        embeddings = model.model.language_model.embed_tokens.weight
        with torch.no_grad():
            for layer in model.model.language_model.layers:
                layer.self_attn.o_proj.weight.zero_()
                layer.mlp.down_proj.weight.zero_()
            model.lm_head.weight.zero_()
            for token, follower in follows.items():
                model.lm_head.weight[vocabulary[follower]] += embeddings[vocabulary[token]]
    save_checkpoint(model, tokenizer, directory)
    (directory / "stream_config.json").unlink()
    return directory


def load_instruct(directory: Path, **values: Any) -> StreamingModel:
    """Load the model at `directory`; `values` are settings, with __ for the dot."""
    return load_cached_model(settings_for(directory, **values))


def frame(index: int, camera: str = "front", size: tuple[int, int] = (64, 96)) -> Frame:
    """Frame number `index`: random noise, half a second after the frame before."""
    image = np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Frame(camera, 1_000_000_000 + index * 500_000_000, f"{camera}_optical", image)


def to(state: State) -> Any:
    """A gate that changes every decision to `state`."""
    return lambda decision: Decision(state, decision.probabilities, confidence=decision.confidence)


def judgement(name: str, text: str, state: State | None = None, **values: Any) -> Judgement:
    """The judgement of the instruction `text`, which decides `state` if it is given."""
    if state is not None:
        values["gate"] = to(state)
    return Judgement(Instruction(name, text), **values)


def take(
    stream: CachedStream,
    shown: Frame,
    judgements: Sequence[Judgement] = (),
    query: Query | None = None,
    **values: Any,
) -> Outcome:
    """Take one turn in `stream` alone; what its model would return as an error is raised."""
    turn = Turn(stream, shown, query=query, judgements=tuple(judgements), **values)
    (outcome,) = BatchedStep(stream.parts, [turn]).run()
    if isinstance(outcome, StreamError):
        raise outcome
    return outcome


def written(model: StreamingModel, stream: CachedStream) -> str:
    """The context as text; a picture is one placeholder."""
    tokenizer: Any = model.checkpoint.tokenizer
    picture = model.parts.tokens.picture
    ids: list[int] = []
    for segment in stream.context:
        ids += [picture] if segment.grid else segment.token_ids
    return str(tokenizer.decode(ids, skip_special_tokens=False))
