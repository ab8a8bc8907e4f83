"""State markers for a tokenizer that has none: single special tokens, with rows that begin as the
words they stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken

from stream_vlm.backbone.checkpoint.loader import Checkpoint
from stream_vlm.backbone.checkpoint.stream_config import read_picture_format, read_stream_config
from stream_vlm.context.turn_formats import FORMATS
from stream_vlm.types import State, StreamError

DESCRIPTIONS = {State.SILENCE: "silent", State.STANDBY: "waiting", State.RESPONSE: "answer"}
"""The words whose tokens' mean a new marker begins with."""

MARKED = tuple(name for name, turns in FORMATS.items() if turns.silence.startswith("</"))
"""Formats with markers that are tokens of their own."""


def with_markers(start: Checkpoint, directory: Path, turns: str) -> tuple[Checkpoint, list[int]]:
    """`start`, loaded from `directory`, made to write and read the format `turns`, and the ids of
    the tokens that are new to it.

    Its tokenizer and model are changed in place. New rows of the embeddings and of the head begin
    as the mean of the rows of a word that says what the marker stands for, so that the model begins
    near a sensible use of it.

    Raises:
        StreamError: `turns` names no format with markers.
    """
    if turns not in MARKED:
        raise StreamError(
            f"--add-markers: --turns {turns} has no markers that are tokens; give --turns"
            f" {' or '.join(MARKED)}"
        )
    tokenizer, model = start.tokenizer, start.model
    wanted = {
        state: FORMATS[turns].marker(state) for state in State if FORMATS[turns].marker(state)
    }
    absent = {
        state: marker for state, marker in wanted.items() if marker not in tokenizer.get_vocab()
    }
    # Before the markers are tokens: a word may be written with theirs.
    described = {
        marker: _known_ids(tokenizer, DESCRIPTIONS[state]) for state, marker in absent.items()
    }
    tokenizer.add_tokens(
        [AddedToken(marker, special=True, normalized=False) for marker in absent.values()],
        special_tokens=True,
    )
    ids = {marker: int(tokenizer.get_vocab()[marker]) for marker in absent.values()}
    before = model.get_input_embeddings().weight.shape[0]
    # Many checkpoints have more rows than tokens; those are taken first.
    needed = max([before - 1, *ids.values()]) + 1
    if needed > before:
        model.resize_token_embeddings(needed, mean_resizing=False)
    for table in {
        id(table): table
        for table in (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    }.values():
        _begin(table, ids, described, before)
    stream = read_stream_config(directory, tokenizer, turns)
    return replace(start, stream=stream, pictures=read_picture_format(directory, stream)), sorted(
        ids.values()
    )


def _known_ids(tokenizer: Any, word: str) -> list[int]:
    return [
        token
        for token in tokenizer.encode(word, add_special_tokens=False)
        if token != tokenizer.unk_token_id
    ]


@torch.no_grad()
def _begin(
    table: torch.Tensor, ids: dict[str, int], described: dict[str, list[int]], known: int
) -> None:
    """Set the rows of new tokens; a marker whose word the tokenizer does not know begins as the
    mean of all `known` rows.
    """
    means = {
        marker: (table[rows] if rows else table[:known]).float().mean(dim=0)
        for marker, rows in described.items()
    }
    for marker, mean in means.items():
        table[ids[marker]] = mean.to(table.dtype)


def check_learnable(new_tokens: Sequence[int], parts: Sequence[str]) -> None:
    """Refuse to leave the rows of new tokens as they begin.

    Raises:
        StreamError: none of `parts` (`--train`) moves them.
    """
    if new_tokens and not {"lora", "language"} & set(parts):
        raise StreamError(
            f"--add-markers: with --train {' '.join(parts)} the new tokens are not learned; add"
            " lora or language"
        )
