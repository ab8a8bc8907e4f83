"""The processes of the demo: started on a private ROS domain, watched, and ended whatever happens."""

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
LAST_LINES = 12
"""Of a log, shown when its process failed."""
PATIENCE_S = 10.0
"""How long a process may take to leave in good order."""


INTERRUPTED = threading.Event()
"""Set once a signal asked the demo to end."""


def interrupt(*_: object) -> None:
    """Signal handler: end the demo.

    The exception alone is not enough: one that is raised while the middleware calls back into
    Python is swallowed there, and the demo would play on. `Stage.running`, which every wait asks,
    raises it again.
    """
    INTERRUPTED.set()
    raise KeyboardInterrupt


class DemoError(StreamError):
    """The demo cannot go on; the message names the part that broke and shows the end of its log."""


def use_private_domain() -> int:
    """Set a ROS domain of our own, on this machine only, for this process and those it starts;
    return its id.
    """
    # 1 to 101 keep clear of Linux's ephemeral ports; the process id tells two demos on one machine
    # apart.
    domain = 1 + os.getpid() % 101
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.pop("ROS_LOCALHOST_ONLY", None)
    return domain


def installed_program(name: str) -> str:
    """Return the path of an executable of this package, as `ros2 run` would find it.

    Raises:
        DemoError: the package is not built, or its environment is not entered.
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
class Stage:
    """Starts processes with their logs in `folder` and ends them all on leaving; use it as a
    context manager.
    """

    folder: Path
    _processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def __enter__(self) -> Stage:
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
        """Start `command` as the process `name`; it writes to NAME.log, its standard output to
        NAME.out.
        """
        # A session of its own: Ctrl-C reaches the demo, which then ends its processes in order.
        with self._log(name).open("w") as log, self._output(name).open("w") as output:
            self._processes[name] = subprocess.Popen(
                list(command), stdout=output, stderr=log, text=True, start_new_session=True
            )

    def output(self, name: str) -> str:
        """What the process has written to its standard output so far."""
        return self._output(name).read_text(encoding="utf-8", errors="replace")

    def running(self, name: str) -> bool:
        """True while the process runs.

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
        """The error that says `what` about a process, with the end of its log."""
        lines = (
            (self._log(name).read_text(encoding="utf-8", errors="replace") + self.output(name))
            .strip()
            .splitlines()
        )
        tail = "\n  ".join(lines[-LAST_LINES:]) or "(it logged nothing)"
        return DemoError(f"{name} {what}; the end of {self._log(name)}:\n  {tail}")

    def end(self, name: str) -> int:
        """Ask the process to leave, then insist; return its exit status."""
        process = self._processes[name]
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                process.send_signal(number)
                deadline = time.monotonic() + PATIENCE_S
                while process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.02)
        return process.wait()

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _output(self, name: str) -> Path:
        return self.folder / f"{name}.out"
