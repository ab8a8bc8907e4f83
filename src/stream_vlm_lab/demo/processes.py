"""The processes of the demo: started on a private ROS domain, and always ended."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from ament_index_python.packages import PackageNotFoundError, get_package_prefix

from stream_vlm.types import StreamError

PACKAGE = "stream_vlm_ros"
LOG_LINES = 12
"""Number of log lines that are shown when a process failed."""
EXIT_TIMEOUT_S = 10.0
"""How long a process may take to exit after each signal, in seconds."""


INTERRUPTED = threading.Event()
"""Set when a signal asked the demo to end."""


def interrupt(*_: object) -> None:
    """Signal handler that ends the demo.

    The exception is not enough: if it is raised inside a callback of the middleware, it is lost
    there. `DemoProcesses.running`, which every wait calls, raises it again.
    """
    INTERRUPTED.set()
    raise KeyboardInterrupt


class DemoError(StreamError):
    """The demo cannot continue; the message names the failed part and has the end of its log."""


def use_private_domain() -> int:
    """Set a ROS domain for this process and its children, on this machine only; returns its id."""
    # Domains 1 to 101 do not use Linux's ephemeral ports. The process id gives two demos on one
    # machine different domains.
    domain = 1 + os.getpid() % 101
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.pop("ROS_LOCALHOST_ONLY", None)
    return domain


def installed_program(name: str) -> str:
    """Path of an executable of this package, as `ros2 run` finds it.

    Raises:
        DemoError: the package is not built, or its environment is not active.
    """
    try:
        path = Path(get_package_prefix(PACKAGE)) / "lib" / PACKAGE / name
    except PackageNotFoundError as error:
        raise DemoError(
            f"{PACKAGE} is not installed here; run 'make build', or build with colcon and source"
            " install/setup.bash"
        ) from error
    if not path.exists():
        raise DemoError(f"{path}: missing from the installed package; build it again")
    return str(path)


@dataclass
class DemoProcesses:
    """Starts processes and ends them all on exit; use it as a context manager.

    Attributes:
        folder: folder of the logs.
    """

    folder: Path
    _processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def __enter__(self) -> DemoProcesses:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name in reversed(self._processes):
            self.end(name)

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start `command` as the process `name`.

        It writes its log to NAME.log and its standard output to NAME.out.
        """
        # In a new session Ctrl-C does not reach the process; the demo ends it in order.
        with self._log(name).open("w") as log, self._output(name).open("w") as output:
            self._processes[name] = subprocess.Popen(
                list(command), stdout=output, stderr=log, text=True, start_new_session=True
            )

    def output(self, name: str) -> str:
        """Standard output of the process so far."""
        return self._output(name).read_text(encoding="utf-8", errors="replace")

    def running(self, name: str) -> bool:
        """Whether the process is running.

        Raises:
            DemoError: it ended with an error.
            KeyboardInterrupt: a signal asked the demo to end.
        """
        if INTERRUPTED.is_set():
            raise KeyboardInterrupt
        status = self._processes[name].poll()
        if status is None:
            return True
        if status != 0:
            raise self.failure(name, f"ended with status {status}")
        return False

    def failure(self, name: str, what: str) -> DemoError:
        """Make an error that says `what` about a process, with the end of its log."""
        lines = (
            (self._log(name).read_text(encoding="utf-8", errors="replace") + self.output(name))
            .strip()
            .splitlines()
        )
        tail = "\n  ".join(lines[-LOG_LINES:]) or "(the log is empty)"
        return DemoError(f"{name} {what}; the end of {self._log(name)}:\n  {tail}")

    def end(self, name: str) -> int:
        """End the process with SIGINT, then SIGTERM, then SIGKILL; returns its exit status."""
        process = self._processes[name]
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                process.send_signal(number)
                deadline = time.monotonic() + EXIT_TIMEOUT_S
                while process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.02)
        return process.wait()

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _output(self, name: str) -> Path:
        return self.folder / f"{name}.out"
