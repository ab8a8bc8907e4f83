"""Namespaces of our own: whatever happens, nothing of a run stays on the computer.

The run is repeated inside new mount, network and process namespaces (`unshare`). The kernel ends
all processes, mounts and network devices in them when the first process ends, also after SIGKILL.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

INSIDE = "STREAM_VLM_ENDURANCE_INSIDE"
"""Environment variable: set inside the namespaces."""
END_S = 60.0
"""How long an interrupted run may take to write its report, seconds."""
DELAY_MS, JITTER_MS, LOSS = 60.0, 20.0, 0.02
"""Of the link, in each direction."""
FAR = "far"
NEAR_DEVICE, FAR_DEVICE = "near0", "far0"
NEAR_ADDRESS, FAR_ADDRESS = "10.213.0.1", "10.213.0.2"


def _flags() -> list[str]:
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return [
        "unshare",
        *user,
        *["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"],
    ]


def is_possible() -> bool:
    """Whether this user may make namespaces here."""
    try:
        tried = subprocess.run([*_flags(), "true"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0


def run_inside(command: Sequence[str]) -> int:
    """Run `command` in new namespaces and return its exit code.

    SIGINT and SIGTERM reach it as SIGINT; if it does not end then, everything is killed.
    """
    process = subprocess.Popen(
        [*_flags(), *command], env=os.environ | {INSIDE: "1"}, start_new_session=True
    )

    deadlines: list[float] = []

    def interrupt(*_: object) -> None:
        deadlines.append(time.monotonic() + END_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    while True:
        try:
            return process.wait(0.5)
        except subprocess.TimeoutExpired:
            if deadlines and time.monotonic() > deadlines[0]:
                process.kill()  # its child, the first process of the namespaces, dies with it


def prepare_inside() -> None:
    """Give the namespaces their own loopback device, shared memory and list of namespaces."""
    _run("ip link set lo up")
    _run("ip link set lo multicast on")
    _run("mount -t tmpfs -o size=512m tmpfs /dev/shm")
    Path("/run/netns").mkdir(parents=True, exist_ok=True)
    _run("mount -t tmpfs tmpfs /run/netns")
    # After five `kill -9` of a process that shares memory with this one, nothing from here reached
    # the sixth over shared memory. What is measured is the node, not this transport.
    os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")


def mount_disk(folder: Path, megabytes: int) -> None:
    """Mount a small disk in RAM on `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    _run(f"mount -t tmpfs -o size={megabytes}m tmpfs {folder}")


def unmount(folder: Path) -> None:
    """Give the disk back."""
    _run(f"umount --lazy {folder}")


class Link:
    """A second network namespace behind a link with delay and loss.

    It must exist before anything that shall use it starts, because the middleware looks for network
    devices at its start only.

    Attributes:
        by: "tc netem" or "relay in user space", whichever this kernel can do.
        counters: packets that arrived and were lost; only the relay counts them.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._relay: subprocess.Popen[str] | None = None
        self.by = ""
        self.counters: dict[str, int] = {}

    def open(self) -> None:
        """Make the namespace and the link."""
        _run(f"ip netns add {FAR}")
        if not self._with_netem():
            self._with_relay()
        _run(f"ip addr add {NEAR_ADDRESS}/24 dev {NEAR_DEVICE}")
        _run(f"ip link set {NEAR_DEVICE} up multicast on")
        for words in (
            "link set lo up",
            f"addr add {FAR_ADDRESS}/24 dev {FAR_DEVICE}",
            f"link set {FAR_DEVICE} up multicast on",
        ):
            _run(f"ip -n {FAR} {words}")

    def close(self) -> None:
        """Remove both."""
        if self._relay is not None:
            self._relay.terminate()
            said = self._relay.communicate(timeout=10)[0].splitlines()
            self.counters = json.loads(said[-1]) if said else {}
        with suppress(subprocess.CalledProcessError):
            _run(f"ip link del {NEAR_DEVICE}")
        _run(f"ip netns del {FAR}")

    def command(self, words: Sequence[str]) -> list[str]:
        """The command that runs `words` in the other namespace."""
        return ["ip", "netns", "exec", FAR, *words]

    def _with_netem(self) -> bool:
        netem = f"root netem delay {DELAY_MS:g}ms {JITTER_MS:g}ms loss {100 * LOSS:g}%"
        _run(f"ip link add {NEAR_DEVICE} type veth peer name {FAR_DEVICE} netns {FAR}")
        try:
            _run(f"tc qdisc add dev {NEAR_DEVICE} {netem}")
            _run(f"ip netns exec {FAR} tc qdisc add dev {FAR_DEVICE} {netem}")
        except (subprocess.CalledProcessError, FileNotFoundError):
            _run(f"ip link del {NEAR_DEVICE}")
            return False
        self.by = "tc netem"
        return True

    def _with_relay(self) -> None:
        script = str(Path(__file__).with_name("relay.py"))
        words = f"{NEAR_DEVICE} {FAR_DEVICE} --delay-ms {DELAY_MS} --jitter-ms {JITTER_MS}"
        self._relay = subprocess.Popen(
            [sys.executable, script, *f"{words} --loss {LOSS} --seed {self._seed}".split()],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._relay.stdout is not None
        if self._relay.stdout.readline() != "ready\n":
            raise RuntimeError(
                "the relay between the namespaces did not start; see its error above"
            )
        _run(f"ip link set {FAR_DEVICE} netns {FAR}")
        self.by = "relay in user space"


def _run(words: str) -> None:
    subprocess.run(words.split(), check=True, capture_output=True, text=True)
