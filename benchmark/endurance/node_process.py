"""The node as a process: started, looked at through /proc, and killed."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_vlm_lab.demo.processes import installed_program

RESPONSE_LOST = "client will not receive response"
"""The middleware's warning if a client has gone, or is not discovered yet."""


@dataclass(frozen=True)
class Sample:
    """The node's process at one moment.

    Attributes:
        age_s: seconds since its start.
        rss_mb: resident memory in MB.
        threads: number of threads.
        descriptors: number of open file descriptors.
    """

    age_s: float
    rss_mb: float
    threads: int
    descriptors: int


class NodeProcess:
    """One life of the node."""

    def __init__(self, namespace: str, log: Path, parameters: dict[str, Any]) -> None:
        words = [
            word for name, value in parameters.items() for word in ("-p", f"{name}:={_yaml(value)}")
        ]
        remaps = ["-r", f"__ns:={namespace}", "-r", f"/diagnostics:={namespace}/diagnostics"]
        self._log = log
        with log.open("ab") as opened:
            self._began = opened.tell()
            self._process = subprocess.Popen(
                [installed_program("stream_vlm_node"), "--ros-args", *remaps, *words],
                stdout=opened,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
        self._started = time.monotonic()

    @property
    def has_ended(self) -> bool:
        """Whether it ended, which only `kill` may do."""
        return self._process.poll() is not None

    def sample(self) -> Sample:
        """Look at the process."""
        folder = Path(f"/proc/{self._process.pid}")
        pages = int((folder / "statm").read_text().split()[1])
        return Sample(
            age_s=round(time.monotonic() - self._started, 1),
            rss_mb=round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1),
            threads=len(list((folder / "task").iterdir())),
            descriptors=len(list((folder / "fd").iterdir())),
        )

    def limit_files(self, size: int | None) -> None:
        """Let no file of the process grow beyond `size` bytes; None removes the limit."""
        _, hard = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(
            self._process.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard)
        )

    def kill(self) -> None:
        """Kill it with SIGKILL, and everything that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def log(self) -> str:
        """What this life wrote."""
        with self._log.open("rb") as opened:
            opened.seek(self._began)
            return opened.read().decode(errors="replace")


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    return str(value) if isinstance(value, (int, float)) else f"'{value}'"
