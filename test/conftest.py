"""What every test file shares: a ROS domain of its own and the places of the repository."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from places import REPOSITORY, SHARED

if TYPE_CHECKING:
    from stream_vlm.memory.memory import Memory

FIRST_FILES = (
    "test/repository/test_colcon.py",
    "test/repository/test_endurance_run.py",
    "test/lab/demo/test_demo_run.py",
    "test/repository/test_benchmarks_run.py",
    "test/examples/test_examples.py",
    "test/ros/camera_source/test_node.py",
    "test/ros/requests/test_watch_action.py",
    "test/ros/test_bad_input.py",
    "test/ros/requests/test_summary_services.py",
    "test/lab/training/finetune/test_command.py",
    "test/ros/test_node.py",
    "test/ros/requests/test_ask_action.py",
    "test/ros/test_signals.py",
    "test/ros/test_real_checkpoints.py",
    "test/lab/training/shipped_model/test_make.py",
    "test/ros/requests/test_memory_services.py",
    "test/lab/training/test_train.py",
    "test/ros/test_silent_frame.py",
    "test/ros/test_load_shedding.py",
    "test/memory/test_crash.py",
)
"""Files that take long, the longest first: where several processes share the tests, they come
first, so that all processes end at about the same time.
"""

DOMAINS = 101
"""Ids from 1 to 101 leave domain 0 to robots; their ports stay clear of Linux's ephemeral range."""


def ros_domain() -> int:
    """A ROS domain for the nodes of this process, which nobody's robot and no other process uses.

    With `pytest -n` every process gets the next one after that of the first.
    """
    process = os.environ.get("PYTEST_XDIST_WORKER")
    if process is None:
        return random.SystemRandom().randint(1, DOMAINS)
    number = int(process.removeprefix("gw"))
    return (int(os.environ["ROS_DOMAIN_ID"]) + number) % DOMAINS + 1


# Before anything imports rclpy, and inherited by every process that a test starts.
os.environ["ROS_DOMAIN_ID"] = str(ros_domain())
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
    """Share the tests among processes by files, so that a file's fixtures are made once."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put `FIRST_FILES` first in the processes of `pytest -n`."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = {REPOSITORY / name: number for number, name in enumerate(FIRST_FILES)}
        assert all(path.is_file() for path in place), "FIRST_FILES names a file that is not there"
        items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture
def fresh_accelerator() -> Iterator[None]:
    """accelerate keeps one state a process; each training of a test begins without."""
    from accelerate.state import AcceleratorState

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
