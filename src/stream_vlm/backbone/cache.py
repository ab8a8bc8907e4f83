"""A KV cache of fixed slots: what stays is never moved, what leaves frees its slots, and keys are stored un-rotated.

Keys without rotation can take any position later (StreamingVLM, arXiv 2510.09608, section 3.2), so positions are renumbered after an eviction
without moving a key. Beside each key stands its rotated copy, made anew from the un-rotated one whenever its position changes: rotating a
rotated key again and again would drift, 41 % after 1,000 times in bfloat16.
"""

from __future__ import annotations

import heapq

import torch


class CacheFull(Exception):
    """More tokens were to enter than slots are free: the context policy let the context outgrow its budget."""


class SlotLayer:
    """Keys and values of one layer in preallocated slots, each (1, kv_heads, capacity, head_dim).

    Attributes:
        keys: un-rotated.
        rotated: the same keys rotated by the positions they hold now, which is what attention compares.
        values: as computed.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.is_allocated = False
        self.keys = self.rotated = self.values = torch.zeros(0)

    def write(self, slots: torch.Tensor, keys: torch.Tensor, rotated: torch.Tensor, values: torch.Tensor) -> None:
        """Write new tokens into `slots`, int64 (tokens,); the first call allocates in the shape, dtype and device of its keys."""
        if not self.is_allocated:
            batch, heads, _, head_dim = keys.shape
            self.keys, self.rotated, self.values = (keys.new_zeros(batch, heads, self._capacity, head_dim) for _ in range(3))
            self.is_allocated = True
        slots = slots.to(keys.device)
        self.keys.index_copy_(2, slots, keys)
        self.rotated.index_copy_(2, slots, rotated.to(keys.dtype))
        self.values.index_copy_(2, slots, values)


class SlotCache:
    """The fixed slots of one stream, which one or several contexts share (see `CachedForward.branch`).

    Attributes:
        capacity: number of slots.
    """

    def __init__(self, layers: int, capacity: int) -> None:
        self.capacity = capacity
        self._free = list(range(capacity))
        self.slot_layers = [SlotLayer(capacity) for _ in range(layers)]

    @property
    def used(self) -> int:
        """How many slots hold a token."""
        return self.capacity - len(self._free)

    def stage(self, count: int) -> list[int]:
        """Take `count` free slots, lowest first, for the tokens of the next forward.

        Raises:
            CacheFull: fewer are free.
        """
        if count > len(self._free):
            raise CacheFull(f"{count} tokens do not fit into {len(self._free)} free of {self.capacity} cache slots")
        return [heapq.heappop(self._free) for _ in range(count)]

    def release(self, slots: list[int]) -> None:
        """Free `slots`; who held them masks them from now on, and they are overwritten later."""
        for slot in slots:
            heapq.heappush(self._free, slot)

    def bytes(self) -> int:
        """Memory held by keys, their rotated copies and values."""
        return sum(tensor.numel() * tensor.element_size() for layer in self.slot_layers for tensor in (layer.keys, layer.rotated, layer.values))
