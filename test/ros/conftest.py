"""The fixture that most tests of the node share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ros_fixtures import Robot


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[Robot]:
    """A test robot; a test starts the node with its own parameters."""
    # Imported here, because some tests of this folder run without ROS.
    from ros_fixtures import robot_in

    with robot_in(tmp_path) as made:
        yield made
