"""A KV cache of fixed slots: what stays is never moved, what leaves frees its slots, and keys are
stored un-rotated.

Keys without rotation can take any position later (StreamingVLM, arXiv 2510.09608, section 3.2), so
positions are renumbered after an eviction without moving a key. Beside each key stands its rotated
copy, made anew from the un-rotated one whenever its position changes: rotating a rotated key again
and again would drift, 41 % after 1,000 times in bfloat16.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

import torch


class CacheFull(Exception):
    """More tokens were to enter than slots are free: the context policy let the context outgrow its
    budget.
    """


class SlotLayer:
    """Keys and values of one layer in preallocated slots.

    Attributes:
        stored: (3, kv_heads, capacity, head_dim): un-rotated keys, the same keys rotated by the
            positions they hold now, which is what attention compares, and values.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.stored = torch.zeros(3, 0, 0, 0)

    @property
    def keys(self) -> torch.Tensor:
        """(1, kv_heads, capacity, head_dim), un-rotated."""
        return self.stored[0:1]

    @property
    def rotated(self) -> torch.Tensor:
        """(1, kv_heads, capacity, head_dim), rotated."""
        return self.stored[1:2]

    @property
    def values(self) -> torch.Tensor:
        """(1, kv_heads, capacity, head_dim), as computed."""
        return self.stored[2:3]

    def write(self, slots: torch.Tensor, new: torch.Tensor) -> None:
        """Write `new`, (3, kv_heads, tokens, head_dim) as in `stored`, into `slots`, int64
        (tokens,).

        The first call allocates in the shape, dtype and device of what it writes.
        """
        if not self.stored.numel():
            self.stored = new.new_zeros(3, new.shape[1], self._capacity, new.shape[3])
        self.stored.index_copy_(2, slots.to(new.device), new)

    def rotate_anew(
        self, slots: torch.Tensor, rotate: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        """Replace the rotated copies in `slots` by what `rotate` makes of the un-rotated keys."""
        at = slots.to(self.stored.device)
        self.rotated.index_copy_(2, at, rotate(self.keys.index_select(2, at)).to(self.stored.dtype))


class SlotCache:
    """The fixed slots of one stream, which one or several contexts share (see
    `CachedForward.branch`).

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
            raise CacheFull(
                f"{count} tokens do not fit into {len(self._free)} free of {self.capacity} cache"
                " slots"
            )
        return [heapq.heappop(self._free) for _ in range(count)]

    def release(self, slots: list[int]) -> None:
        """Free `slots`; who held them masks them from now on, and they are overwritten later."""
        for slot in slots:
            heapq.heappush(self._free, slot)

    def bytes(self) -> int:
        """Memory held by keys, their rotated copies and values."""
        return sum(layer.stored.numel() * layer.stored.element_size() for layer in self.slot_layers)
