"""Load a sentence-transformers directory and turn texts into vectors.

The sentence-transformers library itself is not needed, only transformers and torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.text_models.folder_digest import folder_digest
from stream_vlm.types import StreamError
from stream_vlm.unicode_text import mend, read_json

MAX_TOKENS = 512
"""Longer texts are truncated to this length, unless the directory names another length."""

DIGITS = 16
"""Of the digest by which a model is known."""

BATCH = 32
"""Texts per forward pass."""


class EmbeddingError(StreamError):
    """A text embedding model cannot be loaded; the message names the directory and the remedy."""


class SentenceEmbedder:
    """Computes text vectors with the model in a sentence-transformers directory.

    Pooling follows the directory's `1_Pooling/config.json`: mean of the tokens, or the first token.
    Nothing is downloaded. It runs on the CPU, so that it never waits for the streaming model.

    Args:
        directory: a sentence-transformers directory.

    Raises:
        EmbeddingError: there is no such directory, it holds no model, or its pooling is
            unsupported.

    Attributes:
        name: digest of the directory's files, so that it does not depend on the directory's name;
            vectors of different names are never compared.
        folder_name: name of the directory.
        size: numbers in each vector.
    """

    def __init__(self, directory: str | Path) -> None:
        # Loading torch takes seconds: a word search must not wait for it.
        import torch
        from transformers import AutoModel, AutoTokenizer

        folder = Path(directory).expanduser()
        if not (folder / "config.json").is_file():
            raise EmbeddingError(
                f"{folder}: has no config.json; give the directory of a sentence-transformers model"
            )
        self._first_token = _pools_first_token(folder)
        max_tokens = _read_json(folder / "sentence_bert_config.json").get("max_seq_length")
        self._max_tokens = max_tokens if isinstance(max_tokens, int) else MAX_TOKENS
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._model = AutoModel.from_pretrained(
                folder, local_files_only=True, torch_dtype=torch.float32
            ).eval()
        except (OSError, ValueError, KeyError) as error:
            raise EmbeddingError(
                f"{folder}: cannot be loaded as a text embedding model ({error}); give the"
                " directory of a sentence-transformers model"
            ) from error
        try:
            # Read after loading, so that a folder that is no model gives the loader's reason.
            self.name = f"sha256:{folder_digest(folder)[:DIGITS]}"
        except OSError as error:
            raise EmbeddingError(
                f"{folder}: a file cannot be read ({error}); allow this user to read the folder"
            ) from error
        self.folder_name = folder.resolve().name
        self.size = int(self._model.config.hidden_size)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector of length 1 for each text, float32, (texts, size)."""
        import torch

        made = []
        with torch.inference_mode():
            for start in range(0, len(texts), BATCH):
                # A tokenizer takes no half character; the words around it are embedded.
                tokens = self._tokenizer(
                    [mend(text) for text in texts[start : start + BATCH]],
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
    """Load the model that `memory.text_model` names, or return None where it names none.

    Without a name torch is not imported.

    Raises:
        EmbeddingError: as for `SentenceEmbedder`.
    """
    return SentenceEmbedder(settings.text_model) if settings.text_model else None


def _pools_first_token(folder: Path) -> bool:
    pooling = _read_json(folder / "1_Pooling" / "config.json")
    ways = [
        way for way, used in pooling.items() if way.startswith("pooling_mode_") and used is True
    ]
    if ways not in ([], ["pooling_mode_mean_tokens"], ["pooling_mode_cls_token"]):
        raise EmbeddingError(
            f"{folder}: pooling {', '.join(ways)} is not supported, only the mean of the tokens or"
            " the first token; choose another model"
        )
    return ways == ["pooling_mode_cls_token"]


def _read_json(file: Path) -> dict[str, object]:
    """Return the contents of a JSON file of the directory, empty if there is no such file."""
    if not file.is_file():
        return {}
    try:
        content = read_json(file)
    except ValueError as error:
        raise EmbeddingError(f"{file}: is not JSON ({error}); download the model again") from error
    if not isinstance(content, dict):
        raise EmbeddingError(f"{file}: is not a JSON object; download the model again")
    return content
