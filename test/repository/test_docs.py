"""Every file, module, command, option, setting, interface and link in the docs exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner
from places import REPOSITORY

from stream_vlm.backbone.checkpoint.stream_config import StreamConfig
from stream_vlm.cli import stream_vlm
from stream_vlm.config.settings import describe_settings

PAGES = sorted(
    [
        *REPOSITORY.glob("*.md"),
        *(REPOSITORY / "docs").rglob("*.md"),
        REPOSITORY / "src/stream_vlm/assets/stream-vlm-small/README.md",
    ]
)
FOLDERS = {entry.name for entry in REPOSITORY.iterdir() if entry.is_dir()} - {
    # Not in the repository: what is built, installed or made by tools.
    *("build", "install", "log", ".git"),
    *(".pytest_cache", ".mypy_cache", ".ruff_cache"),
}
SOURCE_SUFFIXES = (".py", ".msg", ".srv", ".action", ".toml", ".xml", ".rst", ".in")
"""A file with one of these suffixes is one of ours, wherever a page names it."""

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?:^    .*\n)+", re.MULTILINE)
ELSEWHERE = ("colcon", "pip", "venv")
"""Modules that are run with `-m` and come with the reader's machine."""
ENTRY_POINT_GROUPS = re.findall(
    r"^\[(.+)\]$", (REPOSITORY / "entry_points.txt").read_text(encoding="utf-8"), re.MULTILINE
)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def code_of(text: str) -> list[str]:
    """Every piece of code in `text`: spans in backticks, and blocks but for those in Python."""
    blocks = [body for language, body in FENCE.findall(text) if language != "python"]
    prose = FENCE.sub("", text)
    return [*blocks, *INDENTED.findall(prose), *INLINE.findall(prose)]


def commands_of(text: str) -> Iterator[list[str]]:
    """The words of every command line that begins with one of our programs."""
    for code in code_of(text):
        for line in code.replace("\\\n", " ").splitlines():
            try:
                words = shlex.split(line, comments=True)
            except ValueError:  # a sentence with an apostrophe, no command
                continue
            for index, word in enumerate(words):
                if word == "stream-vlm" or (word == "-m" and index + 1 < len(words)):
                    yield words[index:]


def missing_paths(text: str) -> list[str]:
    """Files and folders of this repository that are named in code but do not exist."""
    named = set()
    for code in code_of(text):
        # Not after a slash, a tilde or a dollar: that is a path on the reader's machine.
        named.update(re.findall(rf"(?<![\w/~$.-])(?:{'|'.join(FOLDERS)})/[\w./-]*\w/?", code))
    for span in INLINE.findall(FENCE.sub("", text)):
        if re.fullmatch(r"[\w./-]+", span) and span.endswith(SOURCE_SUFFIXES):
            # `replay.launch.py` is how ros2 launch names it.
            named.add(f"launch/{span}" if span.endswith(".launch.py") else span)
    return sorted(path for path in named if not exists(path))


def exists(path: str) -> bool:
    """Whether a path of ours exists: a bare file name anywhere, NAME as any file of the folder."""
    if "/" in path:
        file = REPOSITORY / path
        return (file.parent if "NAME" in file.name else file).exists()
    return (REPOSITORY / path).is_file() or any(
        found for folder in FOLDERS for found in (REPOSITORY / folder).rglob(path)
    )


def missing_modules(text: str) -> list[str]:
    """Modules that are run with `-m`, and dotted names of our packages, that do not exist."""
    run = {words[1] for words in commands_of(text) if words[0] == "-m"}
    named = {
        name
        for code in code_of(text)
        for name in re.findall(r"(?<![\w./])stream_vlm(?:_ros|_lab)?(?:\.\w+)+", code)
        if not name.endswith((".launch", ".launch.py"))
    }
    ours = named | {name for name in run if name.startswith("stream_vlm")}
    foreign = run - ours - set(ELSEWHERE)
    return sorted(
        [name for name in ours if name not in ENTRY_POINT_GROUPS and not is_defined(name)]
        + [name for name in foreign if find_spec(name) is None]
    )


