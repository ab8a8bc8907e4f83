"""What every test file shares: a ROS domain of its own and the places of the repository."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from places import REPOSITORY, SHARED

if TYPE_CHECKING:
    from stream_vlm.memory.memory import Memory

# Before anything imports rclpy, and inherited by every process a test starts: nobody's robot hears
# a test, and no test hears a robot. 0 to 101 are the domain ids whose ports stay clear of Linux's
# ephemeral range.
if (
    "PYTEST_XDIST_WORKER" not in os.environ
):  # a worker has its parent's: the tests that use it all run in one
    os.environ["ROS_DOMAIN_ID"] = str(random.SystemRandom().randint(1, 101))
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

# Small models on several threads beside other busy processes wait for each other most of the time;
# inherited like the domain.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_report_header() -> str:
    """Say which domain this run has, so that its nodes can be looked at while it hangs."""
    return (
        f"ROS_DOMAIN_ID={os.environ['ROS_DOMAIN_ID']}"
        f" ROS_DISTRO={os.environ.get('ROS_DISTRO', 'none')}"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share the tests among processes by files.

    All files that may start ROS nodes fall to one process, so that no node meets another's.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _scope(nodeid.split("::", 1)[0])

    return ByFile(config, log)


@cache
def _scope(file: str) -> str:
    text = (REPOSITORY / file).read_text()
    return (
        "ros"
        if any(name in text for name in ("rclpy", "stream_vlm_ros", "stream_vlm_lab.demo"))
        else file
    )


@pytest.fixture
def fresh_accelerator() -> Iterator[None]:
    """accelerate keeps one state a process; each training of a test begins without."""
    from accelerate.state import AcceleratorState  # type: ignore[import-untyped]

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test's memory is, if it keeps one."""
    return tmp_path / "memory.db"


@pytest.fixture
def memory(file: Path) -> Iterator[Memory]:
    """That memory, open, with a session begun."""
    from memory_fixtures import begin, settings

    from stream_vlm.memory.memory import Memory

    with Memory.open(settings(file)) as opened:
        begin(opened)
        yield opened


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout's root."""
    return REPOSITORY


@pytest.fixture(scope="session")
def footage() -> Path:
    """The folder of real clips beside the checkout; a test that needs it is skipped without it."""
    folder = SHARED / "footage"
    if not folder.is_dir():
        pytest.skip(f"no real footage at {folder}")
    return folder
