"""Forward passes with fixed shapes, which CUDA can capture as a graph and replay.

The forward passes of a stream have few sizes: silent turns have the same number of tokens, and
decoding takes one token. On CUDA a forward pass of a frequent size is captured as a graph once and
then replayed, which saves the launch of each kernel. On a CPU the same fixed shapes run without a
graph. Attention also has a fixed shape: it covers all slots of the cache, and empty slots are
masked.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any

import torch

from stream_vlm.backbone.kv_cache.slot_attention import Share, run_layers

SEEN_BEFORE = 2
"""A size is captured after it has come this often."""
MOST_SIZES = 4
"""The most captured sizes of a stream; the least recently used one is dropped first."""


class StaticForward:
    """Runs forward passes with one fixed number of tokens over one cache.

    Inputs are copied into fixed buffers, because a graph reads and writes the same memory in each
    replay.
    """

    def __init__(self, model: Any, embeddings: torch.Tensor, share: Share, levels: int) -> None:
        self._model = model
        self._embeddings = torch.zeros_like(embeddings)
        self._deepstack = [torch.zeros_like(embeddings) for _ in range(levels)]
        capacity = share.cache.capacity
        mask = torch.zeros(
            *share.mask.shape[:-1], capacity, dtype=torch.bool, device=share.mask.device
        )
        rotation = (torch.zeros_like(share.rotation[0]), torch.zeros_like(share.rotation[1]))
        self._share = Share(
            0,
            share.end - share.begin,
            torch.zeros_like(share.reads),
            share.cache,
            torch.zeros_like(share.staged),
            capacity,
            mask,
            rotation,
        )
        self._graph: Any = None
        self._logits: torch.Tensor | None = None

    def run(
        self, embeddings: torch.Tensor, share: Share, deepstack: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Run the model; see `slot_attention.run_layers` for the arguments.

        Returns:
            Logits (contexts, vocabulary) after the last token of each context, in the model's
            dtype.
        """
        self._embeddings.copy_(embeddings)
        for buffer, level in zip(self._deepstack, deepstack, strict=True):
            buffer.copy_(level)
        self._share.reads.copy_(share.reads)
        self._share.staged.copy_(share.staged)
        self._share.mask[..., : share.extent].copy_(share.mask)
        self._share.mask[..., share.extent :] = False
        for own, new in zip(self._share.rotation, share.rotation, strict=True):
            own.copy_(new)
        if embeddings.device.type != "cuda":
            return self._forward()
        if self._graph is None:
            self._record()
        self._graph.replay()
        assert self._logits is not None
        return self._logits.clone()

    def _forward(self) -> torch.Tensor:
        hidden = run_layers(
            self._model.model.language_model, self._embeddings, [self._share], self._deepstack
        )
        logits: torch.Tensor = self._model.lm_head(hidden)[0]
        return logits

    def _record(self) -> None:
        """Capture the graph, after a few warm-up runs on a second CUDA stream as CUDA requires.

        Each run writes the same keys into the same slots.
        """
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._forward()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._logits = self._forward()


class StaticForwards:
    """The fixed-shape forward passes of one cache, by numbers of tokens and of contexts."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._seen: Counter[tuple[int, ...]] = Counter()
        self._kept: OrderedDict[tuple[int, ...], StaticForward] = OrderedDict()

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def run(
        self, embeddings: torch.Tensor, share: Share, deepstack: Sequence[torch.Tensor]
    ) -> torch.Tensor | None:
        """Run the model as `StaticForward.run`; returns None while this size is still rare."""
        size = (embeddings.shape[1], len(deepstack), len(share.reads))
        forward = self._kept.get(size)
        if forward is None:
            self._seen[size] += 1
            if self._seen[size] <= SEEN_BEFORE:
                return None
            forward = self._kept[size] = StaticForward(
                self._model, embeddings, share, len(deepstack)
            )
            if len(self._kept) > MOST_SIZES:
                rare, _ = self._kept.popitem(last=False)
                self._seen[rare] = 0
        self._kept.move_to_end(size)
        return forward.run(embeddings, share, deepstack)