def is_defined(dotted: str) -> bool:
    """Whether a dotted name of ours is a module, or something that a module defines."""
    file, rest = REPOSITORY / "src", dotted.split(".")
    while rest and (file / rest[0]).is_dir():
        file, rest = file / rest[0], rest[1:]
    if rest and (file / f"{rest[0]}.py").is_file():
        file, rest = file / f"{rest[0]}.py", rest[1:]
    if not rest:
        return file.is_file() or (file / "__init__.py").is_file()
    source = (file if file.is_file() else file / "__init__.py").read_text(encoding="utf-8")
    defined = r"^\s*(?:(?:def|class) {name}\b|{name}\s*[:=])"
    return all(re.search(defined.format(name=name), source, re.MULTILINE) for name in rest)


@cache
def sources() -> str:
    """Every Python file of our packages and every file of deploy, one after the other."""
    deployed = (REPOSITORY / "deploy").iterdir()
    files = sorted([*(REPOSITORY / "src").rglob("*.py"), *(one for one in deployed if one.suffix)])
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def missing_names(text: str) -> list[str]:
    """Constants, classes and their members, named in backticks, that do not exist in our code."""
    wrong = []
    for span in INLINE.findall(FENCE.sub("", text)):
        if (REPOSITORY / span).exists():
            continue
        if re.fullmatch(r"[A-Z][A-Z0-9]*_[A-Z0-9_]+", span) and span not in sources():
            wrong.append(span)
        found = re.fullmatch(r"([A-Z]\w*[a-z]\w*)(?:\.([a-z_]\w*))?(?:\(.*\))?", span)
        if found is None or ("." not in span and "(" not in span) or exists(span):
            continue
        name, member = found.groups()
        if f"class {name}" not in sources() or (
            member and not re.search(rf"^    (?:def )?{member}\b", sources(), re.MULTILINE)
        ):
            wrong.append(span)
    return wrong


@cache
def command_help(*path: str) -> tuple[click.Command | None, str]:
    """The command `stream-vlm PATH...` and its help; None when there is no such command."""
    command: click.Command | None = stream_vlm
    for name in path:
        context = click.Context(stream_vlm)
        command = command.get_command(context, name) if isinstance(command, click.Group) else None
        if command is None:
            return None, ""
    return command, CliRunner().invoke(stream_vlm, [*path, "--help"]).output


def missing_commands(text: str) -> list[str]:
    """Sub-commands and options of `stream-vlm` that do not exist."""
    wrong = []
    for words in commands_of(text):
        if words[0] != "stream-vlm" or words[1:2] == ["..."]:
            continue
        path: tuple[str, ...] = ()
        rest = words[1:]
        while rest and re.fullmatch(r"[a-z][a-z-]*", rest[0]):
            command, _ = command_help(*path)
            if not isinstance(command, click.Group):
                break
            path, rest = (*path, rest[0]), rest[1:]
        command, known = command_help(*path)
        if command is None:
            wrong.append("stream-vlm " + " ".join(path))
            continue
        if isinstance(command, click.Group) and rest and rest[0].isupper():
            # `stream-vlm memory COMMAND --memory FILE` is about every command of the group.
            known += "".join(command_help(*path, name)[1] for name in command.commands)
        options = [word.partition("=")[0] for word in rest if re.match(r"--[a-z]", word)]
        wrong += [
            f"stream-vlm {' '.join(path)} {option}"
            for option in options
            if not re.search(rf"(?<![\w-]){option}(?![\w-])", known)
        ]
    return wrong


SETTINGS = {info.name for info in describe_settings(["NAME"])}
GROUPS = {name.partition(".")[0] for name in SETTINGS if "." in name}
NO_SETTINGS = re.compile(r"(?:memory\.db|events\.jsonl|model\.safetensors)\b")
"""Names of files that look like names of settings."""


