"""Writes the result of a fine-tuning run as a checkpoint directory that the node can load."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from stream_vlm.backbone.checkpoint.files import read_config
from stream_vlm.backbone.checkpoint.stream_config import FILE_NAME, StreamConfig

COPIED = (
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "chat_template.jinja",
    "chat_template.json",
)
FLOATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def stored_dtype(directory: Path) -> torch.dtype:
    """The dtype that `config.json` in `directory` names; bfloat16 if it names none."""
    config = read_config(directory)
    text = config.get("text_config") or {}
    name = (
        config.get("dtype")
        or config.get("torch_dtype")
        or text.get("dtype")
        or text.get("torch_dtype")
    )
    return FLOATS.get(str(name), torch.bfloat16)


def save_result(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    stream: StreamConfig,
    directory: Path,
    out: Path,
    turn_s: float,
) -> None:
    """Write a fine-tuned model, its tokenizer, and its picture and stream configuration.

    Args:
        model: the fine-tuned model.
        tokenizer: its tokenizer.
        stream: the stream configuration it was trained with.
        directory: the checkpoint it was trained from; the weights are written in the dtype stored
            there.
        out: directory to write.
        turn_s: seconds of a turn in the data; sets the tick rate of the node.
    """
    dtype = stored_dtype(directory)
    weights = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    model.save_pretrained(out, state_dict=weights)
    tokenizer.save_pretrained(out)
    for name in COPIED:
        if (directory / name).is_file():
            shutil.copyfile(directory / name, out / name)
    rate_hz = stream.frames_per_turn / turn_s
    # The old threshold was calibrated for the old weights; 0 means uncalibrated.
    written = stream.model_copy(
        update={"name": f"{stream.name}-tuned", "rate_hz": rate_hz, "activity_threshold": 0.0}
    )
    (out / FILE_NAME).write_text(json.dumps(written.model_dump(mode="json"), indent=2) + "\n")
