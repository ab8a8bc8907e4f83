"""The pip package, the manifest of the ROS package, and the tracked files."""

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

from stream_vlm import extensions

PACKAGE_FILES = ("setup.py", "pyproject.toml", "entry_points.txt", "README.md", "LICENSE")


def run(command: Sequence[str | Path], **environment: str) -> str:
    """Run a command that must succeed and return its output; `environment` adds variables."""
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
    """Folder in which `pip install .` installed the library, without its requirements.

    The build that the other tests use is not changed.
    """
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in tracked_files(repository):
        if name.startswith("src/") or name in PACKAGE_FILES:
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
    """Files that belong in git: tracked ones, and new ones that are not ignored."""
    listed = run(
        ["git", "-C", repository, "ls-files", "--cached", "--others", "--exclude-standard"]
    ).splitlines()
    return [name for name in listed if (repository / name).is_file()]


def test_pip_installs_library_and_lab_and_not_the_ros_edge(installed: Path) -> None:
    assert (installed / "stream_vlm" / "types.py").is_file()
    assert (installed / "stream_vlm_lab" / "simulation" / "world.py").is_file()
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


def imported_roots(source: Path, *, at_import_time: bool) -> set[str]:
    """Top-level names of all third-party modules that the modules under `source` import.

    The demo is left out: it runs with ROS, which pip does not install.

    Args:
        source: folder of the modules.
        at_import_time: only imports at the top of a module, not inside functions.
    """
    roots: set[str] = set()
    for file in source.rglob("*.py"):
        if file.parent.name == "demo":
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in tree.body if at_import_time else ast.walk(tree):
            if isinstance(node, ast.Import):
                roots.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                roots.add(node.module.partition(".")[0])
    return roots - sys.stdlib_module_names - {"stream_vlm", "stream_vlm_lab"}


def distributions(roots: set[str]) -> set[str]:
    """Names of the pip packages that provide the modules `roots`."""
    providers = importlib.metadata.packages_distributions()
    return {
        re.sub(r"[-_.]+", "-", name).lower()
        for root in roots
        for name in providers.get(root, [root])
    }


def metadata(installed: Path) -> importlib.metadata.Distribution:
    """The metadata that pip wrote for the installed package."""
    return importlib.metadata.Distribution.at(next(installed.glob("stream_vlm-*.dist-info")))


def required(installed: Path, *extras: str) -> set[str]:
    """Names of the pip packages that are installed too, with `extras`."""
    names = set()
    for line in metadata(installed).requires or []:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"](\w+)['\"]", marker)
        if extra is None or extra[1] in extras:
            names.add(re.split(r"[<>=~! ]", requirement, maxsplit=1)[0].lower())
    return names


def test_pip_brings_every_library_that_the_library_imports(
    repository: Path, installed: Path
) -> None:
    source = repository / "src" / "stream_vlm"
    always = distributions(imported_roots(source, at_import_time=True))
    sometimes = distributions(imported_roots(source, at_import_time=False))
    assert always - required(installed) == set()
    assert (
        sometimes - required(installed, "large", "endpoint", "encryption", "video", "adapters")
        == set()
    )


def test_pip_brings_every_library_that_the_lab_imports_with_the_extra_lab(
    repository: Path, installed: Path
) -> None:
    imported = imported_roots(repository / "src" / "stream_vlm_lab", at_import_time=False)
    assert distributions(imported) - required(installed, "lab") == set()


def test_the_library_needs_nothing_that_only_the_lab_imports(installed: Path) -> None:
    assert (
        required(installed) & {"matplotlib", "accelerate", "peft", "tensorboard", "httpx"} == set()
    )


def test_the_library_names_no_module_of_the_lab(repository: Path) -> None:
    module = re.compile(r"\bstream_vlm_lab\.\w+")
    trespasses: set[str] = set()
    for file in (repository / "src" / "stream_vlm").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names = module.findall(node.value)
            else:
                continue
            trespasses.update(f"{file.name} names {name}" for name in names if is_of_the_lab(name))
    assert trespasses == set()


def is_of_the_lab(name: str) -> bool:
    return name.partition(".")[0] == "stream_vlm_lab"


