"""Real checkpoints with random weights, small enough to load in a blink."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from stream_vlm.config import Settings, load_settings
from stream_vlm.stream import Frame
from stream_vlm.training.architecture import SPECIAL_TOKENS, new_model, save_checkpoint, small_config, word_tokenizer

WORDS = ("is", "the", "door", "open", "?", "yes", "no", "person", "in", "red", "enters", "from", "left")


def write_checkpoint(directory: Path, layers: int = 4, words: tuple[str, ...] = WORDS) -> Path:
    """A checkpoint of the shipped architecture with random weights."""
    tokenizer = word_tokenizer(words)
    if layers == 4:
        model: Any = new_model(tokenizer, seed=0)
    else:
        config: Any = small_config(tokenizer)
        config.text_config.num_hidden_layers = layers
        config.text_config.layer_types = ["full_attention"] * layers
        torch.manual_seed(0)
        from transformers import Qwen2_5_VLForConditionalGeneration

        model = Qwen2_5_VLForConditionalGeneration(config)
    with torch.no_grad():
        # Random weights that prefer words to control tokens, so that utterances have words to look at.
        model.lm_head.weight[: len(SPECIAL_TOKENS)] *= 0.1
    save_checkpoint(model, tokenizer, directory)
    return directory


def settings_for(directory: Path, **values: Any) -> Settings:
    """Settings that load `directory`; keyword names use __ for the dot."""
    return load_settings({"model.directory": str(directory)} | {name.replace("__", "."): value for name, value in values.items()})


def random_frame(index: int, camera: str = "front", size: tuple[int, int] = (96, 128)) -> Frame:
    """A picture of noise, half a second after the one before."""
    image = np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Frame(camera=camera, stamp_ns=1_000_000_000 + index * 500_000_000, frame_id=f"{camera}_optical", image=image)
