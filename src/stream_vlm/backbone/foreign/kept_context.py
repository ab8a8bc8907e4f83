"""A context in the cache of a Hugging Face model: appends tokens, branches, returns logits."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

Inputs = Mapping[str, torch.Tensor]
"""Tensors of a processor for one row, with `input_ids` (1, tokens)."""

REPLACES_TENSORS = (DynamicLayer, DynamicSlidingWindowLayer)
"""Cache layers that make new tensors at every update, so a branch may share the old ones."""
TYPE_IDS = ("token_type_ids", "mm_token_type_ids")
"""Inputs with a number for each token that says whether it belongs to a picture."""


class KeptContext:
    """The tokens that a model has read, in the cache that the model itself makes.

    Tokens are only appended. What must leave again is fed to a branch.

    Args:
        model: an image-text-to-text model of transformers.

    Attributes:
        cache: the cache; None before the first token.
        length: number of tokens in the context.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._parameters = frozenset(inspect.signature(model.forward).parameters)
        self.cache: Any = None
        self._next_position = 0
        self.length = 0

    def branch(self) -> KeptContext:
        """A context that begins with the same tokens; neither changes the other."""
        branch = KeptContext(self._model)
        branch.continue_from(_branch(self.cache), self.length, self._next_position)
        return branch

    def continue_from(self, cache: Any, length: int, next_position: int) -> None:
        """Continue a context of `length` tokens in `cache`, with the next token at a position."""
        self.cache, self.length, self._next_position = cache, length, next_position

    @torch.inference_mode()
    def feed(self, inputs: Inputs) -> torch.Tensor:
        """Append tokens and run the model.

        Args:
            inputs: what the processor made of a text, with its pictures.

        Returns:
            Logits after the last token, float32, (vocabulary,).

        Raises:
            ValueError: the model returns no cache.
        """
        ids = inputs["input_ids"]
        given: dict[str, Any] = {
            name: value for name, value in inputs.items() if name in self._parameters
        }
        given["attention_mask"] = ids.new_ones((1, self.length + ids.shape[1]))
        positions = self._positions(inputs)
        for name in TYPE_IDS:
            if name in given:
                # Masks count from the first token of the context. Earlier tokens need no type:
                # whatever they are, every later token may attend to them.
                given[name] = torch.nn.functional.pad(given[name], (self.length, 0))
        if positions is not None:
            given["position_ids"] = positions
            given.pop("mm_token_type_ids", None)
        if "logits_to_keep" in self._parameters:
            given["logits_to_keep"] = 1
        outputs = self._model(**given, past_key_values=self.cache, use_cache=True, return_dict=True)
        self.cache = outputs.past_key_values
        if self.cache is None:
            raise ValueError("the model returns no cache")
        self.length += ids.shape[1]
        logits: torch.Tensor = outputs.logits[0, -1].float()
        return logits

    def feed_ids(self, ids: list[int]) -> torch.Tensor:
        """Append the tokens `ids` of a text without pictures; see `feed`."""
        return self.feed({"input_ids": torch.tensor([ids], device=self._model.device)})

    def _positions(self, inputs: Inputs) -> torch.Tensor | None:
        """Rotary positions (3, 1, tokens) of a model with three axes; None for other models.

        Such a model computes wrong positions for a picture after the first tokens, and it keeps
        them in itself, where the streams of all cameras would share them.
        """
        of_model = getattr(self._model.model, "get_rope_index", None)
        if of_model is None:
            return None
        ids = inputs["input_ids"]
        given = {
            name: inputs[name] for name in ("image_grid_thw", "mm_token_type_ids") if name in inputs
        }
        given.setdefault("mm_token_type_ids", torch.zeros_like(ids))
        positions: torch.Tensor = of_model(ids, **given)[0] + self._next_position
        self._next_position = int(positions.max()) + 1
        return positions


def _branch(cache: Any) -> Any:
    if type(cache) is not DynamicCache:
        return copy.deepcopy(cache)
    branch = copy.copy(cache)
    branch.layers = [
        copy.copy(layer) if type(layer) in REPLACES_TENSORS else copy.deepcopy(layer)
        for layer in cache.layers
    ]
    return branch