def missing_settings(text: str) -> list[str]:
    """Names of settings, alone or with a wildcard, that do not exist."""
    wrong = set()
    for code in code_of(text):
        for name in re.findall(rf"(?<![\w./~-])(?:{'|'.join(GROUPS)})\.[a-z*][\w.*]*", code):
            if NO_SETTINGS.match(name):
                continue
            known = re.sub(r"^camera\.\w+\.", "camera.NAME.", name).rstrip(".")
            pattern = re.escape(known).replace(r"\*", ".*")
            if not any(re.fullmatch(pattern, setting) for setting in SETTINGS):
                wrong.add(name)
    return sorted(wrong)


def missing_interfaces(text: str) -> list[str]:
    """Messages, services and actions that do not exist, and fields that they do not have."""
    wrong = []
    for code in code_of(text):
        for kind, name in re.findall(r"stream_vlm_ros/(msg|srv|action)/(\w+)", code):
            if not (REPOSITORY / kind / f"{name}.{kind}").is_file():
                wrong.append(f"stream_vlm_ros/{kind}/{name}")
        calls = re.findall(r'stream_vlm_ros/(srv|action)/(\w+) "(\{.*?\})"', code)
        for kind, name, request in calls:
            file = REPOSITORY / kind / f"{name}.{kind}"
            fields = re.findall(
                r"^[\w/\[\]]+ (\w+)$", file.read_text().partition("---")[0], re.MULTILINE
            )
            wrong += [
                f"{name}: {field}" for field in yaml.safe_load(request) if field not in fields
            ]
    return wrong


def missing_launch_arguments(text: str) -> list[str]:
    """Launch files that do not exist, and arguments that they do not have."""
    wrong = []
    for code in code_of(text):
        for name, rest in re.findall(r"\b(\w+\.launch\.py)(.*)", code):
            file = REPOSITORY / "launch" / name
            if not file.is_file():
                wrong.append(name)
                continue
            source = file.read_text(encoding="utf-8")
            wrong += [
                f"{name} {argument}:="
                for argument in re.findall(r"\b([a-z_]+):=", rest)
                if f'"{argument}"' not in source
            ]
    return wrong


def missing_executables(text: str) -> list[str]:
    """Executables of the ROS package that do not exist, and options of `camera_source`."""
    camera_source = (REPOSITORY / "src/stream_vlm_ros/camera_source/node.py").read_text("utf-8")
    wrong = []
    for code in code_of(text):
        for name, rest in re.findall(r"ros2 run stream_vlm_ros (\S+)(.*)", code):
            if not (REPOSITORY / "scripts" / name).is_file():
                wrong.append(name)
            if name == "camera_source":
                wrong += [
                    f"{name} {option}"
                    for option in re.findall(r"--[a-z][a-z-]*", rest)
                    if f'"{option}"' not in camera_source
                ]
    return wrong


def missing_targets(text: str) -> list[str]:
    """Targets of `make` that the Makefile does not have."""
    known = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    return [
        f"make {target}"
        for code in code_of(text)
        for target in re.findall(r"(?:^|[;&`] ?|\w=\S+ )make ([a-z-]+)", code, re.MULTILINE)
        if target not in known
    ]


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def broken_links(text: str, page: Path) -> list[str]:
    """Links within the repository whose file or heading does not exist."""
    wrong = []
    for target in LINK.findall(FENCE.sub("", text)):
        if re.match(r"[a-z]+:", target):  # a page of the web
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        linked = file.read_text("utf-8") if file.suffix == ".md" and file.is_file() else ""
        headings = re.findall(r"^#+ (.*)$", FENCE.sub("", linked), re.MULTILINE)
        if not file.exists() or (anchor and anchor not in map(slug, headings)):
            wrong.append(target)
    return wrong


