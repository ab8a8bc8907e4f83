"""Tries at load whether a model's cache can be kept between ticks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from stream_vlm.backbone.foreign.chat_pieces import ChatPieces
from stream_vlm.backbone.foreign.kept_context import TYPE_IDS, KeptContext
from stream_vlm.backbone.foreign.loader import ForeignCheckpoint
from stream_vlm.context.instructions import judge_prompt

TOLERANCE, HALF_TOLERANCE = 1e-3, 0.1
"""The largest difference of appended turns, as a share of the spread of the logits.

The second is for dtypes with 16 bits, whose rounding alone is a few percent.
"""
LATER, HALF_LATER = 1e-4, 2e-3
"""The same for what later tokens may change. The two passes have the same shape, so even with 16
bits they round alike."""
SIZE = (112, 160)
"""Height and width of the pictures of the probe, pixels."""
TURNS = 3


@torch.inference_mode()
def why_not_kept(checkpoint: ForeignCheckpoint, pieces: ChatPieces) -> str:
    """Why the cache of a checkpoint cannot be kept between ticks; empty if it can.

    The probe appends turns to a cache, feeds a question to a branch after each, and compares the
    logits with those of the unmodified model, which reads everything at once. They differ where
    attention goes in both directions, where positions are not counted on, or where the cache does
    not keep what later tokens need.

    Args:
        checkpoint: the loaded checkpoint.
        pieces: the texts of its chat template.
    """
    half = checkpoint.model.dtype.itemsize < torch.float32.itemsize
    try:
        appended, later = _differences(checkpoint, pieces)
    except Exception as error:
        # Models are foreign code and can raise anything.
        return f"appending to its cache fails ({type(error).__name__}: {str(error)[:200]})"
    if not later <= (HALF_LATER if half else LATER):
        return "its attention goes in both directions, so later words change what it has read"
    if not appended <= (HALF_TOLERANCE if half else TOLERANCE):
        return f"appending to its cache changes the logits by {appended:.2g} of their spread"
    return ""


def _differences(checkpoint: ForeignCheckpoint, pieces: ChatPieces) -> tuple[float, float]:
    """How much the logits change, as a share of their standard deviation.

    Returns:
        The largest difference between appended turns and one full pass, and the largest difference
        that other later tokens make in a full pass.
    """
    model, writer = checkpoint.model, checkpoint.writer
    images = list(np.random.default_rng(0).integers(0, 256, (TURNS, *SIZE, 3), dtype=np.uint8))
    texts = [f"<{turn} seconds>{pieces.picture}" for turn in range(TURNS)]
    texts[0] = pieces.head + texts[0]
    texts[2] = pieces.shown + "something has happened" + pieces.answered + texts[2]
    suffix = writer.ids(judge_prompt("something happens") + pieces.asked)
    context = KeptContext(model)
    fed: list[Any] = []
    appended = later = 0.0
    for turn, text in enumerate(texts):
        inputs = writer.piece(text, [images[turn]], first=turn == 0)
        fed.append(inputs.to(model.device, dtype=model.dtype))
        context.feed(fed[-1])
        logits = context.branch().feed_ids(suffix)
        together = writer.piece("".join(texts[: turn + 1]), images[: turn + 1], first=True)
        full = dict(together.to(model.device, dtype=model.dtype))
        expected = _full_pass(model, full, fed, suffix)
        appended = max(appended, _share(logits, expected[-1]))
        other = _full_pass(model, full, fed, suffix[::-1])
        before = -len(suffix) - 1
        later = max(later, _share(other[before], expected[before]))
    return appended, later


def _full_pass(
    model: Any, inputs: dict[str, torch.Tensor], fed: list[Any], suffix: list[int]
) -> torch.Tensor:
    """Logits (tokens, vocabulary) of the unmodified model for all that was fed and `suffix`."""
    ids = torch.tensor([suffix], device=model.device)
    inputs = inputs | {"input_ids": torch.cat([*(one["input_ids"] for one in fed), ids], dim=1)}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    for name in TYPE_IDS:
        if name in inputs:
            inputs[name] = torch.cat([*(one[name] for one in fed), torch.zeros_like(ids)], dim=1)
    logits: torch.Tensor = model(**inputs, use_cache=False).logits[0].float()
    return logits


def _share(some: torch.Tensor, others: torch.Tensor) -> float:
    """The largest difference of two logits (vocabulary,), as a share of their spread."""
    return float((some - others).abs().max() / others.std().clamp(min=1e-9))
