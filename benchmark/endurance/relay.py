"""A link with delay and loss between two network namespaces, without a kernel module.

Used where the kernel has no `netem`. The program holds two TUN devices and moves each packet from
one to the other: late, or not at all. It runs until SIGTERM and then prints its counters.

    python relay.py NEAR FAR --delay-ms 60 --jitter-ms 20 --loss 0.02 --seed 1
"""

from __future__ import annotations

import argparse
import fcntl
import heapq
import itertools
import json
import os
import random
import select
import signal
import struct
import sys
import time

SET_INTERFACE = 0x400454CA
"""The request TUNSETIFF of <linux/if_tun.h>."""
TUN, NO_PACKET_INFO = 0x0001, 0x1000
LARGEST_PACKET = 65536
QUEUE = 10_000
"""Most packets on their way; more are lost, as on a real link."""


def open_device(name: str) -> int:
    """Make the TUN device `name` in this network namespace and return its file descriptor."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, SET_INTERFACE, struct.pack("16sH", name.encode(), TUN | NO_PACKET_INFO))
    return device


class Relay:
    """Moves packets between two devices.

    Attributes:
        forwarded: packets that arrived.
        lost: packets that were dropped by chance, or because too many were on their way.
    """

    def __init__(self, near: int, far: int, options: argparse.Namespace) -> None:
        self._other = {near: far, far: near}
        self._options = options
        self._random = random.Random(options.seed)
        self._on_the_way: list[tuple[float, int, int, bytes]] = []
        self._number = itertools.count()
        self.stopped = False
        self.forwarded = self.lost = 0

    def run(self) -> None:
        """Move packets until `stopped`."""
        while not self.stopped:
            now = time.monotonic()
            wait_s = min(0.2, max(0.0, self._on_the_way[0][0] - now)) if self._on_the_way else 0.2
            ready, _, _ = select.select(list(self._other), [], [], wait_s)
            for device in ready:
                self._take(device)
            self._deliver()

    def _take(self, device: int) -> None:
        while True:
            try:
                packet = os.read(device, LARGEST_PACKET)
            except BlockingIOError:
                return
            if len(self._on_the_way) >= QUEUE or self._random.random() < self._options.loss:
                self.lost += 1
                continue
            jitter = self._random.uniform(-1.0, 1.0) * self._options.jitter_ms
            due = time.monotonic() + max(0.0, self._options.delay_ms + jitter) / 1e3
            item = (due, next(self._number), self._other[device], packet)
            heapq.heappush(self._on_the_way, item)

    def _deliver(self) -> None:
        while self._on_the_way and self._on_the_way[0][0] <= time.monotonic():
            _, _, device, packet = heapq.heappop(self._on_the_way)
            try:
                os.write(device, packet)
                self.forwarded += 1
            except (BlockingIOError, OSError):  # the device is down or its queue is full
                self.lost += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("near")
    parser.add_argument("far")
    parser.add_argument("--delay-ms", type=float, default=60.0)
    parser.add_argument("--jitter-ms", type=float, default=20.0)
    parser.add_argument("--loss", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    relay = Relay(open_device(options.near), open_device(options.far), options)

    def stop(*_: object) -> None:
        relay.stopped = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("ready", flush=True)
    relay.run()
    print(json.dumps({"packets": relay.forwarded, "lost": relay.lost}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
