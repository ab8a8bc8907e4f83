"""Workflows, Dockerfiles, YAML, changelog, devcontainer: a linter reads what cannot run here."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from catkin_pkg.changelog import Changelog, populate_changelog_from_rst
from catkin_pkg.cli.tag_changelog import get_forthcoming_label, rename_section
from places import REPOSITORY

TOOLS = Path(sys.executable).parent
GITHUB = REPOSITORY / ".github"
WORKFLOWS = sorted(GITHUB.glob("workflows/*.yml"))
DOCKERFILES = sorted((REPOSITORY / "docker").glob("Dockerfile*"))
CHECKED_BY_SCHEMA = [
    *(("vendor.github-workflows", workflow) for workflow in WORKFLOWS),
    *(("custom.github-workflows-require-timeout", workflow) for workflow in WORKFLOWS),
    ("vendor.github-issue-forms", GITHUB / "ISSUE_TEMPLATE" / "bug_report.yml"),
    ("vendor.github-issue-forms", GITHUB / "ISSUE_TEMPLATE" / "feature_request.yml"),
    ("vendor.github-issue-config", GITHUB / "ISSUE_TEMPLATE" / "config.yml"),
]


def name(value: object) -> str | None:
    return value.name if isinstance(value, Path) else None


def findings(program: str, arguments: Sequence[str | Path]) -> str:
    """What a linter of the development requirements has to say; empty when it finds nothing."""
    command = [TOOLS / program, *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr + f"exit {done.returncode}"


def schema_findings(schema: str, file: Path) -> str:
    return findings("check-jsonschema", ["--builtin-schema", schema, file])


def test_there_is_something_to_check() -> None:
    assert WORKFLOWS
    assert DOCKERFILES


@pytest.mark.parametrize(("schema", "file"), CHECKED_BY_SCHEMA, ids=name)
def test_what_github_reads_follows_its_schema(schema: str, file: Path) -> None:
    assert schema_findings(schema, file) == ""


def test_a_workflow_with_an_unknown_key_is_found(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yml"
    broken.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "runs-at:", 1))
    assert "runs-at" in schema_findings("vendor.github-workflows", broken)


@pytest.mark.parametrize("file", DOCKERFILES, ids=name)
def test_hadolint_finds_nothing_in_a_dockerfile(file: Path) -> None:
    assert findings("hadolint", ["--failure-threshold", "style", file]) == ""


def test_a_dockerfile_with_a_relative_workdir_is_found(tmp_path: Path) -> None:
    broken = tmp_path / "Dockerfile"
    broken.write_text("FROM ros:jazzy\nWORKDIR workspace\n")
    assert "DL3000" in findings("hadolint", [broken])


@pytest.mark.parametrize("file", DOCKERFILES, ids=name)
def test_a_dockerfile_copies_what_is_there(file: Path) -> None:
    copied = re.findall(r"^COPY (?!--from)(\S+)", file.read_text(), re.MULTILINE)
    # The wheel is brought by whoever builds the image.
    assert [path for path in copied if "$" not in path and not (REPOSITORY / path).exists()] == []


def test_yamllint_finds_nothing() -> None:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.yml", "*.yaml"]
    done = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    files = [file for file in done.stdout.splitlines() if (REPOSITORY / file).is_file()]
    assert files
    assert findings("yamllint", ["--strict", *files]) == ""


def test_no_line_of_code_is_longer_than_a_hundred_characters() -> None:
    """Ruff counts no comment for a tool (`type: ignore`, `noqa`) and no word without a space."""
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    names = listed.stdout.split() or [
        str(path.relative_to(REPOSITORY))
        for folder in ("src", "test", "tools", "benchmark")
        for path in (REPOSITORY / folder).rglob("*.py")
    ]
    long = [
        f"{name}:{number}"
        for name in names
        if (REPOSITORY / name).is_file()
        for number, line in enumerate(
            (REPOSITORY / name).read_text(encoding="utf-8").split("\n"), 1
        )
        if len(line) > 100
    ]
    assert long == []


def test_pre_commit_accepts_its_configuration() -> None:
    assert findings("pre-commit", ["validate-config", ".pre-commit-config.yaml"]) == ""


def test_the_hooks_of_this_repository_run_from_its_build() -> None:
    configuration = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())
    (local,) = [part for part in configuration["repos"] if part["repo"] == "local"]
    assert {hook["entry"].split()[0] for hook in local["hooks"]} == {"build/jazzy/run"}


def test_the_devcontainer_is_built_of_a_stage_that_exists() -> None:
    file = REPOSITORY / ".devcontainer" / "devcontainer.json"
    build = json.loads(file.read_text())["build"]
    dockerfile = (file.parent / build["dockerfile"]).read_text()
    assert build["target"] in re.findall(r"^FROM \S+ AS (\S+)", dockerfile, re.MULTILINE)
    assert (file.parent / build["context"]).resolve() == REPOSITORY
    assert set(build["args"]) <= set(re.findall(r"^ARG (\w+)", dockerfile, re.MULTILINE))


def test_the_next_release_can_take_what_the_changelog_says_is_forthcoming() -> None:
    text = (REPOSITORY / "CHANGELOG.rst").read_text()
    released = rename_section(text, get_forthcoming_label(text), "0.2.0 (2026-12-31)")
    changelog = Changelog("stream_vlm_ros")
    populate_changelog_from_rst(changelog, released)
    assert "stream-vlm simulate" in str(changelog)


def test_the_workflow_runs_every_python_and_distribution_that_is_promised() -> None:
    jobs = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text())["jobs"]
    pythons = jobs["bare-machine"]["strategy"]["matrix"]["python"]
    assert pythons == ["3.10", "3.11", "3.12", "3.13"]
    assert {"humble", "jazzy", "kilted", "lyrical"} == set(
        jobs["robot"]["strategy"]["matrix"]["distribution"]
    )
