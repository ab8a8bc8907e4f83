"""The package as a robot builds it: built by colcon in a workspace, sourced, and run."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stream_vlm import extensions

pytest.importorskip("rclpy", reason="colcon builds against ROS 2")

PACKAGE_SOURCES = (
    "CMakeLists.txt",
    "package.xml",
    "setup.py",
    "pyproject.toml",
    "entry_points.txt",
    "msg",
    "srv",
    "action",
    "src",
    "scripts",
    "launch",
    "config",
    "test",
)

ROUND_TRIP = """
import pathlib, sys
import rclpy
import stream_vlm, stream_vlm_ros
from stream_vlm_ros.srv import Recall

for module in (stream_vlm, stream_vlm_ros):
    assert pathlib.Path(module.__file__).is_relative_to(sys.argv[1]), module.__file__

def answer(request, response):
    response.success, response.message, response.total = True, request.text, request.limit
    return response

rclpy.init()
node = rclpy.create_node("round_trip")
node.create_service(Recall, "~/recall", answer)
client = node.create_client(Recall, "~/recall")
assert client.wait_for_service(timeout_sec=20), "the service never appeared"
future = client.call_async(Recall.Request(text="where is the ball", limit=7))
rclpy.spin_until_future_complete(node, future, timeout_sec=20)
assert (future.result().message, future.result().total) == ("where is the ball", 7)
"""

ASK_THE_NODE = """
import rclpy
from lifecycle_msgs.srv import GetState

rclpy.init()
node = rclpy.create_node("asks")
client = node.create_client(GetState, "/stream_vlm/get_state")
assert client.wait_for_service(timeout_sec=60), "stream_vlm_node never offered get_state"
future = client.call_async(GetState.Request())
rclpy.spin_until_future_complete(node, future, timeout_sec=20)
print(future.result().current_state.label)
"""


@pytest.fixture(scope="module")
def install(repository: Path) -> Path:
    """The install folder of a colcon workspace with this package.

    It is kept under build/, so that the next run builds only what changed.
    """
    distribution = os.environ["ROS_DISTRO"]
    subprocess.run(
        [sys.executable, repository / "tools" / "bootstrap.py", distribution, "--colcon"],
        check=True,
    )
    workspace = repository / "build" / distribution / "workspace"
    package = workspace / "src" / "stream_vlm_ros"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir(parents=True)
    for name in PACKAGE_SOURCES:
        source = repository / name
        if source.is_dir():
            shutil.copytree(
                source, package / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
            )
        else:
            shutil.copy2(
                source, package / name
            )  # keeps the modification time, so that unchanged messages are not built again
    colcon = [
        str(repository / "build" / "colcon" / "bin" / "colcon"),
        "build",
        "--event-handlers",
        "console_cohesion+",
    ]
    # ROS is in the venv that runs the tests; colcon has a Python of its own.
    cmake = [
        "--cmake-args",
        "-G",
        "Ninja",
        f"-DPython3_EXECUTABLE={sys.executable}",
        "-DPython3_FIND_VIRTUALENV=ONLY",
    ]
    process = subprocess.run(
        [*colcon, *cmake], cwd=workspace, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return workspace / "install"


def sourced(install: Path, command: str, *arguments: str | Path) -> list[str]:
    """The command line that runs `command` in a shell that has sourced the workspace."""
    return [
        "bash",
        "-c",
        f'. "$0/setup.bash" && exec {command} "$@"',
        str(install),
        *map(str, arguments),
    ]


def test_a_service_of_the_built_package_answers_over_dds(install: Path) -> None:
    process = subprocess.run(
        sourced(install, "python3", "-c", ROUND_TRIP, install),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr


def test_the_built_node_starts_unconfigured(install: Path) -> None:
    executable = install / "stream_vlm_ros" / "lib" / "stream_vlm_ros" / "stream_vlm_node"
    with subprocess.Popen(
        sourced(install, str(executable)), stderr=subprocess.PIPE, text=True
    ) as node:
        try:
            asked = subprocess.run(
                sourced(install, "python3", "-c", ASK_THE_NODE),
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            node.send_signal(signal.SIGINT)
            said = node.communicate()[1]
    assert asked.stdout.strip() == "unconfigured", asked.stderr + said


@pytest.mark.parametrize("folder", ["launch", "config"])
def test_launch_files_and_presets_are_installed_with_the_package(
    install: Path, repository: Path, folder: str
) -> None:
    shipped = {file.name for file in (repository / folder).iterdir() if file.is_file()}
    assert shipped
    assert shipped == {
        file.name
        for file in (install / "stream_vlm_ros" / "share" / "stream_vlm_ros" / folder).iterdir()
    }


def test_the_command_of_the_library_is_on_the_path(install: Path) -> None:
    process = subprocess.run(
        sourced(install, "stream-vlm", "--help"), capture_output=True, text=True, check=False
    )
    assert "usage: stream-vlm" in process.stdout.lower(), process.stderr
    assert set(extensions.LAB_COMMANDS) <= set(process.stdout.split())


def test_colcon_test_runs_the_tests_of_a_room(install: Path, repository: Path) -> None:
    colcon = str(repository / "build" / "colcon" / "bin" / "colcon")
    only_one = ["--ctest-args", "-R", "^config$"]
    for command in (["test", *only_one], ["test-result"]):
        process = subprocess.run(
            [colcon, *command], cwd=install.parent, capture_output=True, text=True, check=False
        )
        assert process.returncode == 0, process.stdout + process.stderr
    total, *rest = re.findall(r"(\d+) (tests|errors|failures)", process.stdout)
    assert int(total[0]) > 10, process.stdout
    assert all(count == "0" for count, _ in rest), process.stdout
