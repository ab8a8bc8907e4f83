"""The directory that a fine-tuning run ends with, which the node loads like any other checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from stream_vlm.backbone.checkpoint.files import read_config
from stream_vlm.backbone.checkpoint.loader import Checkpoint
from stream_vlm.backbone.checkpoint.stream_config import FILE_NAME

COPIED = (
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "chat_template.jinja",
    "chat_template.json",
)
FLOATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def stored_dtype(directory: Path) -> torch.dtype:
    """What the weights in `directory` are stored as by its `config.json`; bfloat16 where that does
    not say.
    """
    config = read_config(directory)
    text = config.get("text_config") or {}
    name = (
        config.get("dtype")
        or config.get("torch_dtype")
        or text.get("dtype")
        or text.get("torch_dtype")
    )
    return FLOATS.get(str(name), torch.bfloat16)


def save_result(model: Any, start: Checkpoint, directory: Path, out: Path, turn_s: float) -> None:
    """Write `model`, which came from `start` in `directory`, to `out`: weights in the dtype they
    had, tokenizer, picture and stream format.

    Args:
        turn_s: seconds of a turn in the data; the node is told to look as often.
    """
    dtype = stored_dtype(directory)
    weights = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    model.save_pretrained(out, state_dict=weights)
    start.tokenizer.save_pretrained(out)
    for name in COPIED:
        if (directory / name).is_file():
            shutil.copyfile(directory / name, out / name)
    rate_hz = start.stream.frames_per_turn / turn_s
    # How sure the old weights had to be says nothing of the new ones.
    stream = start.stream.model_copy(
        update={"name": f"{start.stream.name}-tuned", "rate_hz": rate_hz, "activity_threshold": 0.0}
    )
    (out / FILE_NAME).write_text(json.dumps(stream.model_dump(mode="json"), indent=2) + "\n")
