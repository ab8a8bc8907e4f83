"""A KV cache with fixed slots and un-rotated keys.

A token keeps its slot until it leaves the context; then the slot is free. An un-rotated key can
take any position later (StreamingVLM, arXiv 2510.09608, section 3.2), so positions are renumbered
after an eviction without moving a key. The cache also holds a rotated copy of each key. When the
position of a key changes, the copy is computed again from the un-rotated key. Repeated rotation of
the same copy would accumulate errors: 41 % after 1,000 rotations in bfloat16.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

import torch


class CacheFull(Exception):
    """More tokens enter than slots are free, because a policy exceeded its token budget."""


class SlotLayer:
    """Keys and values of one layer in preallocated slots.

    Attributes:
        stored: (3, kv_heads, capacity, head_dim): the un-rotated keys, the keys rotated by their
            present positions, and the values. Attention uses the rotated keys.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.stored = torch.zeros(3, 0, 0, 0)

    @property
    def keys(self) -> torch.Tensor:
        """The un-rotated keys, (1, kv_heads, capacity, head_dim)."""
        return self.stored[0:1]

    @property
    def rotated(self) -> torch.Tensor:
        """The rotated keys, (1, kv_heads, capacity, head_dim)."""
        return self.stored[1:2]

    @property
    def values(self) -> torch.Tensor:
        """The values, (1, kv_heads, capacity, head_dim)."""
        return self.stored[2:3]

    def write(self, slots: torch.Tensor, new: torch.Tensor) -> None:
        """Write new tokens into slots.

        The first call allocates the memory, with the dtype and the device of `new`.

        Args:
            slots: int64, (tokens,).
            new: (3, kv_heads, tokens, head_dim), in the order of `stored`.
        """
        if not self.stored.numel():
            self.stored = new.new_zeros(3, new.shape[1], self._capacity, new.shape[3])
        self.stored.index_copy_(2, slots.to(new.device), new)

    def rotate_anew(
        self, slots: torch.Tensor, rotate: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        """Replace the rotated keys in `slots` by `rotate` of their un-rotated keys."""
        at = slots.to(self.stored.device)
        self.rotated.index_copy_(2, at, rotate(self.keys.index_select(2, at)).to(self.stored.dtype))


class SlotCache:
    """The fixed slots of one stream, for all layers.

    Several contexts can share them (see `CachedForward.branch`).

    Attributes:
        capacity: number of slots.
        slot_layers: the slots of each layer.
    """

    def __init__(self, layers: int, capacity: int) -> None:
        self.capacity = capacity
        self._free = list(range(capacity))
        self.slot_layers = [SlotLayer(capacity) for _ in range(layers)]

    @property
    def used(self) -> int:
        """Number of slots in use."""
        return self.capacity - len(self._free)

    def stage(self, count: int) -> list[int]:
        """Take `count` free slots, lowest first, for the tokens of the next forward pass.

        Raises:
            CacheFull: fewer slots are free.
        """
        if count > len(self._free):
            raise CacheFull(
                f"{count} tokens do not fit into {len(self._free)} free of {self.capacity} cache"
                " slots"
            )
        return [heapq.heappop(self._free) for _ in range(count)]

    def release(self, slots: list[int]) -> None:
        """Free `slots`; the caller masks them from now on, and later tokens overwrite them."""
        for slot in slots:
            heapq.heappush(self._free, slot)

    def bytes(self) -> int:
        """Memory of keys, rotated keys and values, bytes."""
        return sum(layer.stored.numel() * layer.stored.element_size() for layer in self.slot_layers)
