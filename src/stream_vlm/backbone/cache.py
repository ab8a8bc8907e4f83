"""A KV cache of fixed slots: what stays is never moved, what leaves frees its slots, and keys are stored un-rotated.

Keys without rotation can take any position later (StreamingVLM, arXiv 2510.09608, section 3.2), so positions are renumbered after an eviction
without touching a key. Rotating a stored key again and again would drift instead: 41 % after 1,000 times in bfloat16.
"""

from __future__ import annotations

import heapq
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


class CacheFull(Exception):
    """More tokens were to enter than slots are free: the context policy let the context outgrow its budget."""


class SlotLayer(CacheLayerMixin):
    """Keys and values of one layer in preallocated slots.

    `keys`, `values`: (1, kv_heads, capacity, head_dim); keys are un-rotated.
    """

    is_sliding = False

    def __init__(self, owner: SlotCache) -> None:
        super().__init__()
        self._owner = owner

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor | None = None) -> None:
        """Allocate the slots in the shape, dtype and device of the first keys."""
        batch, heads, _, head_dim = key_states.shape
        self.keys = key_states.new_zeros(batch, heads, self._owner.capacity, head_dim)
        self.values = key_states.new_zeros(batch, heads, self._owner.capacity, head_dim)
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new keys and values into the staged slots and return all slots in use, as views."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        slots, extent = self._owner.staged, self._owner.extent
        self.keys.index_copy_(2, slots, key_states)
        self.values.index_copy_(2, slots, value_states)
        return self.keys[:, :, :extent], self.values[:, :, :extent]

    def get_seq_length(self) -> int:
        return self._owner.extent

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._owner.extent, 0

    def get_max_length(self) -> int:
        return self._owner.capacity

    def get_max_cache_shape(self) -> int:
        """The same under the name that earlier releases of transformers call."""
        return self._owner.capacity


class SlotCache(Cache):
    """Fixed-slot KV cache of one stream.

    Attributes:
        capacity: number of slots.
        extent: number of leading slots that attention looks at; free ones among them are masked.
        staged: int64 slots that the next forward writes.
    """

    def __init__(self, layers: int, capacity: int, device: torch.device) -> None:
        self.capacity = capacity
        self.extent = 0
        self.staged = torch.zeros(0, dtype=torch.long, device=device)
        self.valid = torch.zeros(capacity, dtype=torch.bool, device=device)
        self._free = list(range(capacity))
        self._used: set[int] = set()
        self.slot_layers = [SlotLayer(self) for _ in range(layers)]
        super().__init__(layers=list[Any](self.slot_layers))

    @property
    def used(self) -> int:
        """How many slots hold a token."""
        return len(self._used)

    def stage(self, count: int) -> list[int]:
        """Take `count` free slots, lowest first, for the tokens of the next forward.

        Raises:
            CacheFull: fewer are free.
        """
        if count > len(self._free):
            raise CacheFull(f"{count} tokens do not fit into {len(self._free)} free of {self.capacity} cache slots")
        slots = [heapq.heappop(self._free) for _ in range(count)]
        self._used.update(slots)
        self.extent = max(self._used) + 1
        self.staged = torch.tensor(slots, dtype=torch.long, device=self.valid.device)
        self.valid[self.staged] = True
        return slots

    def release(self, slots: list[int]) -> None:
        """Free `slots`; their contents are masked at once and overwritten later."""
        if not slots:
            return
        self.valid[torch.tensor(slots, dtype=torch.long, device=self.valid.device)] = False
        self._used.difference_update(slots)
        for slot in slots:
            heapq.heappush(self._free, slot)
        self.extent = max(self._used) + 1 if self._used else 0

    def clear(self) -> None:
        """Free every slot."""
        self.release(sorted(self._used))

    def bytes(self) -> int:
        """Memory held by keys and values."""
        tensors = [tensor for layer in self.slot_layers for tensor in (layer.keys, layer.values) if tensor is not None]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