CHECKS: dict[str, Callable[[str], list[str]]] = {
    "paths": missing_paths,
    "modules": missing_modules,
    "names": missing_names,
    "commands": missing_commands,
    "settings": missing_settings,
    "interfaces": missing_interfaces,
    "launch arguments": missing_launch_arguments,
    "executables": missing_executables,
    "make targets": missing_targets,
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
@pytest.mark.parametrize("what", CHECKS)
def test_what_a_page_names_exists(page: Path, what: str) -> None:
    assert CHECKS[what](page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    assert broken_links(page.read_text(encoding="utf-8"), page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_a_line_of_a_paragraph_is_one_sentence(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    # Lists, tables, headings and code may hold several sentences in a line.
    paragraphs = [line for line in text.splitlines() if re.match(r"[A-Z`*\"(~]", line)]
    assert [
        line
        for line in paragraphs
        if re.search(r"[.!?][)*\"]* +[A-Z`*(]", re.sub("`[^`]*`", "`x`", line))
    ] == []


def test_the_page_about_models_names_every_field_of_a_stream_configuration() -> None:
    page = (REPOSITORY / "docs" / "model.md").read_text(encoding="utf-8")
    table = page.partition("## `stream_config.json`")[2].partition("\n## ")[0]
    named = {
        name
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert named == set(StreamConfig.model_fields) - {"format_version"}


def test_the_tables_of_rooms_name_every_room() -> None:
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    sources = REPOSITORY / "src"
    rooms = {f"{file.parent.relative_to(REPOSITORY)}/" for file in sources.rglob("__init__.py")}
    rooms |= {
        str(file.relative_to(REPOSITORY))
        for file in sources.glob("*/*.py")
        if file.name != "__init__.py"
    }
    assert sorted(room for room in rooms if f"| `{room}` |" not in page) == []


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("paths", "see `src/stream_vlm/made_up.py`"),
        ("paths", "see `made_up.py`"),
        ("paths", "see `memory/made_up.py`"),
        ("paths", "all of `src/stream_vlm/made_up/`"),
        ("paths", "    python benchmark/made_up.py\n"),
        ("paths", "```\nros2 launch --params config/made_up.yaml\n```\n"),
        ("modules", "run `python -m stream_vlm.made_up`"),
        ("modules", "run `python -m made_up_module`"),
        ("modules", "see `stream_vlm.types.MadeUp`"),
        ("names", "`MADE_UP`"),
        ("names", "`Memory.made_up(3)`"),
        ("names", "`MadeUp.recall`"),
        ("commands", "`stream-vlm made-up`"),
        ("commands", "`stream-vlm memory made-up FILE`"),
        ("commands", "    stream-vlm run clip.mp4 --made-up 3\n"),
        ("commands", "`stream-vlm train CHECKPOINT --made-up`"),
        ("settings", "set `memory.made_up`"),
        ("settings", "`model.device.made_up`"),
        ("settings", "`camera.front.made_up`"),
        ("settings", "    stream-vlm run 0 --set decision.made_up=1\n"),
        ("settings", "`memory.made_*`"),
        ("interfaces", "`stream_vlm_ros/srv/MadeUp`"),
        ("interfaces", '    ros2 service call /x stream_vlm_ros/srv/Recall "{made_up: 3}"\n'),
        ("launch arguments", "`ros2 launch stream_vlm_ros made_up.launch.py`"),
        ("launch arguments", "`ros2 launch stream_vlm_ros replay.launch.py made_up:=1`"),
        ("executables", "`ros2 run stream_vlm_ros made_up`"),
        ("executables", "`ros2 run stream_vlm_ros camera_source clip.mp4 --made-up`"),
        ("make targets", "`make made-up`"),
    ],
)
def test_a_name_that_is_made_up_is_found(what: str, text: str) -> None:
    assert CHECKS[what](text)


@pytest.mark.parametrize("text", ["[x](made_up.md)", "[x](#made-up)", "[x](ros.md#made-up)"])
def test_a_link_that_leads_nowhere_is_found(text: str) -> None:
    assert broken_links(text, REPOSITORY / "docs" / "usage.md")
