"""What leaves the checkout: the pip package, the ROS package's manifest, and files that speak only
of the project.
"""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest


def run(command: Sequence[str | Path], **environment: str) -> str:
    """Output of a command that must succeed; `environment` adds variables to ours."""
    process = subprocess.run(
        list(command),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="session")
def installed(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `pip install .` put the library, without its requirements and without the build that
    the other tests run on.
    """
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in tracked_files(repository):
        if name.startswith("src/") or name in ("setup.py", "pyproject.toml", "LICENSE"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((repository / name).read_bytes())
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
    ]
    run([*pip, "--target", target, source])
    return target


def tracked_files(repository: Path) -> list[str]:
    """Files that git would carry: tracked ones and new ones it does not ignore."""
    listed = run(
        ["git", "-C", repository, "ls-files", "--cached", "--others", "--exclude-standard"]
    ).splitlines()
    return [name for name in listed if (repository / name).is_file()]


def test_pip_installs_the_library_and_not_the_ros_edge(installed: Path) -> None:
    assert (installed / "stream_vlm" / "types.py").is_file()
    assert not (installed / "stream_vlm_ros").exists()


def test_pip_installs_every_asset(installed: Path, repository: Path) -> None:
    assets = [
        name.removeprefix("src/")
        for name in tracked_files(repository)
        if name.startswith("src/stream_vlm/assets/")
    ]
    assert [name for name in assets if not (installed / name).is_file()] == []


def test_the_installed_command_starts_without_ros_on_the_path(installed: Path) -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(installed)!r}); sys.argv = ['stream-vlm', '--help']\n"
    )
    script += (
        "import stream_vlm; assert stream_vlm.__file__.startswith(sys.path[0]),"
        " stream_vlm.__file__\n"
    )
    script += "sys.modules['rclpy'] = None\nfrom stream_vlm.cli import main; sys.exit(main())\n"
    assert "usage: stream-vlm" in run([sys.executable, "-c", script]).lower()


def imported_distributions(source: Path) -> set[str]:
    """Names on the package index of everything foreign that the modules under `source` import when
    they are imported.
    """
    roots: set[str] = set()
    for file in source.rglob("*.py"):
        for statement in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.Import):
                roots.update(alias.name.partition(".")[0] for alias in statement.names)
            elif isinstance(statement, ast.ImportFrom) and statement.module:
                roots.add(statement.module.partition(".")[0])
    providers = importlib.metadata.packages_distributions()
    foreign = roots - sys.stdlib_module_names - {source.name}
    return {
        re.sub(r"[-_.]+", "-", name).lower()
        for root in foreign
        for name in providers.get(root, [root])
    }


@pytest.mark.parametrize("place", ["requirements/library.txt", "setup.py", "docs/install.md"])
def test_every_library_that_is_imported_is_declared(repository: Path, place: str) -> None:
    from_rosdep = (
        {"numpy", "matplotlib", "opencv-python-headless", "tqdm"}
        if place == "docs/install.md"
        else set()
    )
    named = set(re.findall(r"[a-z][a-z0-9-]+", (repository / place).read_text().lower()))
    assert imported_distributions(repository / "src" / "stream_vlm") - from_rosdep - named == set()


def test_the_version_is_the_same_everywhere(repository: Path, installed: Path) -> None:
    manifest = ElementTree.parse(repository / "package.xml").findtext("version")
    assert [folder.name for folder in installed.glob("stream_vlm-*.dist-info")] == [
        f"stream_vlm-{manifest}.dist-info"
    ]


def test_the_manifest_is_valid_for_ros(repository: Path) -> None:
    package = pytest.importorskip("catkin_pkg.package", reason="catkin_pkg checks package.xml")
    package.parse_package(str(repository)).validate()


def test_the_manifest_names_every_ros_package_that_the_node_imports(repository: Path) -> None:
    manifest = ElementTree.parse(repository / "package.xml").getroot()
    declared = {element.text for element in manifest if element.tag in ("depend", "exec_depend")}
    imports = re.compile(
        r"^\s*(?:from|import)"
        r" (\w+_msgs|rclpy|rcl_interfaces|cv_bridge|tf2_ros|launch|launch_ros)\b",
        re.MULTILINE,
    )
    files = [
        *(repository / "src" / "stream_vlm_ros").rglob("*.py"),
        *(repository / "launch").glob("*.py"),
    ]
    assert {name for file in files for name in imports.findall(file.read_text())} <= declared


# The words are built from halves so that this file does not name what it looks for.
PRIVATE_PATHS = re.compile(rb"(?<![\w.])/(?:home|root|Users|work|" + b"tmp/" + rb"scratch)/[\w.-]+")


def test_no_file_names_a_path_of_a_developers_machine(repository: Path) -> None:
    named = {}
    for name in tracked_files(repository):
        found = (
            PRIVATE_PATHS.findall((repository / name).read_bytes())
            if not name.endswith(".safetensors")
            else []
        )
        if found:
            named[name] = sorted(set(found))
    assert named == {}


def test_no_tracked_file_is_larger_than_the_model_may_be(repository: Path) -> None:
    limit = 25 * 2**20
    assert {
        name: size
        for name in tracked_files(repository)
        if (size := (repository / name).stat().st_size) > limit
    } == {}
