"""Adds state markers to a tokenizer that has none.

Each marker is one special token. Its rows in the embeddings and the output head are initialised
from a word with the same meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken

from stream_vlm.backbone.checkpoint.loader import Checkpoint
from stream_vlm.backbone.checkpoint.picture_config import read_picture_format
from stream_vlm.backbone.checkpoint.stream_config import read_stream_config
from stream_vlm.context.instructions import LABELS
from stream_vlm.context.turn_formats import FORMATS, STREAMO
from stream_vlm.types import State, StreamError

DESCRIPTIONS = {State.SILENCE: "silent", State.STANDBY: "waiting", State.RESPONSE: "answer"}
"""A new marker is initialised with the mean of the rows of this word's tokens."""

MARKER_FORMATS = tuple(name for name, turns in FORMATS.items() if turns.silence.startswith("</"))
"""Turn formats whose markers are single tokens."""


def in_words(start: Checkpoint) -> Checkpoint:
    """The checkpoint in Streamo's format with plain words for the markers.

    Every tokenizer has these words, so no row of the embeddings is new.
    """
    texts = STREAMO.model_dump()
    for state, word in LABELS.items():
        texts |= {
            name: texts[name].replace(STREAMO.marker(state), word)
            for name in ("system", state.value)
        }
    turns = type(STREAMO).model_validate(texts)
    return replace(start, stream=start.stream.model_copy(update={"turns": turns}))


def add_markers(start: Checkpoint, directory: Path, turns: str) -> tuple[Checkpoint, list[int]]:
    """Add the markers of the format `turns` to a checkpoint; its tokenizer and model are changed.

    The new rows of the embeddings and the output head are initialised with the mean of the rows of
    a word that describes the marker. The model can then use the marker sensibly from the start.

    Args:
        start: the checkpoint.
        directory: where it was loaded from.
        turns: name of the turn format.

    Returns:
        The checkpoint in the format `turns`, and the ids of the new tokens.

    Raises:
        StreamError: `turns` is no format with markers.
    """
    if turns not in MARKER_FORMATS:
        raise StreamError(
            f"--add-markers: the format --turns {turns} has no markers that are single tokens; use"
            f" --turns {' or '.join(MARKER_FORMATS)}"
        )
    tokenizer, model = start.tokenizer, start.model
    wanted = {
        state: FORMATS[turns].marker(state) for state in State if FORMATS[turns].marker(state)
    }
    absent = {
        state: marker for state, marker in wanted.items() if marker not in tokenizer.get_vocab()
    }
    # Before the markers are added, because they could change how a word is tokenized.
    described = {
        marker: _known_ids(tokenizer, DESCRIPTIONS[state]) for state, marker in absent.items()
    }
    tokenizer.add_tokens(
        [AddedToken(marker, special=True, normalized=False) for marker in absent.values()],
        special_tokens=True,
    )
    ids = {marker: int(tokenizer.get_vocab()[marker]) for marker in absent.values()}
    before = model.get_input_embeddings().weight.shape[0]
    # Many checkpoints have more rows than tokens; these spare rows are used first.
    needed = max([before - 1, *ids.values()]) + 1
    if needed > before:
        model.resize_token_embeddings(needed, mean_resizing=False)
    for table in {
        id(table): table
        for table in (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    }.values():
        _init_rows(table, ids, described, before)
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
def _init_rows(
    table: torch.Tensor, ids: dict[str, int], described: dict[str, list[int]], known: int
) -> None:
    """Initialise the rows of new tokens.

    If the tokenizer does not know the word of a marker, the mean of all `known` rows is used.
    """
    means = {
        marker: (table[rows] if rows else table[:known]).float().mean(dim=0)
        for marker, rows in described.items()
    }
    for marker, mean in means.items():
        table[ids[marker]] = mean.to(table.dtype)


def check_learnable(new_tokens: Sequence[int], parts: Sequence[str]) -> None:
    """Check that the rows of new tokens are trained.

    Raises:
        StreamError: none of `parts` (`--train`) trains them.
    """
    if new_tokens and not {"lora", "language"} & set(parts):
        raise StreamError(
            f"--add-markers: with --train {' '.join(parts)} the new tokens are not trained; add"
            " lora or language"
        )
