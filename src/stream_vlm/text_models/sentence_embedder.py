"""Any sentence-transformers directory as a model of text for the memory; the library of that name
is not needed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.types import StreamError

MAX_TOKENS = 512
"""Longer texts are cut, where the directory does not say at how many tokens."""

BATCH = 32


class EmbeddingError(StreamError):
    """A model of text cannot be loaded; the message names the directory and the remedy."""


class SentenceEmbedder:
    """Loads with transformers what the directory holds and pools as its `1_Pooling/config.json`
    says: mean of the tokens, or the first one.

    Nothing is fetched. It runs on the CPU, so that it never waits for the model that watches.
    """

    def __init__(self, directory: str | Path) -> None:
        """Raises: EmbeddingError: there is no such directory, it holds no model, or one that pools
        in another way.
        """
        # Loading torch takes seconds: who asks with words alone does not wait for it.
        import torch
        from transformers import AutoModel, AutoTokenizer

        folder = Path(directory).expanduser()
        if not (folder / "config.json").is_file():
            raise EmbeddingError(
                f"{folder}: holds no config.json; give the directory of a sentence-transformers"
                " model"
            )
        self._first_token = _pools_first_token(folder)
        most_tokens = _said(folder / "sentence_bert_config.json").get("max_seq_length")
        self._max_tokens = most_tokens if isinstance(most_tokens, int) else MAX_TOKENS
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._model = AutoModel.from_pretrained(
                folder, local_files_only=True, torch_dtype=torch.float32
            ).eval()
        except (OSError, ValueError, KeyError) as error:
            raise EmbeddingError(
                f"{folder}: cannot be loaded as a model of text ({error}); give the directory of a"
                " sentence-transformers model"
            ) from error
        self.name = folder.resolve().name
        self.size = int(self._model.config.hidden_size)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """A vector of length 1 for each text, float32, (texts, size)."""
        import torch

        made = []
        with torch.inference_mode():
            for start in range(0, len(texts), BATCH):
                tokens = self._tokenizer(
                    list(texts[start : start + BATCH]),
                    padding=True,
                    truncation=True,
                    max_length=self._max_tokens,
                    return_tensors="pt",
                )
                hidden = self._model(**tokens).last_hidden_state
                mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
                pooled = hidden[:, 0] if self._first_token else (hidden * mask).sum(1) / mask.sum(1)
                made.append(torch.nn.functional.normalize(pooled, dim=-1).numpy())
        return np.concatenate(made) if made else np.empty((0, self.size), np.float32)


def load_text_model(settings: MemorySettings) -> SentenceEmbedder | None:
    """The model of text that `memory.text_model` names, loaded; None, and no torch, where it names
    none.

    Raises:
        EmbeddingError: as `SentenceEmbedder`.
    """
    return SentenceEmbedder(settings.text_model) if settings.text_model else None


def _pools_first_token(folder: Path) -> bool:
    pooling = _said(folder / "1_Pooling" / "config.json")
    ways = [
        way for way, used in pooling.items() if way.startswith("pooling_mode_") and used is True
    ]
    if ways not in ([], ["pooling_mode_mean_tokens"], ["pooling_mode_cls_token"]):
        raise EmbeddingError(
            f"{folder}: pools by {', '.join(ways)}; only the mean of the tokens or the first one is"
            " known here, take another model"
        )
    return ways == ["pooling_mode_cls_token"]


def _said(file: Path) -> dict[str, object]:
    """What a JSON file of the directory says; nothing where there is none."""
    if not file.is_file():
        return {}
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EmbeddingError(f"{file}: is not JSON ({error}); fetch the model again") from error
    if not isinstance(said, dict):
        raise EmbeddingError(f"{file}: is no JSON object; fetch the model again")
    return said