@pytest.mark.parametrize(
    ("package", "places"),
    [
        ("stream_vlm", ["requirements/library.txt"]),
        ("stream_vlm_lab", ["requirements/library.txt", "requirements/lab.txt"]),
    ],
)
def test_every_library_that_is_imported_is_pinned_for_the_tests(
    repository: Path, package: str, places: list[str]
) -> None:
    text = "".join((repository / place).read_text().lower() for place in places)
    roots = imported_roots(repository / "src" / package, at_import_time=True)
    assert distributions(roots) - set(re.findall(r"^[a-z][a-z0-9-]+", text, re.MULTILINE)) == set()


def test_rosdep_and_the_list_for_robots_bring_every_library_that_is_imported(
    repository: Path,
) -> None:
    manifest = (repository / "package.xml").read_text()
    keys = set(re.findall(r"<exec_depend>python3-(\w+)</exec_depend>", manifest))
    other_names = {"opencv": "opencv-python-headless", "pil": "pillow"}
    from_rosdep = {other_names.get(key, key) for key in keys}
    text = (repository / "requirements/robot.txt").read_text().lower()
    from_pip = {"torch", *re.findall(r"^[a-z][a-z0-9-]+", text, re.MULTILINE)}
    for package in ("stream_vlm", "stream_vlm_lab"):
        roots = imported_roots(repository / "src" / package, at_import_time=True)
        assert distributions(roots) - from_rosdep - from_pip == set()


def test_the_installing_page_names_every_library_that_rosdep_cannot_give(
    repository: Path,
) -> None:
    from_rosdep = {"numpy", "opencv-python-headless", "tqdm"}
    named = set(
        re.findall(r"[a-z][a-z0-9-]+", (repository / "docs/install.md").read_text().lower())
    )
    roots = imported_roots(repository / "src" / "stream_vlm", at_import_time=True)
    assert distributions(roots) - from_rosdep - named == set()


def test_cmake_installs_the_same_entry_points_and_version_as_pip(installed: Path) -> None:
    by_pip, by_cmake = metadata(installed), importlib.metadata.distribution("stream-vlm")
    assert by_cmake.version == by_pip.version
    assert set(by_cmake.entry_points) == set(by_pip.entry_points) != set()


@pytest.mark.parametrize(
    ("group", "names"),
    [
        (extensions.COMMANDS, extensions.LAB_COMMANDS),
        (extensions.SOURCES, extensions.LAB_SOURCES),
    ],
)
def test_the_library_knows_what_the_lab_adds_by_name(group: str, names: tuple[str, ...]) -> None:
    added = extensions.added(group)
    assert tuple(added) == names
    assert all(callable(entry.load()) for entry in added.values())


def test_the_version_is_the_same_everywhere(repository: Path, installed: Path) -> None:
    manifest = ElementTree.parse(repository / "package.xml").findtext("version")
    assert [folder.name for folder in installed.glob("stream_vlm-*.dist-info")] == [
        f"stream_vlm-{manifest}.dist-info"
    ]


def test_the_manifest_is_valid_for_ros(repository: Path) -> None:
    package = pytest.importorskip("catkin_pkg.package", reason="catkin_pkg checks package.xml")
    package.parse_package(str(repository)).validate()


def test_the_manifest_names_every_ros_package_that_is_imported(repository: Path) -> None:
    manifest = ElementTree.parse(repository / "package.xml").getroot()
    declared = {element.text for element in manifest if element.tag in ("depend", "exec_depend")}
    imports = re.compile(
        r"^\s*(?:from|import)"
        r" (\w+_msgs|\w+_interfaces|rclpy|ament_index_python|cv_bridge|tf2_ros|launch\w*)\b",
        re.MULTILINE,
    )
    files = [
        *(repository / "src" / "stream_vlm_ros").rglob("*.py"),
        *(repository / "src" / "stream_vlm_lab").rglob("*.py"),
        *(repository / "launch").glob("*.py"),
    ]
    assert {name for file in files for name in imports.findall(file.read_text())} <= declared


# The pattern is split, so that this file does not match it.
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
